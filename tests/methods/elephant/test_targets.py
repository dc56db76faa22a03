import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, Status, spot_status
from howdah.methods.elephant.targets import render_labels

SHAPE = (12, 40, 40)


def spheres(*centres, radius=6.0):
    return np.array(centres, dtype=float), np.tile(np.eye(3) * radius**2, (len(centres), 1, 1))


def render(centres, status, *, shape=SHAPE, radius=6.0, **options):
    return render_labels(*spheres(*centres, radius=radius), np.array(status, np.int8), shape, **options)


def distance(centre, shape=SHAPE):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.linalg.norm(grid - np.array(centre), axis=-1)


@pytest.mark.parametrize(("status", "offset"), [(Status.TP, 0), (Status.FN, 3)])
def test_a_nucleus_has_a_centre_and_a_periphery(status, offset):
    labels = render([(6, 20, 20)], [status])
    d = distance((6, 20, 20))
    np.testing.assert_array_equal(labels == 3 + offset, d < 2.4)
    np.testing.assert_array_equal(labels == 2 + offset, (d < 6) & (d >= 2.4))
    assert labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("status", "label"), [(Status.TN, 1), (Status.FP, 4), (Status.TB, 2), (Status.FB, 5), (Status.UNLABELLED, 0)]
)
def test_the_other_kinds_are_filled_with_one_label(status, label):
    labels = render([(6, 20, 20)], [status])
    np.testing.assert_array_equal(labels, np.where(distance((6, 20, 20)) < 6, label, 0))


def test_background_lies_under_everything():
    labels = render([(6, 20, 20)], [Status.FN], background=np.ones(SHAPE, bool))
    assert set(np.unique(labels)) == {1, 5, 6}
    assert (labels[distance((6, 20, 20)) < 6] > 4).all()


def test_a_rejected_spot_does_not_overwrite_a_nucleus():
    alone = render([(6, 20, 20)], [Status.TP])
    both = render([(6, 20, 20), (6, 24, 20)], [Status.TP, Status.FP])
    np.testing.assert_array_equal(both[alone > 0], alone[alone > 0])


def test_touching_centres_are_kept_apart():
    labels = render([(6, 20, 20), (6, 20, 24)], [Status.FN, Status.FN])
    assert labels[6, 20, 20] == labels[6, 20, 24] == 6
    assert labels[6, 20, 22] == 5


@pytest.mark.parametrize("kinds", [(Status.TP, Status.TP), (Status.TP, Status.FN)])
def test_a_voxel_equally_deep_in_two_nuclei_is_periphery_whoever_comes_first(kinds):
    first = render([(6, 20, 18), (6, 20, 22)], kinds, radius=10.0)
    second = render([(6, 20, 22), (6, 20, 18)], kinds[::-1], radius=10.0)
    np.testing.assert_array_equal(first, second)
    assert np.isin(first[6, 17:24, 20], (2, 5)).all()
    np.testing.assert_array_equal(first[:, :, 1:20] % 3, first[:, :, :20:-1] % 3)  # the mirror image


@pytest.mark.parametrize("kinds", [[Status.TP, Status.TP], [Status.TP, Status.FN], [Status.FN, Status.TP]])
def test_a_nucleus_marked_twice_counts_once(kinds):
    twice = render([(6, 20, 20), (6, 20, 20)], kinds)
    np.testing.assert_array_equal(twice, render([(6, 20, 20)], [max(kinds, key=lambda kind: kind.is_false)]))


def test_a_thin_nucleus_has_a_rim():
    covariance = np.diag([0.5, 9.0, 9.0])[None]
    labels = render_labels(np.array([[6.0, 20, 20]]), covariance, np.array([Status.FN], np.int8), SHAPE)
    assert labels[6, 20, 20] == 6
    assert labels[5, 20, 20] == labels[7, 20, 20] == 5


def test_a_tiny_nucleus_still_has_nine_voxels():
    labels = render([(6, 20, 20)], [Status.FN], radius=0.1)
    assert (labels == 6).sum() >= 9


def test_nuclei_outside_are_cut():
    assert not render([(-20, 20, 20)], [Status.FN]).any()
    assert render([(0, 0, 0)], [Status.FN])[0, 0, 0] == 6


def test_no_spots():
    labels = render_labels(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty(0, np.int8), SHAPE)
    assert not labels.any()


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_the_order_of_spots_does_not_matter(n, seed):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-2, 22, (n, 3))
    root = rng.normal(size=(n, 3, 3))
    covariance = root @ root.transpose(0, 2, 1) * 4 + np.eye(3)
    status = rng.integers(0, 7, n).astype(np.int8)
    order = rng.permutation(n)
    first = render_labels(centre, covariance, status, (20, 20, 20))
    second = render_labels(centre[order], covariance[order], status[order], (20, 20, 20))
    np.testing.assert_array_equal(first, second)


def marks(n=8):
    return Tracks.build(np.zeros(n), np.zeros((n, 3)), radius=1.0)


def test_without_the_tag_set_every_spot_is_a_persons_mark():
    assert (spot_status(marks()) == Status.FN).all()


def test_status_follows_names_not_positions():
    tracks = marks()
    for row, tag in enumerate(reversed(DETECTION_TAGS)):
        tracks = tracks.with_tag(DETECTION, tag, spots=[row])
    expected = [Status.UNLABELLED, Status.FB, Status.TB, Status.FN, Status.TN, Status.FP, Status.TP, Status.FN]
    assert spot_status(tracks).tolist() == expected


def test_a_foreign_tag_is_a_persons_mark():
    assert (spot_status(marks().with_tag(DETECTION, Tag("mine"), spots=[1])) == Status.FN).all()


def test_false_means_corrected():
    assert [status.name for status in Status if status.is_false] == ["FP", "FN", "FB"]
