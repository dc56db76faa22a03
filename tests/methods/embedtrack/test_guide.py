import numpy as np
import pytest
import torch

from howdah.methods.embedtrack.coordinates import unit_of
from howdah.methods.embedtrack.guide import fade, guide_loss
from howdah.methods.embedtrack.targets import targets_of

UNIT = unit_of((1, 1), 256)


def scene(complete=True):
    """One pair: a bar of nine pixels that moved by three along x."""
    later, earlier = np.zeros((1, 8, 24), dtype=np.int32), np.zeros((1, 8, 24), dtype=np.int32)
    later[0, 4, 8:17], earlier[0, 4, 5:14] = 1, 1
    return targets_of(later, earlier, [np.array([[1, 1]])], voxel_size=(1, 1), complete=complete)


def logits(own, before):
    """Offsets in pixels, (Y, X) each along x, as a network's output."""
    segmentation = torch.zeros(2, 5, 8, 24)
    segmentation[:, 1] = torch.atanh(torch.as_tensor(own, dtype=torch.float32) * UNIT[1])
    tracking = torch.zeros(1, 2, 8, 24)
    tracking[:, 1] = torch.atanh(torch.as_tensor(before, dtype=torch.float32) * UNIT[1])
    return segmentation, tracking


def test_right_offsets_cost_nothing():
    x = np.arange(24)
    segmentation, tracking = logits(
        np.stack([np.tile(12 - x, (8, 1)), np.tile(9 - x, (8, 1))]), np.tile(x - 9, (8, 1))[None]
    )
    assert float(guide_loss(segmentation, tracking, scene(), UNIT)) < 1e-3


def test_no_offsets_cost_one_size_of_the_cell_each_and_the_way():
    segmentation, tracking = logits(np.zeros((2, 8, 24)), np.zeros((1, 8, 24)))
    size = np.abs(np.arange(-4, 5)).mean()
    way = np.abs(np.arange(-4, 5) + 3).mean()
    assert float(guide_loss(segmentation, tracking, scene(), UNIT)) == pytest.approx(1 + way / size, rel=1e-3)


def test_it_can_be_descended_also_without_cells():
    segmentation, tracking = (t.requires_grad_() for t in logits(np.zeros((2, 8, 24)), np.zeros((1, 8, 24))))
    guide_loss(segmentation, tracking, scene(), UNIT).backward()
    assert segmentation.grad.abs().sum() > 0
    assert tracking.grad.abs().sum() > 0
    assert torch.isfinite(segmentation.grad).all()
    empty = np.zeros((1, 8, 24), dtype=np.int32)
    none = targets_of(empty, empty, [np.zeros((0, 2))], voxel_size=(1, 1))
    assert guide_loss(segmentation, tracking, none, UNIT).item() == 0


def test_it_fades():
    assert [fade(step, 100) for step in (0, 30, 45, 60, 99)] == pytest.approx([1, 1, 0.5, 0, 0])
