"""Numbers of spots against plain loops, in whole frames and in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from methods.tap import flashes

from howdah.methods.tap.arrow import Arrow
from howdah.methods.tap.network import Tap
from howdah.methods.tap.pooled import gathered, in_shrunk, spot_features
from howdah.methods.tap.predict import Embedder

SPHERE = np.diag([0.25, 16.0, 16.0])


def test_mean_and_maximum_of_a_disc_now_and_later() -> None:
    embedder, frames = Embedder(flashes.network(), flashes.CONFIG), flashes.frames()
    found, names = spot_features(embedder, frames, [2], [[0, 20, 22]], [SPHERE], scale=1.5)
    now, later = (embedder.features(frames.frame(t))[:, 0] for t in (2, 3))
    y, x = np.mgrid[:48, :48]
    wide = 16 * 2.25 + 0.25
    disc = (y - 20) ** 2 + (x - 22) ** 2 < wide
    expected = np.concatenate([part for z in (now, later) for part in (z[:, disc].mean(1), z[:, disc].max(1))])
    assert found[0, :-1] == pytest.approx(expected, abs=1e-5)
    assert names[:5] == ("mean 1", "mean 2", "mean 3", "mean 4", "maximum 1")
    assert names[-2:] == ("later maximum 4", "score")
    assert found.shape == (1, len(names))
    alone, short = spot_features(embedder, frames, [2], [[0, 20, 22]], [SPHERE], delta=None, scale=1.5)
    assert alone[0] == pytest.approx(found[0, : len(short)], abs=1e-6)


def test_the_score_is_the_verdict_on_two_frames_whatever_number_was_learned_with() -> None:
    torch.manual_seed(0)
    tap = Tap(width=2, features=4, frames=3).eval()
    z = torch.randn(1, 2, 4, 8, 8)
    with torch.no_grad():
        logits = tap.classification_head(z)[0]
    each, _ = Arrow(tap, frames=2).see(z[0].flatten(2).permute(2, 0, 1).reshape(64, 8))
    assert float(each.mean()) == pytest.approx(float(logits[0] - logits[1]), abs=1e-5)


def test_spots_that_cannot_be_described_are_no_numbers() -> None:
    embedder, frames = Embedder(flashes.network(), flashes.CONFIG), flashes.frames()
    centre = [[0, 20, 20], [0, 20, 60], [0, 20, 20], [0, np.nan, 20], [0, 0, 0]]
    found, _ = spot_features(embedder, frames, [0, 0, 12, 0, 0], centre, [SPHERE] * 5)
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True, True, False]
    assert spot_features(embedder, frames, [], np.empty((0, 3)), np.empty((0, 3, 3)))[0].shape == (0, 17)


def test_each_frame_is_asked_for_once_and_parts_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    movie = rng.normal(size=(6, 3, 2, 8, 8)).astype(np.float32)
    asked: list[int] = []

    def parts(time: int):
        asked.append(time)
        for first in (0, 5):
            region = (slice(0, 2), slice(0, 8), slice(first, 5 if first == 0 else 8))
            yield region, movie[time][(slice(None), *region)]

    wanted = {t: rng.integers(0, 128, 5) for t in (0, 1, 3)}
    found = dict(gathered(parts, (2, 8, 8), wanted, (0, 2)))
    assert asked == [0, 1, 2, 3, 5]
    for t, flat in wanted.items():
        expected = np.stack([movie[t].reshape(3, -1)[:, flat].T, movie[t + 2].reshape(3, -1)[:, flat].T], axis=1)
        assert found[t] == pytest.approx(expected)


def test_pixels_of_a_shrunk_image() -> None:
    centre, covariance = in_shrunk([[3, 0.5, 7.5]], [np.diag([1.0, 4, 16])], 2)
    assert centre[0] == pytest.approx([3, 0, 3.5])
    assert covariance[0] == pytest.approx(np.diag([1.0, 1, 4]))
