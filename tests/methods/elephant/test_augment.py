import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from howdah.methods.elephant.augment import Augmentation, random_crop

SHAPE = (10, 40, 44)
STILL = Augmentation(flip=False)
EVERYTHING = Augmentation(scale=((0.95, 1.05), (0.7, 1.3), (0.7, 1.3)), rotation_degrees=180, contrast=0.5)


def scene():
    """Intensity tells the label: what is done to one must be done to the other."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:7, 10:25, 8:30] = 6
    return labels / np.float32(6), labels


def crop(size, around=None, how=STILL, seed=0, image=None):
    own, labels = scene()
    rng = np.random.default_rng(seed)
    around = None if around is None else np.array(around, float)
    return random_crop(own if image is None else image, labels, size, around=around, how=how, rng=rng)


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(1, 14), st.integers(1, 50), st.integers(1, 50)), st.integers(0, 10**6), st.booleans())
def test_crops_have_the_size_and_type_asked_for(size, seed, everything):
    image, labels = crop(size, how=EVERYTHING if everything else STILL, seed=seed)
    assert image.shape == labels.shape == size
    assert (image.dtype, labels.dtype) == (np.float32, np.uint8)
    assert set(np.unique(labels)) <= {0, 6}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_the_voxel_asked_for_is_in_the_crop(seed):
    _image, _labels = scene()
    at = np.random.default_rng(seed).integers(0, SHAPE)
    marked = np.zeros(SHAPE, np.float32)
    marked[tuple(at)] = 1
    assert crop((4, 8, 8), around=at, seed=seed, image=marked)[0].max() == 1


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(4, 8, 8), (4, 8, 40), (10, 16, 44), (1, 5, 30)]),
    st.tuples(*[st.floats(0, 1)] * 3),
)
@example(0, (4, 8, 40), (0.0, 0.0, 0.0))
@example(1, (4, 8, 40), (1.0, 1.0, 0.0))
def test_the_mark_is_in_the_crop_however_it_is_turned(seed, size, share):
    at = np.array(share) * (np.array(SHAPE) - 1)
    place = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).astype(np.float32)
    near = np.exp(-((place - at) ** 2).sum(-1) / 2).astype(np.float32)  # bright where the mark is
    how = Augmentation(scale=((0.95, 1.05), (0.7, 1.3), (0.7, 1.3)), rotation_degrees=180)
    assert crop(size, around=at, how=how, seed=seed, image=near)[0].max() > 0.5


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_image_and_labels_move_together(seed):
    how = Augmentation(scale=((0.95, 1.05), (0.7, 1.3), (0.7, 1.3)), rotation_degrees=180)
    image, labels = crop((8, 24, 24), around=(5, 17, 19), how=how, seed=seed)
    clear = (image < 0.01) | (image > 0.99)  # between them lies the interpolated edge
    inside = labels[clear & (image > 0.5)]
    assert (inside == 6).mean() > 0.99 if inside.size else True
    assert clear.mean() > 0.6


def test_without_augmentation_it_is_a_cut():
    _image, labels = scene()
    noise = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    cut, marks = random_crop(noise, labels, SHAPE, around=None, how=STILL, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(cut, noise)
    np.testing.assert_array_equal(marks, labels)


def test_outside_the_frame_edges_repeat_and_labels_are_unknown():
    ones, labels = np.ones(SHAPE, np.float32), np.full(SHAPE, 1, np.uint8)
    image, marks = random_crop(ones, labels, (14, 40, 44), around=None, how=STILL, rng=np.random.default_rng(0))
    assert (image == 1).all()
    assert not marks[:2].any()
    assert marks[2:12].all()


def test_flips_happen():
    noise = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    views = {crop(SHAPE, how=Augmentation(), seed=seed, image=noise)[0].tobytes() for seed in range(60)}
    assert len(views) == 8


def test_less_contrast_keeps_the_background():
    image, labels = scene()
    labels[labels == 0] = 1
    seen = random_crop(
        image, labels, SHAPE, around=None, how=Augmentation(False, contrast=0.5), rng=np.random.default_rng(0)
    )[0]
    assert seen[labels == 1] == pytest.approx(0)
    assert 0.5 <= seen[labels == 6].mean() < 1


def test_the_same_seed_gives_the_same_crop():
    first, second = (crop((8, 24, 24), how=EVERYTHING, seed=5)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_factor_of_two_makes_things_twice_as_large(factor):
    image, labels = np.zeros((1, 64, 64), np.float32), np.zeros((1, 64, 64), np.uint8)
    labels[0, 28:36, 28:36] = 6
    how = Augmentation(False, scale=((1, 1), (factor, factor), (factor, factor)))
    _image, seen = random_crop(
        image, labels, (1, 64, 64), around=np.array([0, 31.5, 31.5]), how=how, rng=np.random.default_rng(0)
    )
    assert (seen == 6).sum() == pytest.approx(64 * factor**2, rel=0.35)


def test_contrast_is_never_less_than_the_setting():
    image, labels = scene()
    labels[labels == 0] = 1
    how = Augmentation(False, contrast=0.6)
    left = []
    for seed in range(40):
        seen = random_crop(image, labels, SHAPE, around=None, how=how, rng=np.random.default_rng(seed))[0]
        left.append(float(seen[labels == 6].mean() / image[labels == 6].mean()))
    assert 0.6 <= min(left) < 0.7
    assert 0.9 < max(left) <= 1
