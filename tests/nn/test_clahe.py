import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.nn.clahe import BINS, local_contrast


def straight(image, tiles, clip):
    """Pixel by pixel, in 2D, as the definition has it."""
    tiles = [min(k, n) for k, n in zip(tiles, image.shape, strict=True)]
    level = np.minimum((image * np.float32(BINS)).astype(int), BINS - 1)
    of = [np.arange(n) * k // n for n, k in zip(image.shape, tiles, strict=True)]
    maps = {}
    for a in range(tiles[0]):
        for b in range(tiles[1]):
            counts = np.bincount(level[np.ix_(of[0] == a, of[1] == b)].ravel(), minlength=BINS)
            total = counts.sum()
            cut = np.minimum(counts, max(clip * total / BINS, 1))
            cut = cut + (total - cut.sum()) / BINS
            maps[a, b] = (np.cumsum(cut) - cut / 2) / total
    found = np.zeros(image.shape)
    for y, x in np.ndindex(image.shape):
        places = [(p + 0.5) * k / n - 0.5 for p, k, n in zip((y, x), tiles, image.shape, strict=True)]
        for a, b in np.ndindex(*tiles):
            near = [min(max(p, 0), k - 1) for p, k in zip(places, tiles, strict=True)]
            weight = max(1 - abs(near[0] - a), 0) * max(1 - abs(near[1] - b), 0)
            found[y, x] += weight * maps[a, b][level[y, x]]
    return found


@given(shape=st.sampled_from([(8, 8), (13, 9), (3, 20), (1, 5)]), tiles=st.integers(1, 4), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_it_is_the_definition(shape, tiles, seed):
    image = np.random.default_rng(seed).random(shape, dtype=np.float32) ** 2
    assert local_contrast(image, (tiles, tiles), 3.0) == pytest.approx(straight(image, (tiles, tiles), 3.0), abs=1e-6)


def test_a_volume_of_one_plane_is_its_plane():
    image = np.random.default_rng(0).random((30, 40), dtype=np.float32)
    assert np.array_equal(local_contrast(image[np.newaxis], (4, 4, 4), 2.0)[0], local_contrast(image, (4, 4), 2.0))


def test_the_largest_value_is_brighter_than_the_smallest_in_every_tile():
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    assert np.all(np.diff(local_contrast(ramp, (1, 1), 10.0), axis=1) >= 0)
