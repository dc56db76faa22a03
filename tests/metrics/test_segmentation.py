"""Metrics of masks: by hand on rows of letters, by brute force, and against py-ctcmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from howdah.errors import DataError
from howdah.metrics import average_precision, mean_iou, overlaps, peseg, seg_score

LABELS = arrays(np.uint8, (4, 6), elements=st.integers(0, 4))


def row(text: str) -> np.ndarray:
    """Labels in a row: a letter is a cell, a dot is background."""
    return np.array([[0 if c == "." else ord(c) - ord("a") + 1 for c in text]], dtype=np.int32)


class TestSeg:
    @pytest.mark.parametrize(
        ("truth", "predicted", "seg"),
        [
            ("aaaa..bb", "aaaa..bb", 1.0),
            ("aaaa..bb", "cccc..ee", 1.0),  # names do not matter
            ("aaaa....", "..aaaa..", 0.0),  # half is not more than half
            ("aaaa....", ".aaaa...", 3 / 5),
            ("aaaabbbb", "aaaaaaaa", 0.5),  # one cell over two: half of its area is each
            ("aaaa....", "aaabcccc", 3 / 4),
            ("aaaa....", "aaaa.bbb", 1.0),  # false cells cost nothing
            ("aa..bbbb", "aa......", 0.5),
        ],
    )
    def test_by_hand(self, truth, predicted, seg):
        assert seg_score(row(truth), row(predicted)).seg == pytest.approx(seg)

    def test_frames_are_summed_over_cells(self):
        score = seg_score([row("aa.b.c"), row("aaaa..")], [row("aa.b.c"), row("......")])
        assert score.to_dict() == {"seg": 0.75, "n_cells": 4, "n_found": 3}

    def test_nothing_to_score_is_nan(self):
        assert math.isnan(seg_score(row("...."), row("aa..")).seg)
        assert math.isnan(seg_score([], []).seg)

    def test_wrong_input_is_a_sentence(self):
        with pytest.raises(DataError, match=r"true labels have shape \(1, 3\), predicted ones \(1, 2\)"):
            seg_score(row("aaa"), row("aa"))
        with pytest.raises(DataError, match="true labels have shape"):
            overlaps(row("aaa"), row("aa"))
        with pytest.raises(DataError, match="predicted labels must be integers from 0; found float64"):
            seg_score(row("aa"), row("aa") * 0.5)
        with pytest.raises(DataError, match="2 true frames and 1 predicted"):
            seg_score([row("a"), row("a")], [row("a")])

    @given(LABELS, LABELS)
    @settings(deadline=None, max_examples=40)
    def test_equals_its_definition(self, truth, predicted):
        scores = []
        for r in np.unique(truth[truth > 0]):
            best = 0.0
            for s in np.unique(predicted[predicted > 0]):
                both = np.count_nonzero((truth == r) & (predicted == s))
                if both > 0.5 * np.count_nonzero(truth == r):
                    best = both / np.count_nonzero((truth == r) | (predicted == s))
            scores.append(best)
        found = seg_score(truth, predicted)
        assert found.n_cells == len(scores)
        if scores:
            assert found.seg == pytest.approx(np.mean(scores))

    def test_large_and_few_names_give_the_same(self):
        rng = np.random.default_rng(0)
        truth, predicted = (rng.integers(0, 50, (40, 40)) for _ in range(2))
        predicted[truth > 25] = truth[truth > 25]
        wide = seg_score(truth.astype(np.int64) * 1_000_003, predicted.astype(np.int64) * 70_000_001)
        assert wide == seg_score(truth, predicted)

    @pytest.mark.real
    def test_equals_the_official_measure_on_real_masks(self, real_data, tmp_path):
        tifffile = pytest.importorskip("tifffile")
        official = pytest.importorskip("ctc_metrics.metrics")
        match = pytest.importorskip("ctc_metrics.utils.representations").match
        truths, found, names, ious = [], [], [], []
        for t, path in enumerate(sorted((real_data / "tgmm-crop-3d" / "01_GT" / "SEG").glob("*.tif"))[:3]):
            truth = tifffile.imread(path)
            rng = np.random.default_rng(t)
            predicted = ndimage.shift(truth, (0, 1, t), order=0)
            predicted[np.isin(predicted, rng.choice(np.unique(truth), 4))] = 0
            predicted[predicted == predicted.max()] = np.unique(predicted)[1]
            tifffile.imwrite(tmp_path / f"{t}.tif", predicted)
            result = match(str(path), str(tmp_path / f"{t}.tif"))
            names.append(result[0])
            ious.append(result[4])
            truths.append(truth)
            found.append(predicted)
        ours = seg_score(truths, found)
        assert 0.2 < ours.seg < 0.95
        assert ours.seg == pytest.approx(official.seg(names, ious), abs=1e-12)


class TestMeanIou:
    def test_is_the_mean_of_background_and_cell(self):
        assert mean_iou(row("aab....."), row(".aabbb..")) == pytest.approx((2 / 6 + 2 / 6) / 2)
        assert mean_iou(row("aabb...."), row("aaaa....")) == 1.0  # touching cells are one

    def test_empty_classes_count_as_right(self):
        assert mean_iou(row("...."), row("....")) == 1.0
        assert mean_iou(row("aaaa"), row("aaaa")) == 1.0
        assert mean_iou(row("aaaa"), row("....")) == 0.0

    def test_takes_masks(self):
        assert mean_iou(row("aa..") > 0, row("aa..") > 0) == 1.0


class TestAveragePrecision:
    def test_counts_true_false_and_missed(self):
        found = average_precision(row("aaaa.bbbb.cc"), row("aaa..bbbb..."), (0.5, 0.75, 0.8, 1.0))
        assert found == {0.5: 2 / 3, 0.75: 2 / 3, 0.8: 1 / 4, 1.0: 1 / 4}

    def test_ties_below_a_half_are_paired_best(self):
        # b of the prediction could be a's or b's partner; a can only have it
        found = average_precision(row("aaabbbccc"), row("xxyyyyyzz".translate({120: 97, 121: 98, 122: 99})), (0.3,))
        assert found[0.3] == 1.0

    def test_default_thresholds_and_nothing(self):
        found = average_precision(row("...."), row("...."))
        assert list(found) == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
        assert all(math.isnan(v) for v in found.values())

    def test_wrong_threshold_is_a_sentence(self):
        with pytest.raises(DataError, match=r"above 0 and up to 1; found \[0\]"):
            average_precision(row("a"), row("a"), (0,))


@pytest.mark.parametrize(
    ("seg", "millions", "efficiency"), [(0.951, 6.7, 0.142), (0.782, 6.7, 0.117), (0.646, 13.4, 0.048)]
)
def test_peseg_of_the_papers_table_3(seg, millions, efficiency):
    assert round(peseg(seg, int(millions * 1e6)), 3) == efficiency


def test_peseg_needs_parameters():
    with pytest.raises(DataError, match="found 0"):
        peseg(0.5, 0)


def test_masks_may_be_true_and_false():
    truth, predicted = row("aaaa....") > 0, row(".aaaa...") > 0
    assert seg_score(truth, predicted).seg == pytest.approx(3 / 5)
    assert average_precision(truth, row(".aaaa..."), [0.5]) == {0.5: 1.0}
