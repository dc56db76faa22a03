"""The measures of the Cell Tracking Challenge on movies small enough to count by hand, and against two other programs."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.forests import cells, cover, own, random_covers

from howdah.metrics import biology
from howdah.metrics.challenge import corrections
from howdah.metrics.challenge_cells import Cells, Cover
from howdah.metrics.challenge_library import affordable, by_ctc_metrics

MOTHER = cells((1, 0, 1, 0), (2, 2, 3, 1), (3, 2, 3, 1))  # divides after frame 1


def test_truth_against_itself() -> None:
    same = cover(MOTHER, MOTHER)
    fixes = corrections(same)
    assert (fixes.det, fixes.tra, fixes.lnk) == (1, 1, 1)
    assert (fixes.n_cells, fixes.n_links) == (6, 5)
    assert biology.complete_tracks(same) == biology.track_fractions(same) == biology.chota(same) == 1
    assert biology.branching(same, frame_tolerance=0).f1 == 1
    assert biology.cell_cycle_accuracy(MOTHER, MOTHER) is None  # no track from division to division
    assert MOTHER.problems() == []


def test_missed_daughter() -> None:
    found = cells((1, 0, 3, 0))  # one daughter goes on as the mother, the other is not there
    seen = Cover(MOTHER, found, found.rows(np.where(MOTHER.label == 3, 0, 1), MOTHER.t))
    fixes = corrections(seen)
    assert (fixes.missed, fixes.false, fixes.splits) == (2, 0, 0)
    assert (fixes.absent, fixes.redundant, fixes.meaning) == (2, 0, 1)  # 1 to 2 ought to be a link to a child
    assert fixes.det == pytest.approx(1 - 20 / 60)
    assert fixes.tra == pytest.approx(1 - (20 + 3 + 1) / (60 + 7.5))
    assert fixes.lnk == pytest.approx(1 - 4 / 7.5)
    assert biology.complete_tracks(seen) == 0  # of 3 + 1 tracks none has the same ends
    assert biology.track_fractions(seen) == 1  # both true tracks that were seen at all were followed wholly
    assert biology.branching_correctness(biology.branching(seen, frame_tolerance=3)) == 0


def test_one_mask_over_two_cells() -> None:
    truth, found = cells((1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 0, 0)), cells((1, 0, 0, 0))
    fixes = corrections(Cover(truth, found, np.zeros(3, np.int64)))
    assert (fixes.splits, fixes.missed, fixes.false) == (2, 0, 0)
    assert fixes.det == pytest.approx(1 - 10 / 30)
    assert fixes.lnk is None  # there are no links to be found


def test_false_cells_and_nothing_at_all() -> None:
    truth, none = cells((1, 0, 1, 0)), cells()
    missed = cover(truth, none)
    assert (corrections(missed).det, corrections(missed).tra, corrections(missed).lnk) == (0, 0, 0)
    assert (biology.complete_tracks(missed), biology.track_fractions(missed), biology.chota(missed)) == (0, 0, 0)
    assert none.problems() == ["The result holds no track."]
    more = cover(truth, cells((1, 0, 1, 0), (2, 0, 1, 0)))
    assert corrections(more).false == 2
    assert corrections(more).redundant == 0  # a link between false cells costs nothing more
    assert corrections(cover(none, truth)).det is None
    assert biology.chota(cover(none, truth)) is None
    assert biology.complete_tracks(cover(none, none)) is None
    assert biology.track_fractions(cover(none, truth)) is None


@pytest.mark.parametrize(("late", "right"), [(0, [1, 1, 1, 1]), (1, [0, 1, 1, 1]), (2, [0, 0, 1, 1])])
def test_divisions_may_be_late(late: int, right: list[int]) -> None:
    truth = cells((1, 0, 4, 0), (2, 5, 9, 1), (3, 5, 9, 1))
    found = cells((1, 0, 4 + late, 0), (2, 5 + late, 9, 1), (3, 5 + late, 9, 1))
    for true, made in ((truth, found), (found, truth)):
        seen = cover(true, made)
        assert [biology.branching(seen, frame_tolerance=i).true_positives for i in range(4)] == right


def test_cell_cycles() -> None:
    """1 divides after 1, its daughter 2 after ``end``."""

    def two_divisions(end: int) -> Cells:
        return cells(
            (1, 0, 1, 0), (2, 2, end, 1), (3, 2, 9, 1), (4, end + 1, 9, 2), (5, end + 1, 9, 2)
        )  # one cycle of end - 2

    assert biology.cell_cycle_accuracy(two_divisions(4), two_divisions(4)) == 1
    assert biology.cell_cycle_accuracy(two_divisions(4), two_divisions(5)) == 0
    assert biology.cell_cycle_accuracy(two_divisions(4), MOTHER) == 0
    assert biology.cell_cycle_accuracy(MOTHER, two_divisions(4)) is None


def test_fractions_of_a_broken_track() -> None:
    truth, found = cells((1, 0, 9, 0)), cells((1, 0, 5, 0), (2, 6, 9, 0))
    seen = Cover(truth, found, np.arange(10))
    assert biology.track_fractions(seen) == 0.6
    assert biology.complete_tracks(seen) == 0
    assert biology.chota(seen) == pytest.approx(sqrt((6 * 0.6 + 4 * 0.4) / 10))
    assert corrections(seen).absent == 1
    # With the first part as the parent of the second the link is there, only its meaning is wrong.
    joined = Cover(truth, cells((1, 0, 5, 0), (2, 6, 9, 1)), np.arange(10))
    assert (corrections(joined).absent, corrections(joined).meaning) == (0, 1)
    assert biology.chota(joined) == 1


def test_results_that_the_challenge_refuses_are_told_with_cell_and_frame() -> None:
    one = np.ones(2, np.int64)
    cases = {
        "frame 1 has a cell 1, which the table of tracks does not have in that frame": [(1, 0, 0, 0)],
        "track 1 is said to be in frame 2, but no cell there has this number": [(1, 0, 2, 0)],
        "track 1 ends in frame 0, before it begins in frame 1": [(1, 1, 0, 0)],
        "track 1 has the parent 7, which is no track": [(1, 0, 1, 7)],
        "track 1 begins in frame 0, but its parent 2 is still there then": [(1, 0, 1, 2), (2, 0, 0, 0)],
    }
    for sentence, rows in cases.items():
        found = Cells(np.arange(2), one, np.array(rows), 3).problems()
        assert any(f"The result is not valid: {sentence}" in told for told in found), (sentence, found)


def test_divisions_that_cost_more_than_they_bring() -> None:
    """A wrong daughter makes two links false and takes nothing away but one that is missing anyway."""
    truth = cells((1, 0, 3, 0), (2, 0, 3, 0))
    found = cells((1, 0, 1, 0), (2, 0, 1, 0), (3, 2, 3, 1), (4, 2, 3, 1))
    seen = cover(truth, found, None)
    by = found.rows(np.where(truth.t > 1, truth.label + 2, truth.label), truth.t)
    seen = Cover(truth, found, by)
    assert (corrections(seen).redundant, corrections(seen).meaning, corrections(seen).absent) == (1, 1, 1)
    without = corrections(seen, found=found.undivided())
    assert (without.redundant, without.meaning, without.absent) == (0, 0, 2)


def test_same_numbers_as_py_ctcmetrics() -> None:
    pytest.importorskip("ctc_metrics")
    compared = 0
    for seed in range(25):
        seen = random_covers(seed)
        theirs, notes = by_ctc_metrics(seen)
        assert notes == []
        for name, value in own(seen).items():
            assert (value is None) == (name not in theirs), (seed, name, value)
            if value is not None:
                assert value == pytest.approx(theirs[name], abs=1e-12), (seed, name)
                compared += 1
    assert compared > 180


def test_library_is_not_asked_where_it_has_no_answer() -> None:
    pytest.importorskip("ctc_metrics")
    assert by_ctc_metrics(cover(MOTHER, cells())) == ({}, [])
    single = cells((1, 0, 0, 0))
    found, notes = by_ctc_metrics(cover(single, single))
    assert (found["DET"], found["TRA"], "LNK" in found, notes) == (1, 1, False, [])
    assert by_ctc_metrics(cover(MOTHER, MOTHER), highest=5)[0]["BC(5)"] == 1
    many = Cells(np.zeros(3000, np.int64), np.arange(1, 3001), np.empty((0, 4), np.int64), 1)
    assert affordable(cover(MOTHER, MOTHER))
    assert not affordable(Cover(many, many, np.arange(3000)))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_numbers_of_tracks_do_not_matter(seed: int) -> None:
    """Only their order does, and that for TF alone."""
    seen = random_covers(seed)
    rng = np.random.default_rng(seed)

    def renamed(old: Cells, new: np.ndarray) -> Cells:
        table = old.table.copy()
        table[:, [0, 3]] = new[table[:, [0, 3]]]
        return Cells(old.t, new[old.label], table, old.n_frames)

    most = int(max(seen.truth.label.max(), seen.found.label.max())) + 1
    shuffled = np.concatenate([[0], 1 + rng.permutation(most)])
    stretched = np.concatenate([[0], np.sort(rng.choice(1000, most, replace=False)) + 1])
    mixed = own(Cover(renamed(seen.truth, shuffled), renamed(seen.found, shuffled), seen.by))
    apart = own(Cover(renamed(seen.truth, stretched), renamed(seen.found, stretched), seen.by))
    assert apart == pytest.approx(own(seen))
    assert {**mixed, "TF": 0} == pytest.approx({**own(seen), "TF": 0})


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_all_are_one_for_the_truth_itself(seed: int) -> None:
    truth = random_covers(seed).truth
    assert set(own(Cover(truth, truth, np.arange(len(truth)))).values()) <= {1.0, None}
