"""Clustering: exactly what the plain implementation gives, small drawn cases, faults of the published code, odd input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from methods.embedtrack import plain
from methods.embedtrack.fakes import drawn, ellipses, fields_of

from howdah.errors import DataError
from howdah.methods.embedtrack import gather
from howdah.methods.embedtrack.cluster import filled, find_cells
from howdah.methods.embedtrack.config import EmbedTrackConfig

PUBLISHED = ("smooth_multipliers", "rejected_proposals")
PLAIN = EmbedTrackConfig(fill_holes=False)


def both(fields, config, min_size):
    """Labels of the package, after comparing them, and the centres, with those of the plain implementation."""
    config = config.model_copy(update={"fill_holes": False})
    cells = find_cells(fields, config, min_size=min_size)
    labels, seeds = plain.find_cells(fields, config, min_size=min_size)
    np.testing.assert_array_equal(cells.labels, labels)
    at = plain.estimated(fields).reshape(len(fields.shape), -1)[:, seeds].T / np.array(fields.unit)
    np.testing.assert_allclose(cells.centre, at.reshape(len(seeds), len(fields.shape)), rtol=1e-6)
    assert ((cells.quality > 0) & (cells.quality <= 1)).all()
    assert len(cells) == labels.max()
    return cells


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(26, 31), (40, 17), (7, 12, 11), (1, 20, 20), (3, 18, 18)]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0]),
    st.sampled_from([1.0, 2.5, 6.0, 40.0]),
    st.sampled_from([(), PUBLISHED, *[(fault,) for fault in PUBLISHED]]),
    st.sampled_from([0, 4, 20]),
    st.integers(0, 30),
)
@settings(deadline=None, max_examples=40)
def test_same_as_plain(seed, shape, noise, radius, compat, levels, min_size):
    rng = np.random.default_rng(seed)
    labels = ellipses(shape, 8, seed=seed)
    voxel_size = (float(rng.choice([1, 2.5])), *[1.0] * (len(shape) - 1))
    fields = fields_of(labels, radius=radius, noise=noise, seed=seed, voxel_size=voxel_size, levels=levels)
    config = EmbedTrackConfig(
        compat=compat,
        min_votes=int(rng.choice([1, 3, 6, 12])),
        seed_threshold=float(rng.choice([0.0, 0.1, 0.5])),
        foreground_threshold=float(rng.choice([0.3, 0.5])),
        affinity_threshold=float(rng.choice([0.2, 0.5, 0.8])),
        max_overlap=float(rng.choice([0.0, 0.2, 0.5, 1.0])),
    )
    both(fields, config, min_size)


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("compat", [(), PUBLISHED])
@pytest.mark.parametrize("shape", [(150, 140), (12, 36, 44)], ids=["2D", "3D"])
def test_same_as_plain_where_many_cells_touch(shape, compat, noise):
    labels = ellipses(shape, 60, radius=(3, 9), seed=7)
    fields = fields_of(labels, radius=4.0, noise=noise, seed=3, levels=50)
    cells = both(fields, EmbedTrackConfig(compat=compat), 20)
    assert len(cells) > 15


def test_windows_of_any_size_give_the_same(monkeypatch):
    fields = fields_of(ellipses((60, 60), 20, seed=2), noise=2.0, seed=2)
    once = find_cells(fields, PLAIN, min_size=5)
    for size in (1, 3, 50):
        monkeypatch.setattr(gather, "LEAST_WINDOW", size)
        monkeypatch.setattr(gather, "MOST_WINDOW", size)
        monkeypatch.setattr(gather, "FIRST_WINDOW", size)
        np.testing.assert_array_equal(find_cells(fields, PLAIN, min_size=5).labels, once.labels)


def test_perfect_predictions_give_the_true_cells():
    truth = ellipses((120, 90), 30, seed=5)
    fields = replace(fields_of(truth), seediness=np.where(truth > 0, 0.9, 0.1).astype(np.float32))
    cells = find_cells(fields, EmbedTrackConfig(), min_size=10)
    assert len(cells) == truth.max()
    assert len(np.unique(np.stack([cells.labels, truth]).reshape(2, -1), axis=1).T) == truth.max() + 1
    np.testing.assert_allclose(cells.quality, 0.9, atol=1e-6)


def test_centre_is_in_pixels_also_where_voxels_are_long():
    truth = np.zeros((8, 20, 24), np.int32)
    truth[2:5, 4:15, 6:19] = 1
    fields = fields_of(truth, voxel_size=(3.0, 1.0, 1.0), radius=6)
    cells = find_cells(fields, EmbedTrackConfig(foreground_threshold=0.53), min_size=20)
    np.testing.assert_allclose(cells.centre, [[3, 9, 12]], atol=1e-3)


def test_three_times_the_votes_are_needed_in_3d():
    truth = np.zeros((5, 12, 12), np.int32)
    truth[2, 5, 3:9] = truth[2, 6, 3:9] = 1  # 12 voxels
    fields = replace(fields_of(truth), seediness=np.where(truth > 0, 0.9, 0.1).astype(np.float32))
    assert len(find_cells(fields, EmbedTrackConfig(min_votes=4), min_size=1)) == 1
    assert len(find_cells(fields, EmbedTrackConfig(min_votes=5), min_size=1)) == 0
    flat = replace(
        fields,
        offset=fields.offset[1:, 2],
        bandwidth=fields.bandwidth[1:, 2],
        seediness=fields.seediness[2],
        unit=fields.unit[1:],
    )
    assert len(find_cells(flat, EmbedTrackConfig(min_votes=12), min_size=1)) == 1


def two_that_compete():
    """A line of pixels; the first half points to 10, the other to 14; ranges of 5 reach over both."""
    truth = np.zeros((3, 30), np.int32)
    truth[:, 5:12] = 1
    truth[:, 12:19] = 2
    fields = fields_of(truth, radius=5.0)
    seediness = np.where(truth > 0, 0.8, 0.0).astype(np.float32)
    seediness[1, 8] = 0.9
    offset = fields.offset.copy()
    offset[1] = (np.where(truth == 1, 10, 14) - np.arange(30)) * fields.unit[1]
    return replace(fields, offset=offset.astype(np.float32), seediness=seediness), truth


def test_a_later_cell_takes_the_pixels_that_it_fits_better_only_if_few_belong_to_others():
    fields, _ = two_that_compete()
    assert len(both(fields, EmbedTrackConfig(), 10)) == 1  # all of the second half belongs to the first already
    near = replace(fields, bandwidth=np.full_like(fields.bandwidth, 0.95))
    assert len(both(near, EmbedTrackConfig(), 10)) == 2


def test_rejected_proposals_hide_pixels_only_where_the_published_code_is_wanted():
    found = {}
    for compat in ((), ("rejected_proposals",)):
        lost = 0
        for seed in range(6):
            truth = ellipses((70, 70), 25, seed=seed)
            fields = fields_of(truth, noise=2.0, seed=seed, radius=3.5)
            lost += np.count_nonzero(
                find_cells(fields, PLAIN.model_copy(update={"compat": compat}), min_size=25).labels
            )
        found[compat] = lost
    assert found[()] > found["rejected_proposals",]


def test_equal_seediness_is_decided_by_the_place():
    fields = fields_of(ellipses((50, 50), 12, seed=1), noise=1.0)
    level = replace(fields, seediness=np.where(fields.seediness > 0.52, 0.8, 0.0).astype(np.float32))
    labels = [both(level, PLAIN, 5).labels for _ in range(2)]
    np.testing.assert_array_equal(*labels)


def test_more_cells_than_16_bits_hold():
    side, n = 3, 182
    one = np.indices((side, side)) - 1
    offset = np.tile(-one, (1, n, n)) / 255
    fields = fields_of(np.zeros((side * n, side * n), np.int32))
    fields = replace(
        fields,
        offset=offset.astype(np.float32),
        bandwidth=np.ones_like(fields.bandwidth),
        seediness=np.full(fields.shape, 0.9, np.float32),
    )
    cells = find_cells(fields, EmbedTrackConfig(), min_size=9)
    assert len(cells) == n * n > 32767
    assert (np.bincount(cells.labels.ravel())[1:] == 9).all()


@pytest.mark.parametrize("shape", [(12, 10), (3, 8, 9), (1, 1), (1, 5, 1)])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_frames_without_cells(shape, level):
    fields = fields_of(np.zeros(shape, np.int32))
    fields = replace(fields, seediness=np.full(shape, level, np.float32))
    cells = find_cells(fields, EmbedTrackConfig(min_votes=10_000), min_size=0)
    assert len(cells) == 0
    assert cells.labels.shape == shape
    assert cells.labels.dtype == np.int32
    assert cells.centre.shape == (0, len(shape))


def test_what_points_out_of_the_frame_does_not_vote_but_may_belong():
    fields = fields_of(np.zeros((10, 12), np.int32))
    offset = fields.offset.copy()
    offset[0] = (-3 - np.arange(10)[:, None]) / 255  # all to row -3
    offset[1] = (5 - np.arange(12)) / 255
    outside = replace(fields, offset=offset.astype(np.float32), seediness=np.full((10, 12), 0.9, np.float32))
    assert len(both(outside, EmbedTrackConfig(), 5)) == 0


@pytest.mark.parametrize("name", ["seediness", "offset"])
def test_predictions_that_are_no_numbers(name):
    fields = fields_of(drawn("111 111 111"))
    values = getattr(fields, name).copy()
    values[..., 1, 1] = np.nan
    seediness = values if name == "seediness" else np.ones((3, 3), np.float32)
    with pytest.raises(DataError, match=r"Finding cells failed: .* not"):
        find_cells(replace(fields, **{"seediness": seediness, name: values}), EmbedTrackConfig(), min_size=0)


def test_of_a_cell_in_pieces_the_largest_stays_and_scattered_dots_are_no_cell():
    truth = drawn("1.1.1.1.1 ......... 1.1.1.1.1 ......... 222...222 222....22 222.....2")
    cells = find_cells(fields_of(truth), EmbedTrackConfig(min_votes=1), min_size=3)
    expected = drawn("......... ......... ......... ......... 111...... 111...... 111......")
    np.testing.assert_array_equal(cells.labels, expected)
    whole = find_cells(
        fields_of(truth), EmbedTrackConfig(min_votes=1, largest_part=False, fill_holes=False), min_size=3
    )
    assert sorted(np.bincount(whole.labels.ravel())[1:].tolist()) == [10, 15]
    larger = np.bincount(whole.labels.ravel())[1:].argmax()
    assert cells.quality[0] < 0.7 * whole.quality[larger]  # what it lost counts


def test_holes_of_one_cell_are_filled():
    labels = drawn(
        """
        1111....
        1..1.222
        1.11.2.2
        1111.222
        """
    )
    expected = drawn(
        """
        1111....
        1..1.222
        1.11.222
        1111.222
        """
    )
    expected[1, 1:3] = expected[2, 1] = 1
    np.testing.assert_array_equal(filled(labels), expected)


def test_holes_between_two_cells_and_bays_at_the_border_stay():
    labels = drawn(
        """
        1122
        1..2
        1122
        1.12
        """
    )
    np.testing.assert_array_equal(filled(labels), labels)


def test_holes_are_closed_by_faces_in_3d():
    labels = np.zeros((5, 5, 5), np.int32)
    labels[1:4, 1:4, 1:4] = 3
    labels[2, 2, 2] = 0
    assert filled(labels)[2, 2, 2] == 3
    labels[1, 2, 2] = 0  # an opening along z
    assert filled(labels)[2, 2, 2] == 0
