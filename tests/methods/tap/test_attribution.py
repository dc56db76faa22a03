"""Attribution: Grad-CAM as back-propagation gives it, and a verdict that is the mean of what the pixels say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from methods.tap.networks import movie_of, network, weights_of

from howdah.errors import ConfigError
from howdah.methods.tap import attribution
from howdah.methods.tap.attribution import attributions, enlarged, head_gradient
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.movies import Frames
from howdah.methods.tap.network import pooling
from howdah.methods.tap.predict import Embedder

Array = np.ndarray[Any, Any]
FORMS: list[dict[str, Any]] = [
    {},
    {"frames": 3, "channels": 2},
    {"head": "plain"},
    {"pools": pooling(3, (5.0, 1.0, 1.0))},
]


def settings(**more: Any) -> TapConfig:
    return TapConfig.of({"precision": "float32", "percentiles": (0.0, 100.0), **more})


def images_of(form: dict[str, Any], *, n: int = 4, size: int = 30) -> np.ndarray[Any, Any]:
    depth = 3 if "pools" in form else 1
    return np.random.default_rng(2).random((n, form.get("channels", 1), depth, size, size + 5), dtype=np.float32)


def by_autograd(made: Any, frames: Frames, times: list[int], *, published: bool = False) -> tuple[Array, Array, Array]:
    """Gradient sums (T, F), Grad-CAM, and logits, through the network as it is."""
    x = torch.from_numpy(np.stack([frames.frame(t) for t in times]))
    volume = len(made.form["pools"][0]) == 3
    with torch.no_grad():
        z = made.dense(x if volume else x[:, :, 0])
    z.requires_grad_()
    logits = made.classification_head(z[None])[0]
    (gradient,) = torch.autograd.grad(logits[0] if published else logits[0] - logits[1:].mean(), z)
    alpha = gradient.flatten(2).sum(2)
    cam = torch.einsum("tf,tf...->...", alpha[: 1 if published else None], z.detach()[: 1 if published else None]).abs()
    return alpha.numpy(), cam.reshape(frames.shape).numpy(), logits.detach().numpy()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "room"), [("gradcam", True), ("gradcam", False), ("published", True)])
def test_gradcam_is_that_of_back_propagation(
    form: dict[str, Any], kind: str, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "AT_ONCE", 500)
    if not room:
        monkeypatch.setattr(attribution, "BYTES", 1e12)
    made = network(**form)
    frames = Frames(movie_of(images_of(form)), settings())
    embedder = Embedder(weights_of(made), settings(attribution=kind))
    times = list(range(made.form["frames"]))
    alpha, cam, logits = by_autograd(made, frames, times, published=kind == "published")
    (found,) = attributions(embedder, frames, [0])
    assert found.time == 0
    np.testing.assert_allclose(found.map, cam, atol=1e-4 * cam.max())
    assert found.score == pytest.approx(float(logits[0] - logits[1:].mean()), abs=1e-5)
    gradient = head_gradient(
        embedder, *(embedder.features(frames.frame(t)) for t in times), published=kind == "published"
    )
    np.testing.assert_allclose(gradient, alpha, atol=1e-4 * np.abs(alpha).max())


@pytest.mark.parametrize("form", FORMS)
def test_the_verdict_is_the_mean_of_the_evidence(form: dict[str, Any]) -> None:
    made = network(**form)
    frames = Frames(movie_of(images_of(form)), settings())
    embedder = Embedder(weights_of(made), settings(attribution="evidence"))
    for found in attributions(embedder, frames):
        logits = by_autograd(made, frames, [found.time + n for n in range(made.form["frames"])])[2]
        assert float(found.map.mean()) == pytest.approx(float(logits[0] - logits[1:].mean()), abs=1e-5)
        assert found.score == pytest.approx(float(found.map.mean()), abs=1e-5)


def test_exchanged_frames_turn_the_evidence() -> None:
    made = network()
    images = images_of({}, n=2)
    found = [
        next(
            attributions(
                Embedder(weights_of(made), settings(attribution="evidence")), Frames(movie_of(one), settings())
            )
        )
        for one in (images, images[::-1])
    ]
    np.testing.assert_allclose(found[0].map, -found[1].map, atol=1e-5)


def test_each_frame_is_described_once_and_missing_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Frames(movie_of(images_of({}, n=8), missing=frozenset({4})), settings())
    embedder = Embedder(weights_of(network()), settings())
    described = []
    original = embedder.features
    monkeypatch.setattr(embedder, "features", lambda frame: described.append(1) or original(frame))
    assert [one.time for one in attributions(embedder, frames)] == [0, 1, 2, 5, 6]
    assert len(described) == 7
    assert [one.time for one in attributions(embedder, frames, [0, 2, 6], delta=2)] == [0]  # 2 needs 4, 6 needs 8
    with pytest.raises(ConfigError, match="at least 1 frame"):
        next(attributions(embedder, frames, delta=0))
    with pytest.raises(ConfigError, match="trained with 2 frames a sample, and 1 were given"):
        head_gradient(embedder, original(frames.frame(0)))


def test_maps_of_several_distances_are_averaged() -> None:
    frames = Frames(movie_of(images_of({}, n=4)), settings())
    weights = weights_of(network(), delta=(1, 3))
    one, three = (next(attributions(Embedder(weights, settings()), frames, delta=d)).map for d in (1, 3))
    found = list(attributions(Embedder(weights, settings()), frames))
    assert [a.time for a in found] == [0, 1, 2]
    np.testing.assert_allclose(found[0].map, (one + three) / 2, rtol=1e-5)


def test_shrunk_maps_on_the_grid_of_the_image() -> None:
    small = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_array_equal(enlarged(small, (1, 3, 5), 2)[0], [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]])
    np.testing.assert_array_equal(enlarged(small, (1, 2, 3), 1), small)
