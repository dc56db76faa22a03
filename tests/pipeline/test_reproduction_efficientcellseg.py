"""EfficientCellSeg's Table 3, on a challenge folder that is small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from pipeline import perfect

from bdv_io import MissingDataError
from howdah.errors import DataError
from howdah.pipeline import finish, reproduce
from howdah.pipeline.reproduction import known_reproductions
from howdah.pipeline.reproduction_efficientcellseg import segmentation_score
from howdah.pipeline.sections import SECTIONS

QUICK = {
    "efficientcellseg": {
        "encoder": "lite0",
        "filters": [8, 8, 8, 8],
        "pretrained": "none",
        "input_size": 64,
        "n_epochs": 1,
        "n_crops": 1,
        "batch_size": 1,
        "search": False,
        "device": "cpu",
        "threshold": 0.01,
        "min_size": 1,
    }
}


def challenge(folder: Path, name: str, *, planes: bool = False, depth: int = 5) -> None:
    """Write a sequence of one volume with its gold truth: all of it, or one plane."""
    (folder / name).mkdir(parents=True)
    (folder / f"{name}_GT" / "SEG").mkdir(parents=True)
    tifffile.imwrite(folder / name / "t000.tif", perfect.frame(0, depth))
    truth = perfect.labels(0, depth).astype(np.uint16)
    file = "man_seg_000_001.tif" if planes else "man_seg000.tif"
    tifffile.imwrite(folder / f"{name}_GT" / "SEG" / file, truth[1] if planes else truth)


def test_the_three_data_sets_of_the_paper_with_its_figures() -> None:
    known = known_reproductions("efficientcellseg")
    figures = {name: (one.facts["figures"]["SEG"], one.facts["figures"]["PESEG"]) for name, one in known.items()}
    assert figures == {
        "Fluo-C3DH-A549-SIM": (0.951, 0.142),
        "Fluo-C3DL-MDA231": (0.646, 0.048),
        "Fluo-N3DL-TRIC": (0.782, 0.117),
    }
    for name, one in known.items():
        for section, values in one.settings.items():
            used = SECTIONS[section].of(values, source=name)
        assert used.model_dump()["encoder"] == "b5"
        millions = float(str(one.facts["figures"]["parameters"]).split()[0])
        assert one.facts["figures"]["PESEG"] == pytest.approx(one.facts["figures"]["SEG"] / millions, abs=6e-4)
    assert len(known["Fluo-C3DH-A549-SIM"].facts["figures"]["table_2"]) == 3


@pytest.mark.parametrize("name", ["Fluo-C3DH-A549-SIM", "Fluo-C3DL-MDA231", "Fluo-N3DL-TRIC"])
def test_a_miniature_challenge(tmp_path: Path, name: str) -> None:
    alone = name != "Fluo-C3DH-A549-SIM"
    for sequence in ("01",) if alone else ("01", "02"):
        challenge(tmp_path / name, sequence, planes=name == "Fluo-N3DL-TRIC")
    report = finish(reproduce("efficientcellseg", tmp_path, tmp_path / "out", settings=QUICK))[name]
    assert list(report["ours"]) == (["01 -> 01 (seen in training)"] if alone else ["01 -> 02", "02 -> 01"])
    for scores in report["ours"].values():
        assert 0 <= scores["SEG"] <= 1
        assert scores["cells"] == 2
        assert scores["PESEG"] == pytest.approx(scores["SEG"] / scores["parameters"] * 1e6, abs=1e-3)
    again = finish(reproduce("efficientcellseg", tmp_path, tmp_path / "out", settings=QUICK))[name]
    assert again["ours"] == report["ours"]


def test_seg_of_planes_and_of_volumes(tmp_path: Path) -> None:
    challenge(tmp_path, "01", planes=True)
    result = tmp_path / "01_RES"
    result.mkdir()
    (result / "res_track.txt").write_text("1 0 0 0\n2 0 0 0\n")
    found = perfect.labels(0, 5)
    found[:, :, :30][found[:, :, :30] == 2] = 0  # half of cell 2 is missed, and a little
    tifffile.imwrite(result / "mask000.tif", found.astype(np.uint16))
    plane, truth = found[1], perfect.labels(0, 5)[1]
    half = (plane == 2).sum() / (truth == 2).sum()
    expected = (1 + (half if half > 0.5 else 0)) / 2
    assert segmentation_score(result, tmp_path / "01_GT") == (pytest.approx(expected), 2)
    tifffile.imwrite(tmp_path / "01_GT" / "SEG" / "man_seg_000_001.tif", truth[:9].astype(np.uint16))
    with pytest.raises(DataError, match=r"man_seg_000_001\.tif has \(Z, Y, X\) = \(1, 9, 64\)"):
        segmentation_score(result, tmp_path / "01_GT")
    (result / "mask000.tif").unlink()
    with pytest.raises(MissingDataError, match="no mask of frame 0"):
        segmentation_score(result, tmp_path / "01_GT")
    with pytest.raises(MissingDataError, match="holds no masks"):
        segmentation_score(result, tmp_path / "02_GT")
