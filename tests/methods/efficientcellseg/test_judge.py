import numpy as np
import pytest
import torch

from howdah.methods.efficientcellseg.judge import Verdict, judged

CELL = torch.zeros(1, 8, 8)
CELL[0, :4] = 1
ALL = torch.ones(1, 8, 8)


def test_mean_iou_is_the_mean_over_cells_and_background():
    said = torch.full((1, 1, 8, 8), -9.0)
    said[0, 0, :6] = 9.0
    verdict = judged(["cell"], said, CELL, CELL, ALL)
    assert verdict.mean_iou == pytest.approx((32 / 48 + 16 / 32) / 2)


def test_unknown_pixels_do_not_count_and_parts_add_up():
    said = torch.full((1, 1, 8, 8), -9.0)
    said[0, 0, :6] = 9.0
    known = ALL.clone()
    known[0, 4:6] = 0
    verdict = judged(["cell"], said, CELL, CELL, known)
    assert verdict.mean_iou == 1
    assert (verdict + Verdict()).mean_iou == 1


def test_centres_are_compared_by_height():
    heat = torch.from_numpy(np.linspace(0.05, 0.95, 64, dtype=np.float32).reshape(1, 8, 8))
    both = torch.stack([CELL * 18 - 9, torch.logit(heat)], dim=1)
    verdict = judged(["cell", "centre"], both, CELL, heat, ALL)
    assert verdict.mean_iou == 1
    assert verdict.centres == pytest.approx(1, abs=1e-5)
    assert judged(["centre"], both[:, 1:] - 3, CELL, heat, ALL).centres < 0.8
