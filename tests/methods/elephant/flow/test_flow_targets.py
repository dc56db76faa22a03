import numpy as np
import pytest

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.methods.elephant.flow.targets import render_flow, teaching_links

SHAPE = (9, 20, 24)
ROUND = np.eye(3)[None] * 9.0


def dense(labels, shape=SHAPE):
    volume = np.full((*shape, 3), np.nan)
    volume.reshape(-1, 3)[labels.voxel] = labels.displacement
    return volume


def test_labels_fill_the_later_ellipsoid_with_the_way_back():
    labels = render_flow(np.array([[4.0, 9, 11]]), ROUND, np.array([[1.0, -2, 3]]), SHAPE)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    inside = ((grid - [4, 9, 11]) ** 2).sum(-1) < 9
    np.testing.assert_array_equal(np.isfinite(dense(labels)[..., 0]), inside)
    assert (dense(labels)[inside] == [1, -2, 3]).all()


def test_a_small_spot_gets_nine_voxels():
    labels = render_flow(np.array([[4.0, 9, 11]]), np.eye(3)[None] * 0.01, np.zeros((1, 3)), SHAPE)
    assert len(labels.voxel) >= 9


def test_overlap_goes_to_the_deeper_whatever_the_order_and_a_tie_to_none():
    centre = np.array([[4.0, 9, 8], [4.0, 9, 12], [4.0, 11, 10]])
    covariance = np.repeat(ROUND, 3, axis=0)
    ways = np.arange(9.0).reshape(3, 3)
    volume = dense(render_flow(centre, covariance, ways, SHAPE))
    assert (volume[4, 9, 9] == ways[0]).all()
    assert (volume[4, 9, 11] == ways[1]).all()
    assert np.isnan(volume[4, 9, 10]).all()  # as far from the first as from the second
    assert np.isnan(volume[4, 8, 10]).all()
    for order in ([2, 0, 1], [1, 2, 0]):
        again = dense(render_flow(centre[order], covariance, ways[order], SHAPE))
        np.testing.assert_array_equal(again, volume)


def test_no_links_give_no_labels():
    labels = render_flow(np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)), SHAPE)
    assert labels.voxel.shape == (0,)
    assert labels.displacement.shape == (0, 3)


def five():
    links = [[0, 1], [1, 2], [0, 2], [3, 4], [1, 4]]
    return Tracks.build([0, 1, 2, 0, 1], np.zeros((5, 3)), radius=1.0, links=links)


def test_links_of_a_person_teach_and_those_of_a_machine_do_not(caplog):
    tracks = five().with_tag("Tracking", Tag("unlabeled"), links=[3])
    tracks = tracks.with_tag("Tracking", Tag("Approved"), links=[0])
    assert teaching_links(tracks).tolist() == [0, 1]
    assert "2 of 4 links are not learned from: they do not join neighbouring frames" in caplog.text


def test_links_of_rejected_spots_do_not_teach():
    tracks = five().with_tag("Detection", Tag("fp"), spots=[3])
    assert teaching_links(tracks).tolist() == [0, 1]


def test_two_ways_back_from_one_spot_teach_nothing(caplog):
    tracks = Tracks.build([0, 0, 1], np.zeros((3, 3)), radius=1.0, links=[[0, 2], [1, 2]])
    assert not len(teaching_links(tracks))
    assert "two links backwards" in caplog.text


@pytest.mark.parametrize("daughters", [2, 3])
def test_both_daughters_of_a_division_teach(daughters):
    links = [[0, i + 1] for i in range(daughters)]
    tracks = Tracks.build([0] + [1] * daughters, np.zeros((daughters + 1, 3)), radius=1.0, links=links)
    assert len(teaching_links(tracks)) == daughters
