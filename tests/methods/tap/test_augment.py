"""Random changes of batches of crops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.methods.tap import TapConfig
from howdah.methods.tap.augment import Changes, augmented, margin, shuffled

OFF = {
    "flip": False, "rotate": False, "scale_range": 1, "frame_scale_range": 1, "shift": 0, "elastic": 0, "noise": 0,
    "intensity_scale": 1, "intensity_shift": 0, "frame_intensity_scale": 1, "frame_intensity_shift": 0,
}  # fmt: skip
COLOURS = {key: OFF[key] for key in OFF if "intensity" in key or key == "noise"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rng(seed=0):
    return np.random.default_rng(seed)


def batch(config, size, *, count=6, frames=2, channels=1, seed=0):
    more = margin(config, size)
    shape = [n + 2 * m for n, m in zip(size, more, strict=True)]
    return torch.rand((count, frames, channels, *shape), generator=generator(seed)) + 1


def middle(x, size):
    at = [slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(x.shape[3:], size, strict=True)]
    return x[(..., *at)]


@pytest.mark.parametrize("size", [(16, 16), (5, 16, 16)])
def test_without_augmentation_the_middle_is_left_exactly(size):
    config = TapConfig(augment=0)
    assert margin(config, size) == (0,) * len(size)
    x = torch.rand(3, 2, 2, *(n + 6 for n in size))
    assert torch.equal(augmented(x, config, size=size, rng=rng()), middle(x, size))


@pytest.mark.parametrize("size", [(16, 16), (4, 16, 16)])
def test_mirrored_samples_are_exact(size):
    config = TapConfig(augment=0.5, **{**OFF, "flip": True})
    x = batch(config, size, count=64)
    found = augmented(x, config, size=size, rng=rng())
    axes = range(3, x.ndim)
    seen = set()
    for one, source in zip(found, middle(x, size), strict=True):
        fits = [
            mask for mask in range(2 ** len(axes))
            if torch.equal(one, source.flip([a - 1 for k, a in enumerate(axes) if mask >> k & 1]))
        ]  # fmt: skip
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 2 ** len(size)


def test_flips_come_half_of_the_time():
    changes = Changes(4000, 2, TapConfig(), size=(16, 16), rng=rng())
    assert np.allclose(changes._flips.mean(0), 0.5, atol=0.04)
    assert 1 / 32 - 0.01 < (~changes._moved).mean() < 1 / 32 + 0.01


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(16, 16), (24, 16), (6, 16, 16)]), st.floats(1, 3), st.floats(0, 8))
def test_no_pixel_is_invented(seed, size, scale, elastic):
    config = TapConfig(augment=0.8, **COLOURS).but(scale_range=scale, elastic=elastic)
    x = batch(config, size, count=4)
    x[(..., *[0] * len(size))] = -1000  # the corner of the crop: nobody looks there
    found = augmented(x, config, size=size, rng=rng(seed))
    assert found.min() >= 1 - 1e-4
    assert found.max() <= 2 + 1e-4


def test_a_crop_without_margin_is_mirrored_rather_than_black():
    config = TapConfig(augment=1, **COLOURS)
    found = augmented(torch.rand(8, 2, 1, 16, 16) + 1, config, size=(16, 16), rng=rng())
    assert found.min() >= 1 - 1e-4


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_coordinates_come_to_lie_where_the_drawn_change_says(seed, bend):
    """The image is its own coordinates, so what comes out says where each pixel looked."""
    size = (32, 32)
    config = TapConfig(augment=0.7, **COLOURS).but(elastic=5.0 if bend else 0.0)
    more = margin(config, size)
    edge = size[0] + 2 * more[0]
    at = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
    grid = torch.stack(torch.meshgrid(at, at, indexing="ij"))
    found = augmented(grid.expand(5, 2, 2, edge, edge), config, size=size, rng=rng(seed))
    drawn = Changes(5, 2, config, size=size, rng=rng(seed))
    out = torch.arange(32, dtype=torch.float32) - 15.5
    offsets = torch.stack(torch.meshgrid(out, out, indexing="ij"), -1).view(-1, 2)
    turn, frame_scale = torch.from_numpy(drawn._turn), torch.from_numpy(drawn._frame_scale)
    each = (offsets @ turn.transpose(1, 2))[:, None] / frame_scale[..., None, None]
    away = found.flatten(3).transpose(2, 3) - each
    spread = (away.amax(2) - away.amin(2)).max()
    most = config.shift * 32 + config.elastic * config.frame_scale_range
    assert away.abs().max() <= most + 1e-3
    assert bend or spread < 2e-3  # a shift is the same everywhere


def test_frames_share_turn_and_bend_but_not_shift():
    config = TapConfig(augment=1, **{**OFF, "rotate": True, "elastic": 4.0})
    x = batch(config, (16, 16))[:, :1].expand(-1, 3, -1, -1, -1)
    found = augmented(x, config, size=(16, 16), rng=rng())
    assert torch.equal(found[:, 0], found[:, 2])
    assert not torch.equal(found[:, 0], middle(x, (16, 16))[:, 0])
    config = config.but(shift=0.2)
    x = batch(config, (16, 16))[:, :1].expand(-1, 3, -1, -1, -1)
    found = augmented(x, config, size=(16, 16), rng=rng())
    assert not torch.allclose(found[:, 0], found[:, 2], atol=0.05)


def test_noise_is_normal_and_drawn_anew_for_each_frame():
    config = TapConfig(augment=1, **{**OFF, "noise": 0.5})
    found = augmented(torch.zeros(40, 2, 1, 32, 32), config, size=(32, 32), rng=rng())
    scaled = (found / found.std((1, 2, 3, 4), keepdim=True)).flatten()
    assert abs(scaled.mean()) < 0.01
    assert abs((scaled**4).mean() - 3) < 0.1
    assert found.std((1, 2, 3, 4)).min() > 0
    assert found.std((1, 2, 3, 4)).max() < 0.52
    one, two = found[:, 0].flatten(), found[:, 1].flatten()
    assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1]) < 0.02


def test_intensities_change_together_and_each_for_itself():
    config = TapConfig(augment=1, **{**OFF, "intensity_scale": 1.25, "intensity_shift": 0.1})
    x = torch.rand(50, 3, 1, 16, 16)
    found = augmented(x, config, size=(16, 16), rng=rng())
    gain = (found[:, :, 0, 0, 0] - found[:, :, 0, 5, 5]) / (x[:, :, 0, 0, 0] - x[:, :, 0, 5, 5])
    assert torch.allclose(gain, gain[:, :1].expand_as(gain), atol=1e-2)
    assert gain.min() > 0.79
    assert gain.max() < 1.26
    assert gain.std() > 0.05
    found = augmented(x, config.but(frame_intensity_shift=0.05), size=(16, 16), rng=rng())
    assert (found - gain.view(50, 3, 1, 1, 1) * x).flatten(2).mean(2).std(1).min() > 0


@pytest.mark.parametrize("size", [(16, 16), (4, 16, 16)])
def test_the_same_draw_gives_the_same_and_another_another(size):
    config = TapConfig()
    x = batch(config, size, frames=3, channels=2)
    first, again, other = (augmented(x, config, size=size, rng=rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (6, 3, 2, *size)
    assert first.isfinite().all()


@pytest.mark.parametrize("size", [(24, 16), (4, 16, 16)])
def test_all_at_once_as_on_a_gpu_is_the_same_as_one_by_one_but_for_the_noise(size):
    config = TapConfig(noise=0)
    x = batch(config, size, count=20, frames=3, channels=2)
    one_by_one = augmented(x, config, size=size, rng=rng(3))
    together = Changes(20, 3, config, size=size, rng=rng(3)).all_of(x)
    np.testing.assert_allclose(together, one_by_one, rtol=0, atol=1e-4)
    noisy = Changes(20, 3, config.but(noise=0.1), size=size, rng=rng(3)).all_of(x)
    assert 0 < (noisy - together).std() < 0.1


def test_no_numbers_are_drawn_for_two_purposes():
    changes = Changes(2, 3, TapConfig(), size=(16, 16), rng=rng())
    assert changes._used == changes._pool.shape[1]


def test_noise_of_large_crops_is_not_from_the_table():
    config = TapConfig(augment=1, **{**OFF, "noise": 0.5})
    found = augmented(torch.zeros(1, 2, 1, 272, 272), config, size=(272, 272), rng=rng())
    assert abs(torch.corrcoef(found.flatten(1).view(2, -1))[0, 1]) < 0.02


@pytest.mark.parametrize("frames", [2, 3, 4])
def test_shuffled_frames_are_rolled_by_the_answer(frames):
    x = torch.rand(90, frames, 1, 4, 4)
    found, y = shuffled(x, rng().integers(frames, size=90))
    for one, source, by in zip(found, x, y, strict=True):
        assert torch.equal(one, torch.roll(source, int(by), 0))
        assert torch.equal(one[by], source[0])
    counts = torch.bincount(y, minlength=frames)
    assert len(counts) == frames
    assert counts.min() > 90 / frames * 0.6
