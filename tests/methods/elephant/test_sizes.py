import numpy as np
import pytest

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.ellipsoids import equivalent_radius
from howdah.methods import Spots
from howdah.methods.elephant.box import in_box
from howdah.methods.elephant.sizes import MOST_VOXELS, learned_size

AFFINE = np.diag([2.0, 1, 1, 1])


class Finds:
    """A detector that finds balls of a radius at some places, in the box that it is asked for."""

    def __init__(self, centre, radius):
        self.centre, self.radius, self.boxes = np.asarray(centre, float), radius, []

    def predict_spots(self, frame, affine, *, box=None):
        self.boxes.append(box)
        here = self.centre[in_box(self.centre, box)]
        return Spots(here, np.tile(np.eye(3) * self.radius**2, (len(here), 1, 1)), np.ones(len(here)))


def marks(n, times=(0,), radius=4.0):
    t = np.repeat(times, n)
    centre = np.stack([np.full(len(t), 8.0), np.tile(np.arange(n) * 12.0, len(times)), np.full(len(t), 20.0)], axis=1)
    return Tracks.build(t, centre, radius=radius)


def learned(detector, spots, shape=(8, 200, 40)):
    return learned_size(detector, lambda t: np.zeros(shape, np.uint8), spots, lambda t: AFFINE)


@pytest.mark.parametrize(("found", "factor"), [(4.0, 1.0), (5.0, 0.8), (3.2, 1.25), (99.0, 0.7), (0.1, 1.4)])
def test_the_factor_brings_found_sizes_to_those_of_the_marks(found, factor):
    assert learned(Finds(marks(8).centre + 1, found), marks(8)) == pytest.approx(factor)


def test_too_few_found_again_say_nothing():
    assert learned(Finds(marks(4).centre, 5.0), marks(8)) is None
    assert learned(Finds(marks(8).centre + 5, 5.0), marks(8)) is None
    assert learned(Finds(np.zeros((0, 3)), 5.0), marks(8)) is None


def test_rejected_places_have_no_size():
    spots = marks(8).with_tag("Detection", Tag("fp", 0), spots=np.arange(4))
    assert learned(Finds(marks(8).centre, 5.0), spots) is None


def test_the_frames_with_most_marks_are_looked_at_and_of_large_ones_a_part():
    spots = marks(6, times=(0, 1, 2, 3, 4))
    detector = Finds(marks(6).centre, 5.0)
    assert learned(detector, spots) == pytest.approx(0.8)
    assert len(detector.boxes) == 3
    far = Tracks.build(np.zeros(16, int), np.random.default_rng(0).uniform(0, 900, (16, 3)), radius=4.0)
    detector = Finds(far.centre, 4.0)
    assert learned(detector, far) in (None, 1.0)
    low, high = detector.boxes[0]
    assert np.prod(high - low) / 2 <= MOST_VOXELS


def test_in_one_slice_discs_are_compared():
    flat = Tracks.build(
        np.zeros(6, int), marks(6).centre * (0, 1, 1), covariance=np.tile(np.diag([0.01, 16, 16]), (6, 1, 1))
    )
    assert learned(Finds(flat.centre, 5.0), flat, shape=(1, 200, 40)) == pytest.approx(0.8)
    assert equivalent_radius(flat.covariance)[0] < 2
