"""Cells from maps that are drawn: discs and balls, alone and touching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from howdah.errors import ConfigError, DataError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import find_cells, find_cells_by_plane
from howdah.methods.efficientcellseg.maps import Maps
from howdah.metrics.segmentation import seg_score

SPLITS = ["components", "distance", "centres"]


def config(**settings) -> EfficientCellSegConfig:
    return EfficientCellSegConfig(**settings)


def drawn(shape, cells, *, voxel_size=(1.0, 1.0, 1.0), radius=6.0) -> tuple[Maps, np.ndarray]:
    """Maps and labels of balls around centres (z, y, x) in voxels; a voxel belongs to the nearest centre."""
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1) * np.array(voxel_size)
    away = np.stack([np.linalg.norm(places - np.array(c) * voxel_size, axis=-1) for c in cells])
    labels = np.where(away.min(axis=0) <= radius, away.argmin(axis=0) + 1, 0).astype(np.int32)
    cell = np.clip(0.5 + (radius - away.min(axis=0)) * 0.3, 0.02, 0.98).astype(np.float32)
    centre = np.exp(-(away.min(axis=0) ** 2) / (2 * (0.4 * radius) ** 2)).astype(np.float32)
    return Maps(cell, centre), labels


TWO = drawn((1, 32, 40), [(0, 15, 13), (0, 15, 23)])


class TestSplit:
    @pytest.mark.parametrize(("split", "n"), [("components", 1), ("distance", 2), ("centres", 2)])
    def test_touching_discs(self, split, n):
        maps, truth = TWO
        cells = find_cells(maps, config(split=split), diameter=12)
        assert len(cells) == n
        assert cells.labels.dtype == np.int32
        if n == 2:
            assert seg_score(truth, cells.labels).seg > 0.9

    def test_automatic_is_centres_where_there_are_any_else_distance(self):
        maps, _ = TWO
        flat = Maps(maps.cell, np.full_like(maps.cell, 0.1))
        assert len(find_cells(flat, config(), diameter=12)) == 1
        assert len(find_cells(Maps(maps.cell), config(), diameter=12)) == 2

    def test_centres_that_are_not_there_are_a_sentence(self):
        with pytest.raises(ConfigError, match="split is centres, but this network does not predict centres"):
            find_cells(Maps(TWO[0].cell), config(split="centres"), diameter=12)

    def test_a_component_without_any_peak_stays_one_cell(self):
        maps, truth = drawn((1, 32, 60), [(0, 15, 10), (0, 15, 45)])
        centre = np.where(truth == 1, maps.centre, 0).astype(np.float32)
        cells = find_cells(Maps(maps.cell, centre), config(split="centres"), diameter=12)
        assert seg_score(truth, cells.labels).seg > 0.9

    @pytest.mark.parametrize("split", ["distance", "centres"])
    @pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (4.0, 1.0, 1.0)])
    def test_touching_balls_of_thick_planes(self, split, voxel_size):
        depth = int(28 / voxel_size[0])
        middle = depth / 2
        cells = [(middle, 14, 12), (middle, 14, 22), (middle, 30, 14)]
        maps, truth = drawn((depth, 44, 36), cells, voxel_size=voxel_size)
        found = find_cells(maps, config(split=split), voxel_size=voxel_size, diameter=12)
        assert len(found) == 3
        assert seg_score(truth, found.labels).seg > 0.85

    def test_balls_above_each_other_are_parted_in_volumes(self):
        maps, truth = drawn((32, 20, 20), [(10, 10, 10), (20, 10, 10)])
        found = find_cells(maps, config(split="distance", stack="volume"), diameter=12)
        assert seg_score(truth, found.labels).seg > 0.85


class TestCorners:
    @pytest.mark.parametrize("split", SPLITS)
    @pytest.mark.parametrize("stack", ["volume", "planes"])
    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (3, 1, 4), (3, 9, 9)])
    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_nothing_and_everything(self, split, stack, shape, value):
        maps = Maps(np.full(shape, value, np.float32), np.full(shape, value, np.float32))
        cells = find_cells(maps, config(split=split, stack=stack, min_size=0), diameter=5)
        assert len(cells) == (1 if value else 0)
        assert (cells.labels == value).all()
        assert np.isfinite(cells.quality).all()

    def test_what_is_not_a_number_is_a_sentence(self):
        cell = np.zeros((1, 4, 4), np.float32)
        cell[0, 1, 1] = np.nan
        with pytest.raises(DataError, match="not a number for some pixels"):
            find_cells(Maps(cell), config(), diameter=5)

    def test_a_diameter_that_is_none_is_a_sentence(self):
        with pytest.raises(ConfigError, match="diameter of a cell is 0"):
            find_cells(TWO[0], config(), diameter=0)

    @pytest.mark.parametrize("split", SPLITS)
    @pytest.mark.parametrize("stack", ["volume", "planes"])
    @given(seed=st.integers(0, 1000))
    @settings(deadline=None, max_examples=8)
    def test_labels_have_no_gaps_and_lie_in_the_foreground(self, split, stack, seed):
        rng = np.random.default_rng(seed)
        cell, centre = (rng.random((3, 16, 17)).astype(np.float32) for _ in range(2))
        cells = find_cells(Maps(cell, centre), config(split=split, stack=stack, fill_holes=False), diameter=4)
        names, sizes = np.unique(cells.labels[cells.labels > 0], return_counts=True)
        assert names.tolist() == list(range(1, len(cells) + 1))
        assert (cell[cells.labels > 0] > 0.5).all()
        assert ((cells.quality >= 0) & (cells.quality <= 1)).all()
        assert sizes.min(initial=99) >= 1


class TestSizesAndHoles:
    def test_holes_are_filled_plane_by_plane(self):
        maps, truth = drawn((5, 24, 24), [(2, 12, 12)], radius=8.0)
        cell = maps.cell.copy()
        cell[2, 10:15, 10:15] = 0
        filled = find_cells(Maps(cell), config(split="components"), diameter=16).labels
        assert seg_score(truth, filled).seg > 0.95
        assert not find_cells(Maps(cell), config(split="components", fill_holes=False), diameter=16).labels[2, 12, 12]

    def test_a_gap_between_cells_is_no_hole(self):
        cell = np.zeros((1, 30, 30), np.float32)
        cell[0, 4:26, 4:26] = 1
        cell[0, 10:20, 10:20] = 0
        centre = np.zeros_like(cell)
        centre[0, 7, 7] = centre[0, 22, 22] = 1
        cells = find_cells(Maps(cell, centre), config(split_smoothing=0.5, split_distance=4), diameter=8)
        assert len(cells) == 2
        assert not cells.labels[0, 15, 15]

    def test_what_is_too_small_goes(self):
        maps, _ = drawn((1, 32, 60), [(0, 15, 10)])
        cell = maps.cell.copy()
        cell[0, 5:7, 50:53] = 1
        assert len(find_cells(Maps(cell), config(min_size=7), diameter=12)) == 1
        assert len(find_cells(Maps(cell), config(min_size=6), diameter=12)) == 2

    def test_a_part_that_is_too_small_joins_its_neighbour(self):
        cell = np.zeros((1, 20, 40), np.float32)
        cell[0, 5:15, 4:20] = 1
        cell[0, 9:11, 20:26] = 1  # a tail
        centre = np.zeros_like(cell)
        centre[0, 10, 11] = centre[0, 10, 24] = 1
        setting = {"split": "centres", "split_smoothing": 0.0, "split_distance": 3.0}
        assert len(find_cells(Maps(cell, centre), config(**setting, min_size=2), diameter=10)) == 2
        joined = find_cells(Maps(cell, centre), config(**setting, min_size=40), diameter=10)
        assert len(joined) == 1
        np.testing.assert_array_equal(joined.labels > 0, cell > 0.5)


def test_quality_ranks_doubtful_cells_below_clear_ones():
    maps, _ = drawn((1, 40, 80), [(0, 20, 12), (0, 20, 60)])
    cell = maps.cell.copy()
    cell[0, 12:29, 52:69] *= 0.7  # faint
    cell[0, 3:6, 30:36] = 0.95  # a crumb
    cells = find_cells(Maps(cell), config(min_size=0), diameter=12)
    quality = cells.quality[[cells.labels[0, y, x] - 1 for y, x in ((20, 12), (20, 60), (4, 33))]]
    assert quality[0] > quality[1]
    assert quality[0] > quality[2]


class TestStream:
    def planes(self, maps):
        for z in range(len(maps.cell)):
            yield z, Maps(maps.cell[z : z + 1], maps.centre[z : z + 1])

    @pytest.mark.parametrize("split", SPLITS)
    def test_equals_the_whole(self, split):
        centres = [(4, 12, 12), (6, 12, 22), (5, 30, 15), (12, 28, 28)]
        maps, _ = drawn((16, 40, 40), centres, voxel_size=(2.0, 1.0, 1.0))
        stream = find_cells_by_plane(self.planes(maps), config(split=split), voxel_size=(2.0, 1.0, 1.0), diameter=12)
        volume, highest = np.zeros(maps.shape, np.int32), 0
        while True:
            try:
                z, plane = next(stream)
            except StopIteration as end:
                joined = end.value
                break
            if plane.any():
                assert plane[plane > 0].min() > highest
                highest = int(plane.max())
            volume[z] = plane
        whole = find_cells(maps, config(split=split, stack="planes"), voxel_size=(2.0, 1.0, 1.0), diameter=12)
        np.testing.assert_array_equal(joined.table[volume], whole.labels)
        np.testing.assert_array_equal(joined.quality, whole.quality)

    def test_separated_cells_are_those_of_the_volume(self):
        maps, truth = drawn((16, 40, 40), [(4, 10, 10), (11, 28, 28)], radius=5.0)
        for split in SPLITS:
            by_plane = find_cells(maps, config(split=split, stack="planes"), diameter=10).labels
            np.testing.assert_array_equal(by_plane, ndimage.label(maps.cell > 0.5)[0])
            assert seg_score(truth, by_plane).seg > 0.9

    def test_min_size_counts_whole_cells(self):
        maps, truth = drawn((9, 20, 20), [(4, 10, 10)], radius=3.5)
        size = int((truth > 0).sum())
        for least, n in ((size, 1), (size + 1, 0)):
            assert len(find_cells(maps, config(stack="planes", min_size=least, fill_holes=False), diameter=7)) == n

    def test_no_planes(self):
        with pytest.raises(StopIteration) as end:
            next(find_cells_by_plane([], config(), diameter=5))
        assert end.value.value.table.tolist() == [0]

    def test_planes_in_wrong_order_are_a_sentence(self):
        planes = list(self.planes(drawn((2, 8, 8), [(0, 4, 4)])[0]))
        with pytest.raises(DataError, match="plane 0 comes after plane 1"):
            list(find_cells_by_plane(planes[::-1], config(), diameter=5))
