"""Frames of EfficientCellSeg that are cut into regions give the cells of the whole frame."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scale.one_by_one import run_blocks
from scipy import ndimage
from torch import nn

from bdv_io.formats import open_image, write_image
from bdv_io.image import ArrayImage
from howdah.errors import ConfigError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import Cells, find_cells
from howdah.methods.efficientcellseg.maps import Maps
from howdah.methods.efficientcellseg.network import EfficientCellSeg
from howdah.methods.efficientcellseg.regions import find_in_window, join
from howdah.nn.checkpoint import Weights
from howdah.pipeline import Job, efficientcellseg, finish
from howdah.pipeline.efficientcellseg import segment_efficientcellseg
from howdah.scale import segment_regions
from howdah.scale.config import ScaleConfig
from howdah.scale.segment import Segmentation, plan_segment, scale_segment

DIAMETER = 12.0
ISOTROPIC = (1.0, 1.0, 1.0)
FILTERS = [8, 8, 8, 8]


def clouds(*shape: int, seed: int) -> np.ndarray:
    """A smooth map 0..1 with blobs about ten pixels wide."""
    found = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    return ((found - found.min()) / (found.max() - found.min())).astype(np.float32)


def by_regions(maps: Maps, config: EfficientCellSegConfig, *, most: int, core: int = 48) -> tuple[Cells, int]:
    """Find cells region by region; return them, and how many were not whole."""
    plane, found = (maps.shape[1], maps.shape[2]), []
    for y, x in itertools.product(range(0, plane[0], core), range(0, plane[1], core)):
        box = (slice(y, min(y + core, plane[0])), slice(x, min(x + core, plane[1])))
        margin = 12
        while True:
            window = tuple(
                slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(box, plane, strict=True)
            )
            seen = Maps(maps.cell[:, *window], None if maps.centre is None else maps.centre[:, *window])
            region, exact = find_in_window(
                seen, config, voxel_size=ISOTROPIC, diameter=DIAMETER, window=window, core=box, plane=plane
            )
            if exact or margin >= most:
                break
            margin *= 2
        found.append(region)
    joined = join(found, config, voxel_size=ISOTROPIC, diameter=DIAMETER, plane=plane)
    return joined, sum(int((~one.whole).sum()) for one in found)


@pytest.mark.parametrize(
    ("split", "threshold", "fill"),
    [("distance", 0.5, True), ("distance", 0.56, False), ("centres", 0.56, True), ("components", 0.45, True)],
)
def test_regions_give_the_cells_of_the_plane(split: str, threshold: float, fill: bool) -> None:
    maps = Maps(clouds(1, 90, 130, seed=1), clouds(1, 90, 130, seed=2))
    config = EfficientCellSegConfig.of({"split": split, "fill_holes": fill, "threshold": threshold, "min_size": 8})
    whole = find_cells(maps, config, voxel_size=ISOTROPIC, diameter=DIAMETER)
    regions, cut = by_regions(maps, config, most=200)
    assert cut == 0
    np.testing.assert_array_equal(regions.labels, whole.labels)
    np.testing.assert_array_equal(regions.quality, whole.quality)


@pytest.mark.parametrize("seed", [0, 2])
def test_tissue_without_gaps_is_cut_without_doubles_and_losses(seed: int) -> None:
    maps = Maps(clouds(1, 200, 260, seed=seed))
    config = EfficientCellSegConfig.of({"split": "distance", "threshold": 0.45, "min_size": 8})
    whole = find_cells(maps, config, voxel_size=ISOTROPIC, diameter=DIAMETER)
    regions, cut = by_regions(maps, config, most=24)
    assert cut > 20
    assert abs(len(regions) - len(whole)) <= 0.02 * len(whole)
    np.testing.assert_array_equal(np.unique(regions.labels), np.arange(len(regions) + 1))
    covered = np.count_nonzero((regions.labels > 0) & (whole.labels > 0)) / np.count_nonzero(whole.labels)
    assert covered > 0.99
    same = [
        np.array_equal(whole.labels == n, regions.labels == regions.labels[whole.labels == n].max())
        for n in range(1, 40)
    ]
    assert np.mean(same) > 0.6


def network() -> EfficientCellSeg:
    torch.manual_seed(0)
    found = EfficientCellSeg("lite0", filters=FILTERS, outputs=2).eval()
    for part in found.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    nn.init.normal_(found.last.weight, 0, 3)
    return found


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real network of random weights, which sees something everywhere."""
    form = {"encoder": "lite0", "filters": FILTERS, "outputs": [["cell", "centre"]]}
    made = Weights((network().state_dict(),), {"method": "efficientcellseg", "network": form})
    monkeypatch.setattr(efficientcellseg, "read_weights_of", lambda method, path: made)
    monkeypatch.setattr(segment_regions, "FIRST", 1)
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    return file


SETTINGS = {
    "efficientcellseg": {
        "device": "cpu", "precision": "float32", "input_size": 64, "split": "distance", "threshold": 0.6, "min_size": 5,
    }
}  # fmt: skip


def test_a_frame_that_is_cut_gives_the_file_of_the_plain_verb(weights: Path, tmp_path: Path) -> None:
    frames = [(1000 * clouds(1, 150, 170, seed=seed)).astype(np.uint16) for seed in range(2)]
    write_image(tmp_path / "m.tif", ArrayImage(frames, unit="µm"))
    job, plain, cut = Job(tmp_path / "m.tif"), tmp_path / "plain.ome.zarr", tmp_path / "cut.ome.zarr"
    said = finish(segment_efficientcellseg(job, plain, settings=SETTINGS, weights=weights))
    how = Segmentation("efficientcellseg", weights, SETTINGS)
    config = ScaleConfig(workers=0, block=(1, 64, 100))
    plan = plan_segment(job, cut, how, config=config)
    stages = {block.stage for block in plan.blocks}
    assert stages == {"limits", "tiles", "cells", "frames"}
    assert [block.stage for block in plan.blocks if not block.passing] == ["frames"] * 2
    found = finish(scale_segment(job, cut, how, config=config))
    assert found["cells"] == said["cells"] > 20
    for t in range(2):
        np.testing.assert_array_equal(open_image(cut).read(t), open_image(plain).read(t))


def test_what_cannot_be_cut_is_said(weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "m.tif", ArrayImage([np.ones((3, 40, 40), np.uint16)]))
    how = Segmentation("efficientcellseg", weights, SETTINGS)
    with pytest.raises(ConfigError, match="possible for images of one plane"):
        plan_segment(Job(tmp_path / "m.tif"), tmp_path / "a.tif", how, config=ScaleConfig(workers=0, block=(1, 20, 20)))
    whole = plan_segment(Job(tmp_path / "m.tif"), tmp_path / "a.tif", how, config=ScaleConfig(workers=0))
    assert {block.stage for block in whole.blocks} == {"frames"}
    assert run_blocks(whole)["out"] == str(tmp_path / "a.tif")
