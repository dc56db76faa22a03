"""EmbedTrack's table, on a challenge folder that is small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pipeline import perfect

from bdv_io import MissingDataError
from howdah.pipeline import finish, reproduce
from howdah.pipeline.reproduction import known_reproductions
from howdah.pipeline.sections import SECTIONS

NAME = "Fluo-N2DH-SIM+"
QUICK = {
    "embedtrack": {
        "n_epochs": 1,
        "n_crops": 1,
        "batch_size": 1,
        "crop_size": [32, 32],
        "tile_size": [64, 64],
        "test_time": "none",
        "foreground_threshold": 0.2,
        "min_size": 4,
        "validation_share": 0.0,
        "device": "cpu",
    }
}
NOT_IN_THE_PAPER = {
    "enlarge": 1,
    "guide_weight": 0.0,
    "largest_part": False,
    "fill_holes": False,
    "min_daughter_ratio": 0.0,
}
TABLE = "1 0 3 0\n2 0 1 0\n3 2 3 2\n4 2 3 2\n"


def challenge(folder: Path, name: str) -> None:
    """Write a sequence of four frames of 64 x 64 with its gold truth, as the challenge does."""
    for part in (name, f"{name}_GT/TRA", f"{name}_GT/SEG"):
        (folder / part).mkdir(parents=True)
    for t in range(4):
        tifffile.imwrite(folder / name / f"t{t:03d}.tif", perfect.frame(t)[0])
        truth = perfect.labels(t)[0].astype(np.uint16)
        tifffile.imwrite(folder / f"{name}_GT" / "TRA" / f"man_track{t:03d}.tif", truth)
        tifffile.imwrite(folder / f"{name}_GT" / "SEG" / f"man_seg{t:03d}.tif", truth)
    (folder / f"{name}_GT" / "TRA" / "man_track.txt").write_text(TABLE)


def test_the_nine_data_sets_of_the_paper_with_its_figures():
    known = known_reproductions("embedtrack")
    assert len(known) == 9
    for one in known.values():
        for section, values in one.settings.items():
            SECTIONS[section].of(values, source=one.name)
        figures = one.facts["figures"]
        assert one.facts["kind"] == "embedtrack"
        assert figures["OP"] == pytest.approx((figures["SEG"] + figures["TRA"]) / 2, abs=0.0011)
        ours = {key: name for key, name in one.settings["embedtrack"].items() if key in NOT_IN_THE_PAPER}
        assert ours == NOT_IN_THE_PAPER
    assert known["Fluo-C2DL-MSC"].settings["embedtrack"]["crop_size"] == [512, 512]
    assert known["PhC-C2DH-U373"].facts["border"] == 50


def test_a_miniature_challenge(tmp_path: Path) -> None:
    pytest.importorskip("ctc_metrics", reason="needs py-ctcmetrics")
    data = tmp_path / NAME
    for name in ("01", "02"):
        challenge(data, name)
    report = finish(reproduce("embedtrack", tmp_path, tmp_path / "out", settings=QUICK))[NAME]
    assert list(report["ours"]) == [
        "01 -> 02",
        "02 -> 01",
        "01+02 -> 01 (seen in training)",
        "01+02 -> 02 (seen in training)",
    ]
    for scores in report["ours"].values():
        assert set(scores) == {"SEG", "DET", "TRA", "OP"}
        assert all(0 <= value <= 1 for value in scores.values())
    assert report["paper"] == {"SEG": 0.830, "TRA": 0.979, "OP": 0.905}
    assert (tmp_path / "out" / NAME / "learned-01" / "02_RES" / "res_track.txt").is_file()
    again = finish(reproduce("embedtrack", data, tmp_path / "out", dataset=NAME, settings=QUICK))[NAME]
    assert again["ours"] == report["ours"]
    assert json.loads((tmp_path / "out" / "scores.json").read_text())[NAME]["ours"] == report["ours"]


def test_a_folder_without_truth_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / NAME / "01").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="holds no sequence with its truth"):
        finish(reproduce("embedtrack", tmp_path, tmp_path / "out"))
