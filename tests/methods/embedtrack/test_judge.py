import numpy as np
import pytest
import torch

from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import unit_of
from howdah.methods.embedtrack.judge import Verdict, agreement, fields_of, right_links

CONFIG = EmbedTrackConfig(min_size=4)
UNIT = unit_of((1, 1), 256)
CENTRES = {1: (8, 8), 2: (8, 24)}


def labels():
    found = np.zeros((16, 32), dtype=np.int32)
    for label, (y, x) in CENTRES.items():
        found[y - 3 : y + 4, x - 3 : x + 4] = label
    return found


def perfect(move=(0.0, 0.0)):
    """Logits of a network that knows these cells, and that each came from ``move`` pixels away."""
    there = labels()
    offset = np.zeros((2, *there.shape))
    for label, centre in CENTRES.items():
        inside = there == label
        for axis in range(2):
            offset[axis][inside] = (centre[axis] - np.indices(there.shape)[axis][inside]) * UNIT[axis]
    bandwidth = np.ones((2, *there.shape))  # reaches about 4 pixels
    seed = np.where(there > 0, 9.0, -9.0)[None]
    segmentation = torch.from_numpy(np.concatenate([np.arctanh(offset), bandwidth, seed]))
    earlier = -offset + np.reshape(move, (2, 1, 1)) * UNIT[0]
    return fields_of(segmentation, torch.from_numpy(np.arctanh(earlier)), UNIT)


def test_a_perfect_prediction_scores_one():
    there = labels()
    verdict = agreement(perfect(), there, CONFIG, complete=True)
    assert verdict == Verdict(pytest.approx(2.0), 2, 2)
    linked = verdict + right_links(perfect(), there, there, np.array([[1, 1], [2, 2]]), CONFIG)
    assert linked.score == pytest.approx(1.0)


def test_missed_and_false_cells_cost_and_unknown_ones_do_not():
    there = np.where(labels() == 1, 1, 0)
    assert agreement(perfect(), there, CONFIG, complete=True).score == pytest.approx(2 / 3)
    assert agreement(perfect(), there, CONFIG, complete=False).score == pytest.approx(1.0)
    more = labels()
    more[0, 0:4] = 7
    assert agreement(perfect(), more, CONFIG, complete=True).score == pytest.approx(4 / 5)


def test_links_that_point_elsewhere_are_wrong_and_those_not_shown_do_not_count():
    there = labels()
    links = np.array([[1, 1], [2, 2], [5, 6]])
    away = right_links(perfect(move=(0.0, -16.0)), there, there, links, CONFIG)  # 1 points at 2, 2 to the outside
    assert (away.right, away.links) == (0, 2)
    assert right_links(perfect(), there, there, links[:0], CONFIG) == Verdict()


def test_nothing_found_is_zero():
    assert Verdict(true=3).score == 0
