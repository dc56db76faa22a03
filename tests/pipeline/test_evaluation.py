"""A result against the truth: by what both hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bdv_io import Tracks
from bdv_io.formats import read_tracks, write_tracks
from howdah.errors import ConfigError, DataError
from howdah.pipeline import finish
from howdah.pipeline.evaluation import Judging, evaluate
from howdah.pipeline.mask_scores import MaskScore


def tracks(*, moved: float = 0.0, without: int | None = None, unit: str = "pixel") -> Tracks:
    """Two cells in three frames; the second divides after the second one."""
    t = [0, 0, 1, 1, 2, 2, 2]
    x = np.array([10, 30, 10, 30, 10, 27, 33.0]) + moved
    links = [(0, 2), (1, 3), (2, 4), (3, 5), (3, 6)]
    made = Tracks.build(
        t, np.stack([np.zeros(7), np.full(7, 10.0), x], axis=1), radius=3.0, links=links, space_unit=unit
    )
    return made if without is None else made.select(np.arange(7) != without)


def written(path: Path, made: Tracks) -> Path:
    write_tracks(path, made)
    return path if path.suffix != ".csv" else path.with_name(f"{path.stem}-spots.csv")


def labels(path: Path, *, shift: int = 0) -> Path:
    """Two squares of ten pixels in two frames."""
    frames = np.zeros((2, 40, 60), dtype=np.uint8)
    frames[:, 5:15, 5 + shift : 15 + shift] = 1
    frames[:, 20:30, 30 + shift : 40 + shift] = 2
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    return path


def test_spots_links_and_divisions(tmp_path: Path) -> None:
    truth, found = written(tmp_path / "a.csv", tracks()), written(tmp_path / "b.csv", tracks(moved=1.0, without=6))
    facts = finish(evaluate(found, truth, out=tmp_path / "m.csv"))
    rows = {row["of"]: row for row in facts["measures"]}
    assert (facts["matched_within"], facts["median_error"]) == (3.0, 1.0)
    assert (rows["spots"]["recall"], rows["spots"]["precision"]) == (round(6 / 7, 6), 1.0)
    assert (rows["links"]["recall"], rows["links"]["precision"]) == (0.8, 1.0)
    assert (rows["divisions"]["recall"], rows["divisions"]["precision"]) == (0.0, None)
    assert "segmentation" not in facts
    with (tmp_path / "m.csv").open() as file:
        table = {(row["of"], row["measure"]): row["value"] for row in csv.DictReader(file)}
    assert float(table["links", "recall"]) == 0.8
    finish(evaluate(found, truth, out=tmp_path / "m.json"))
    assert json.loads((tmp_path / "m.json").read_text())["measures"] == facts["measures"]
    nothing = finish(evaluate(found, truth, Judging(reach=0.5)))
    assert nothing["measures"][0]["true_positives"] == 0


def test_masks_of_label_images(tmp_path: Path) -> None:
    truth, found = labels(tmp_path / "a.tif"), labels(tmp_path / "b.tif", shift=2)
    masks = finish(evaluate(found, truth))["segmentation"]
    assert masks["SEG"] == masks["IoU_of_pairs"] == masks["IoU_of_pixels"] == round(80 / 120, 6)
    assert (masks["AP50"], masks["F1"], masks["cells_true"], masks["cells_found"]) == (1.0, 1.0, 4, 4)
    masks = finish(evaluate(labels(tmp_path / "c.tif", shift=4), truth))["segmentation"]
    assert (masks["SEG"], masks["AP50"]) == (
        round(60 / 140, 6),
        0.0,
    )  # SEG asks for half of the cell, AP50 for half of both


def test_masks_of_an_annotation_are_painted(tmp_path: Path) -> None:
    truth = labels(tmp_path / "a.tif")
    result = written(tmp_path / "b.xml", read_tracks(truth, key="labels"))
    facts = finish(evaluate(result, truth))
    assert facts["segmentation"]["SEG"] == 1.0
    assert facts["measures"][0]["f1"] == 1.0
    balls = written(tmp_path / "b.csv", tracks().select(np.arange(7) < 4))
    points = finish(evaluate(balls, truth, Judging(reach=4.0)))
    assert points["matched_by"].startswith("masks")  # they are painted on the grid of the other
    assert (points["challenge"]["DET"], points["measures"][0]["recall"]) == (0.0, 0.5)  # 29 of 100 pixels are no cell
    longer = finish(evaluate(written(tmp_path / "c.csv", tracks()), truth, Judging(reach=4.0)))
    assert longer["matched_by"].startswith("centres of spots")
    assert "nothing says how it lies on the pixels" in " ".join(longer["notes"])


def test_folders_of_the_challenge(tmp_path: Path) -> None:
    pytest.importorskip("ctc_metrics")
    truth = written(tmp_path / "01_GT", read_tracks(labels(tmp_path / "a.tif"), key="labels"))
    (truth / "SEG").mkdir()
    for t in range(2):  # the markers are whole cells here
        (truth / "SEG" / f"man_seg{t:03}.tif").write_bytes((truth / "TRA" / f"man_track{t:03}.tif").read_bytes())
    result = written(tmp_path / "01_RES", read_tracks(labels(tmp_path / "b.tif", shift=2), key="labels"))
    facts = finish(evaluate(result, truth))
    challenge = facts["challenge"]
    assert (challenge["DET"], challenge["TRA"], challenge["LNK"], challenge["CT"]) == (1, 1, 1, 1)
    assert challenge["SEG"] == pytest.approx(80 / 120)
    assert challenge["OP_CSB"] == pytest.approx((80 / 120 + 1) / 2)
    assert challenge["BC(0)"] is None  # nothing divides
    assert facts["agreement"] == {f"py-ctcmetrics {facts['versions']['py-ctcmetrics']}": 0.0}


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    truth = written(tmp_path / "a.csv", tracks(unit="µm"))
    found = written(tmp_path / "b.csv", tracks())
    with pytest.raises(DataError, match=r"those of the truth are in µm, those of the result in pixel.*--voxel-size"):
        finish(evaluate(found, truth))
    with pytest.raises(DataError, match=r"The truth .* holds no spot"):
        finish(evaluate(found, written(tmp_path / "empty.csv", tracks().select(np.zeros(7, dtype=bool)))))
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, np.ones((2, 5, 5), np.uint8), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(DataError, match="must be equal"):
        finish(evaluate(small, labels(tmp_path / "l.tif")))
    with pytest.raises(ConfigError, match=r"must end in \.csv or \.json"):
        finish(evaluate(found, found, out=tmp_path / "m.txt"))
    with pytest.raises(ConfigError, match="it is an input"):
        finish(evaluate(found, found, out=found))


def test_scores_of_frames_add_up() -> None:
    one, two = np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int)
    one[0, :2], two[0, 2:] = 1, 1
    both = MaskScore.of(one, one) + MaskScore.of(one, two)
    found = both.to_dict()
    assert (found["SEG"], found["AP50"], found["IoU_of_pixels"]) == (0.5, 1 / 3, 8 / 24)
    assert all(np.isnan(MaskScore().to_dict()[name]) for name in ("SEG", "AP50", "F1"))
