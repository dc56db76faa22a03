import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import DataError
from howdah.methods.embedtrack import medoid
from howdah.methods.embedtrack.targets import medoids, targets_of

FLAT = (1.0, 1.0)


def sums(pixels, voxel):
    """The sum of distances of each pixel to all others, by the definition."""
    world = pixels * np.array(voxel)
    return np.sqrt(((world[:, None] - world[None]) ** 2).sum(-1)).sum(1)


def blobs(shape, n, seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.int32)
    for value in rng.choice(np.arange(1, 50 * n), n, replace=False):
        corner = [rng.integers(0, size) for size in shape]
        box = tuple(slice(c, c + rng.integers(1, 12)) for c in corner)
        labels[box] = np.where(rng.random(labels[box].shape) < 0.8, value, labels[box])
    return labels


@settings(max_examples=25, deadline=None)
@given(shape=st.sampled_from([(30, 40), (9, 20, 17)]), seed=st.integers(0, 10_000), z=st.sampled_from([1.0, 2.5, 7.0]))
def test_the_medoid_has_the_smallest_sum_of_distances(shape, seed, z):
    labels = blobs(shape, 6, seed)
    voxel = (z, 1.0, 1.0)[-len(shape) :]
    for value, centre in zip([v for v in np.unique(labels) if v], medoids(labels, voxel), strict=True):
        pixels = np.argwhere(labels == value)
        every = sums(pixels, voxel)
        first = np.flatnonzero(every <= every.min() * (1 + 1e-9))[0]
        assert centre.tolist() == pixels[first].tolist()


def test_the_medoid_of_a_ring_lies_on_it():
    y, x = np.indices((41, 41))
    ring = np.abs(np.hypot(y - 20, x - 20) - 15) < 2
    centre = medoids(ring.astype(int) * 7, FLAT)[0].astype(int)
    assert ring[tuple(centre)]


def test_no_cell_and_one_pixel():
    assert medoids(np.zeros((5, 5), int), FLAT).shape == (0, 2)
    one = np.zeros((5, 5), int)
    one[3, 4] = 9
    assert medoids(one, FLAT).tolist() == [[3, 4]]
    assert medoids(np.ones((3, 3), int), FLAT).tolist() == [[1, 1]]
    assert medoid.centroids(one).tolist() == [[3, 4]]


def test_a_large_cell_needs_no_table_of_distances():
    labels = np.ones((300, 400), dtype=np.int32)
    tracemalloc.start()
    centre = medoids(labels, FLAT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert centre.tolist() == [[149, 199]]  # of four equal ones the first
    assert peak < 100e6  # 120,000 pixels: the table of distances would have 115 GB


def crops():
    later, earlier = np.zeros((2, 12, 12), int), np.zeros((2, 12, 12), int)
    later[0, :3, :3], later[0, 6:9, 6:9], later[0, 0:3, 9:12] = 5, 8, 300
    earlier[0, 3:6, 3:6] = 2
    later[1, 4:7, 4:7] = 5
    return later, earlier


def rows(targets):
    return {(int(i), tuple(c.tolist())): n for n, (i, c) in enumerate(zip(targets.image, targets.centre, strict=True))}


def test_both_daughters_point_to_the_mothers_centre():
    later, earlier = crops()
    targets = targets_of(later, earlier, [[[5, 2], [8, 2]], []], voxel_size=FLAT)
    where = rows(targets)
    for daughter in ((0, (1, 1)), (0, (7, 7))):
        assert targets.earlier[where[daughter]].tolist() == [4, 4]
        assert targets.tracked[where[daughter]]
    assert not targets.tracked[where[2, (4, 4)]]  # a cell of the earlier frame
    assert targets.image.tolist() == sorted(targets.image.tolist())


def test_a_cell_without_predecessor_stays_where_it_is_or_has_no_target():
    later, earlier = crops()
    targets = targets_of(later, earlier, [[[5, 2]], []], voxel_size=FLAT)
    new = rows(targets)[0, (7, 7)]
    assert targets.tracked[new]
    assert targets.earlier[new].tolist() == [7, 7]
    targets = targets_of(later, earlier, [[[5, 2]], []], voxel_size=FLAT, complete=[False, True])
    where = rows(targets)
    assert not targets.tracked[new]
    assert targets.tracked[where[1, (5, 5)]]
    assert targets.tracked[where[0, (1, 1)]]


def test_a_predecessor_outside_of_the_crop_is_known_from_the_whole_frame():
    later, earlier = crops()
    centres = [[[5, 1, 1], [8, 7, 7], [300, 1, 15], [77, 0, 0]], [[5, 5, 5]]], [[[2, 4, 4], [9, -3, 20]], []]
    targets = targets_of(later, earlier, [[[5, 9], [8, 44]], []], voxel_size=FLAT, centres=centres)
    where = rows(targets)
    assert targets.earlier[where[0, (1, 1)]].tolist() == [-3, 20]
    assert not targets.tracked[where[0, (7, 7)]]  # its predecessor is nowhere
    assert targets.seen.tolist() == [row != where[0, (1, 15)] for row in range(len(targets))]
    assert not targets.tracked[where[0, (1, 15)]]


def test_every_pixel_of_a_cell_has_its_row():
    later, earlier = crops()
    targets = targets_of(later, earlier, [[], []], voxel_size=FLAT)
    objects = targets.objects.numpy()
    where = rows(targets)
    assert (objects[0] == where[0, (7, 7)]).tolist() == (later[0] == 8).tolist()
    assert (objects[2] == where[2, (4, 4)]).tolist() == (earlier[0] == 2).tolist()
    assert ((objects >= 0) == (np.concatenate([later, earlier]) > 0)).all()
    large = targets_of(later * 2**24, earlier, [[], []], voxel_size=FLAT)  # sparse, large labels
    assert (large.objects == targets.objects).all()


def test_labelled_pixels_are_known():
    later, earlier = crops()
    targets = targets_of(later, earlier, [[], []], voxel_size=FLAT, known=(np.zeros(later.shape, bool), None))
    assert (targets.known[:2].numpy() == (later > 0)).all()
    assert targets.known[2:].all()
    assert len(targets.to("cpu")) == len(targets) == 5
    assert targets.n_pairs == 2


def test_centroids_where_asked_for():
    later = np.zeros((1, 4, 8), int)
    later[0, 0, :4] = 1
    targets = targets_of(later, later, [[[1, 1]]], voxel_size=FLAT, kind="centroid")
    assert targets.centre.tolist() == [[0, 1.5], [0, 1.5]]


def test_what_does_not_fit_is_said():
    later, earlier = crops()
    with pytest.raises(DataError, match=r"of the same shape"):
        targets_of(later, earlier[:, :5], [[], []], voxel_size=FLAT)
    with pytest.raises(DataError, match=r"as many voxel sizes, but 3 came"):
        targets_of(later, earlier, [[], []], voxel_size=(1, 1, 1))
    with pytest.raises(DataError, match=r"as many tables of centres"):
        targets_of(later, earlier, [[], []], voxel_size=FLAT, centres=([[]], []))
    with pytest.raises(DataError, match=r"Label 8 of image 0 of the batch has no centre"):
        targets_of(later, earlier, [[], []], voxel_size=FLAT, centres=([[[5, 1, 1]], []], [[], []]))
    with pytest.raises(DataError, match=r"as many voxel sizes, but 1 came"):
        medoids(later[0], (1.0,))
