"""Linking by votes: who is the parent, at most two children, ties, and where cells were for the linking package."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from methods.embedtrack.fakes import GRID, drawn, ellipses, fields_of

from howdah.errors import DataError
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.link import estimated_centres, movements, vote

CONFIG = EmbedTrackConfig()
PUBLISHED = EmbedTrackConfig(compat=("background_ignored",))


def pointing(labels, moves):
    """Fields whose pixels point by ``moves``: (D, *S) or (D,) pixels from where they are to where they were."""
    fields = fields_of(labels)
    unit = np.array(fields.unit).reshape(-1, *[1] * labels.ndim)
    back = np.asarray(moves, dtype=float)
    back = back.reshape(unit.shape) if back.ndim == 1 else back
    back = np.broadcast_to(back, fields.offset.shape)
    return replace(fields, tracking=(-back * unit).astype(np.float32))


def along_x(labels, x):
    """Each pixel points to the column that ``x`` tells for its label, in its own row."""
    to = np.array([0, *x])[labels] - np.arange(labels.shape[1])
    return pointing(labels, np.stack([np.zeros(labels.shape), np.where(labels > 0, to, 0)]))


def test_cells_follow_their_pixels():
    later, earlier = drawn("11..22 11..22"), drawn(".22.11 .22.11")
    votes = vote(later, earlier, along_x(later, [1, 5]), CONFIG)
    assert votes.parent.tolist() == [2, 1]
    assert votes.share.tolist() == [1, 1]


def test_two_children_divide_also_in_3d():
    later, earlier = drawn("1.2.3"), drawn("11..2")
    fields = along_x(later, [0, 1, 4])
    assert vote(later, earlier, fields, CONFIG).parent.tolist() == [1, 1, 2]
    deep = replace(
        fields,
        offset=np.zeros((3, 2, 1, 5), np.float32),
        seediness=np.zeros((2, 1, 5), np.float32),
        tracking=np.stack([np.zeros((2, 1, 5), np.float32), *(np.stack([t, t]) for t in fields.tracking)]),
        unit=(0.1, *fields.unit),
    )
    votes = vote(np.stack([later, later]), np.stack([earlier, earlier]), deep, CONFIG)
    assert votes.parent.tolist() == [1, 1, 2]


def test_background_has_a_vote():
    later, earlier = drawn("11111..2"), drawn("1......2")
    fields = pointing(later, np.zeros(2))
    votes = vote(later, earlier, fields, CONFIG)
    assert votes.parent.tolist() == [0, 2]
    assert votes.share.tolist() == [0, 1]
    votes = vote(later, earlier, fields, PUBLISHED)
    assert votes.parent.tolist() == [1, 2]
    assert votes.share.tolist() == [0.2, 1]


@pytest.mark.parametrize("moves", [(0, 9), (0, -9), (5, 0), (-5, 0)])
def test_outside_of_the_frame_is_background(moves):
    later = drawn("1111 1111")
    assert vote(later, later, pointing(later, moves), CONFIG).parent.tolist() == [0]
    assert vote(later, later, pointing(later, moves), PUBLISHED).parent.tolist() == [0]


def test_among_equals_a_cell_wins_over_background_and_the_smaller_label():
    later = drawn("11")
    assert vote(later, drawn("2."), pointing(later, np.zeros(2)), CONFIG).parent.tolist() == [2]
    assert vote(later, drawn("32"), pointing(later, np.zeros(2)), CONFIG).parent.tolist() == [2]


def test_of_three_children_the_best_stay():
    later, earlier = drawn("111122223333"), drawn("1111.......2")
    back = np.zeros((2, 1, 12))
    back[1, 0, 4:8] = -4  # all of 2 points to 1; 3 of 4 pixels of 3 do
    back[1, 0, 8:11] = -8
    fields = pointing(later, back)
    votes = vote(later, earlier, fields, CONFIG)
    assert votes.parent.tolist() == [1, 1, 0]
    assert votes.share.tolist() == [1, 1, 0]
    assert vote(later, earlier, fields, PUBLISHED).parent.tolist() == [0, 0, 0]


def test_of_three_children_the_second_needs_a_majority():
    later, earlier = drawn("111122223333"), drawn("11112.3.2.3.")
    back = np.zeros((2, 1, 12))
    back[1, 0, [5, 7]] = -5
    back[1, 0, [9, 11]] = -9
    assert vote(later, earlier, pointing(later, back), CONFIG).parent.tolist() == [1, 0, 0]


def test_equal_shares_of_three_children_go_by_size_then_label():
    later, earlier = drawn("122334"), drawn("111111")
    assert vote(later, earlier, pointing(later, np.zeros(2)), CONFIG).parent.tolist() == [0, 1, 1, 0]
    assert vote(drawn("123"), drawn("111"), pointing(drawn("123"), np.zeros(2)), CONFIG).parent.tolist() == [1, 1, 0]


def test_a_fragment_is_no_daughter():
    later, earlier = drawn("1222222222"), drawn("1111111111")
    fields = pointing(later, np.zeros(2))
    assert vote(later, earlier, fields, CONFIG).parent.tolist() == [0, 1]
    assert vote(later, earlier, fields, EmbedTrackConfig(min_daughter_ratio=0.1)).parent.tolist() == [1, 1]


def test_a_share_can_be_demanded():
    later, earlier = drawn("11111"), drawn("111..")
    fields = pointing(later, np.zeros(2))
    assert vote(later, earlier, fields, EmbedTrackConfig(min_vote_share=0.6)).parent.tolist() == [1]
    assert vote(later, earlier, fields, EmbedTrackConfig(min_vote_share=0.7)).parent.tolist() == [0]


def plainly(later, earlier, fields):
    """Parents by the most votes, one cell after the other."""
    parents = []
    for name in range(1, later.max() + 1):
        counts = {}
        for pixel in np.argwhere(later == name):
            back = [round(float(fields.tracking[(a, *pixel)]) / u) for a, u in enumerate(fields.unit)]
            place = tuple(int(p) - b for p, b in zip(pixel, back, strict=True))
            inside = all(0 <= p < n for p, n in zip(place, later.shape, strict=True))
            target = int(earlier[place]) if inside else 0
            counts[target] = counts.get(target, 0) + 1
        parents.append(max(counts, key=lambda target: (counts[target], target > 0, -target)) if counts else 0)
    return parents


@given(st.integers(0, 2**32 - 1), st.sampled_from([(20, 24), (6, 12, 11)]), st.sampled_from([0.0, 1.0, 5.0]))
@settings(deadline=None, max_examples=30)
def test_same_as_plain(seed, shape, spread):
    rng = np.random.default_rng(seed)
    later, earlier = ellipses(shape, 6, seed=seed), ellipses(shape, 6, seed=seed + 1)
    fields = pointing(later, rng.normal(0, spread, (len(shape), *shape)))
    votes, parents = vote(later, earlier, fields, CONFIG), np.array(plainly(later, earlier, fields), int)
    assert np.bincount(votes.parent, minlength=1)[1:].max(initial=0) <= 2
    linked = votes.parent > 0
    np.testing.assert_array_equal(votes.parent[linked], parents[linked])
    size = np.bincount(later.ravel(), minlength=len(parents) + 1)[1:]
    for row in np.flatnonzero(~linked & (parents > 0)):  # one of many, or a fragment beside a daughter
        siblings = np.flatnonzero(parents == parents[row])
        assert len(siblings) > 2 or size[row] < CONFIG.min_daughter_ratio * size[siblings].max()
    assert ((votes.share > 0) == linked).all()


def test_frames_without_cells():
    none, one = np.zeros((3, 4), np.int32), drawn("1111 1111 1111")
    assert vote(none, one, pointing(none, np.zeros(2)), CONFIG).parent.shape == (0,)
    assert vote(one, none, pointing(one, np.zeros(2)), CONFIG).parent.tolist() == [0]
    assert estimated_centres(none, pointing(none, np.zeros(2))).shape == (0, 2)


def test_estimated_centre_is_not_moved_by_stray_pixels():
    labels = drawn("11111.222")
    back = np.zeros((2, 1, 9))
    back[1, 0] = 3 - np.arange(9)
    back[1, 0, 4] = 200
    back[0, 0, 6:] = 7
    np.testing.assert_allclose(estimated_centres(labels, pointing(labels, back)), [[0, 3], [7, 3]], atol=1e-4)


def test_estimated_centre_of_a_label_without_pixels_is_unknown():
    labels = drawn("1.3")
    found = estimated_centres(labels, pointing(drawn("1.2"), np.zeros(2)))
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], [[0, 0], [0, 2]], atol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_estimated_centre_is_the_median(seed):
    rng = np.random.default_rng(seed)
    labels = ellipses((20, 20), 5, seed=seed)
    back = rng.normal(0, 50, (2, 20, 20))
    found = estimated_centres(labels, pointing(labels, back))
    places = np.indices(labels.shape) + back
    for name in range(1, labels.max() + 1):
        np.testing.assert_allclose(found[name - 1], np.median(places[:, labels == name], axis=1), atol=1e-3)


def test_a_movement_does_not_hang_on_which_point_is_the_centre():
    labels = drawn("11.222 1....2 11.222")  # of a bent cell the medoid is not the mean
    fields = fields_of(labels)
    to_corner = (np.array([[0, 0], [0, 0], [2, 5]])[labels].transpose(2, 0, 1) - np.indices(labels.shape)) / (GRID - 1)
    then = np.array([[0, 0], [1, -2], [0, 3]])[labels].transpose(2, 0, 1) / (GRID - 1)
    fields = replace(fields, offset=to_corner.astype(np.float32), tracking=-(to_corner + then).astype(np.float32))
    np.testing.assert_allclose(movements(labels, fields), [[1, -2], [0, 3]], atol=1e-3)


def test_what_does_not_fit():
    labels = drawn("11 11")
    with pytest.raises(DataError, match="there are no tracking offsets"):
        vote(labels, labels, fields_of(labels), CONFIG)
    fields = pointing(labels, np.zeros(2))
    with pytest.raises(DataError, match=r"labels have shape \(2, 2\), those one frame earlier \(2, 1\)"):
        vote(labels, labels[:, :1], fields, CONFIG)
    with pytest.raises(DataError, match=r"labels have shape \(1, 2\), the predictions \(2, 2\)"):
        estimated_centres(labels[:1], fields)
