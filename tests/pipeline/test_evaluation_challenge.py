"""The challenge's measures of files: folders, masks of planes, results that are not valid, truths that are sparse or small."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from bdv_io import Tracks
from bdv_io.ctc.table import read_table, table_text
from bdv_io.formats import read_tracks, write_tracks
from bdv_io.tags import Feature
from howdah.cli import app
from howdah.errors import ConfigError, DataError
from howdah.pipeline import finish
from howdah.pipeline.evaluation import Judging, evaluate

SHAPE = (3, 24, 40)


def folder(path: Path, *, shift: int = 0, table: str = "1 0 1 0\n2 2 2 1\n3 2 2 1\n", name: str = "mask") -> Path:
    """A cell in two frames; in the third there are its daughters. All are 10 x 10 pixels and three planes."""
    path.mkdir(parents=True)
    frames = np.zeros((3, *SHAPE), dtype=np.uint16)
    frames[:2, :, 5:15, 5 + shift : 15 + shift] = 1
    frames[2, :, 0:10, 5 + shift : 15 + shift] = 2
    frames[2, :, 12:22, 5 + shift : 15 + shift] = 3
    for t, frame in enumerate(frames):
        tifffile.imwrite(path / f"{name}{t:03}.tif", frame, photometric="minisblack", metadata=None)
    (path / ("res_track.txt" if name == "mask" else "man_track.txt")).write_text(table)
    return path


def truth(path: Path, planes: tuple[tuple[int, int], ...] = ()) -> Path:
    folder(path / "TRA", name="man_track")
    for frame, plane in planes:
        (path / "SEG").mkdir(exist_ok=True)
        mask = tifffile.imread(path / "TRA" / f"man_track{frame:03}.tif")[plane]
        tifffile.imwrite(path / "SEG" / f"man_seg_{frame:03}_{plane:03}.tif", mask, photometric="minisblack")
    return path


def judged(result: Path, true: Path, **how: Any) -> dict[str, Any]:
    return finish(evaluate(result, true, Judging(**how)))


def test_planes_are_scored_one_by_one(tmp_path: Path) -> None:
    true = truth(tmp_path / "01_GT", ((0, 0), (0, 2), (2, 1)))
    facts = judged(folder(tmp_path / "01_RES", shift=2), true)
    assert facts["challenge"]["SEG"] == pytest.approx(80 / 120)
    assert facts["segmentation"]["cells_true"] == 4  # one in each plane of frame 0, two in that of frame 2
    assert (facts["challenge"]["DET"], facts["challenge"]["TRA"], facts["challenge"]["BC(0)"]) == (1, 1, 1)
    shifted = tmp_path / "02_RES"
    shutil.copytree(tmp_path / "01_RES", shifted)
    for file in shifted.glob("*.tif"):
        tifffile.imwrite(file, tifffile.imread(file)[:1], photometric="minisblack")
    with pytest.raises(Exception, match=r"\(3, 24, 40\) pixels, those of the result \(1, 24, 40\)"):
        judged(shifted, true)


def test_markers_are_no_masks(tmp_path: Path) -> None:
    facts = judged(folder(tmp_path / "01_RES"), truth(tmp_path / "01_GT"))
    assert facts["challenge"]["SEG"] is facts["challenge"]["OP_CSB"] is None
    assert (facts["challenge"]["TRA"], facts["matched_by"][-16:]) == (1, "(markers in TRA)")
    assert any("SEG is not defined" in note for note in facts["notes"])
    assert facts["mistakes"] == dict.fromkeys(facts["mistakes"], 0)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("1 0 1 0\n2 2 2 1\n", "frame 2 has a cell 3, which the table of tracks does not have in that frame."),
        ("1 0 1 0\n2 2 2 1\n3 1 2 0\n", "track 3 is said to be in frame 1, but no cell there has this number."),
        ("1 0 2 0\n2 2 2 0\n3 2 2 0\n", "track 1 is said to be in frame 2, but no cell there has this number."),
    ],
)
def test_invalid_results_have_no_measures_but_a_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    true = truth(tmp_path / "01_GT", ((0, 0),))
    facts = judged(folder(tmp_path / "01_RES", table=table), true)
    assert f"The result is not valid: {sentence}" in facts["notes"]
    assert facts["challenge"].pop("SEG") == 1.0
    assert set(facts["challenge"].values()) == {None}
    assert facts["measures"][0]["f1"] == 1.0  # places need no table


def test_a_mask_that_is_missing_is_named(tmp_path: Path) -> None:
    true, result = truth(tmp_path / "01_GT"), folder(tmp_path / "01_RES", table="1 0 1 0\n")
    (result / "mask002.tif").unlink()
    facts = judged(result, true)
    assert facts["challenge"]["TRA"] is None
    assert "the result has no mask of frame 2 (1 frames in all)" in " ".join(facts["notes"])


def test_empty_result_and_single_frame(tmp_path: Path) -> None:
    true, result = truth(tmp_path / "01_GT"), folder(tmp_path / "01_RES", table="")
    for file in result.glob("*.tif"):
        tifffile.imwrite(file, np.zeros(SHAPE, np.uint16), photometric="minisblack")
    facts = judged(result, true)
    assert set(facts["challenge"].values()) == {None}
    assert "The result holds no track." in facts["notes"]
    assert facts["measures"][0]["recall"] == 0
    one = np.zeros((1, 20, 20), np.uint8)
    one[0, 3:9, 3:9] = 1
    tifffile.imwrite(tmp_path / "one.tif", one, imagej=True, metadata={"axes": "TYX"})
    single = judged(tmp_path / "one.tif", tmp_path / "one.tif")
    assert (single["challenge"]["DET"], single["challenge"]["SEG"], single["challenge"]["TRA"]) == (1, 1, None)
    assert "The truth has no links" in " ".join(single["notes"])


def test_deleting_divisions_may_raise_tra_and_is_told(tmp_path: Path) -> None:
    def rows(**links: Any) -> Tracks:
        t, x = [0, 0, 1, 1, 2, 2], [10.0, 30, 10, 30, 10, 30]
        return Tracks.build(t, np.stack([np.zeros(6), np.zeros(6), x], axis=1), radius=3.0, **links)

    write_tracks(tmp_path / "true.csv", rows(links=[(0, 2), (1, 3), (2, 4), (3, 5)]))
    write_tracks(tmp_path / "made.csv", rows(links=[(0, 2), (1, 3), (2, 4), (2, 5)]))
    facts = judged(tmp_path / "made-spots.csv", tmp_path / "true-spots.csv")
    assert facts["matched_by"].startswith("centres")
    assert facts["challenge"]["TRA"] == pytest.approx(1 - (1.5 + 1 + 1) / (60 + 6))
    assert facts["without_divisions"]["TRA"] == pytest.approx(1 - 3 / 66)
    assert any(
        note.startswith("TRA would be 0.9545 instead of 0.9470 without the divisions") for note in facts["notes"]
    )
    assert [row["false_positives"] for row in facts["divisions"]] == [1] * 6


def test_sparse_truth_leaves_out_what_it_cannot_say(tmp_path: Path) -> None:
    result = folder(tmp_path / "01_RES")
    some = read_tracks(result)
    true = tmp_path / "02_RES"
    write_tracks(true, some.select(some.t != 1))
    for file in true.glob("mask001.tif"):
        assert not tifffile.imread(file).any()
    facts = judged(result, true, sparse=True)
    assert facts["challenge"].pop("SEG") == 1.0
    assert set(facts["challenge"].values()) == {None}
    assert facts["segmentation"]["AP50"] is None
    assert "the truth is sparse" in " ".join(facts["notes"])
    assert (facts["measures"][0]["recall"], facts["measures"][0]["unknown"]) == (1, 1)


def test_a_truth_that_looks_sparse_is_told(tmp_path: Path) -> None:
    many = Tracks.build(np.zeros(9), [[0, 0, 20.0 * i] for i in range(9)], radius=3.0)
    write_tracks(tmp_path / "many.csv", many)
    write_tracks(tmp_path / "few.csv", many.select([0, 1]))
    facts = judged(tmp_path / "many-spots.csv", tmp_path / "few-spots.csv")
    assert (
        "The truth looks sparse: it holds 2 spots, of which 2 were found, but the result holds 9." in facts["notes"][0]
    )


def rows(n: int, frames: int, *, t0: int = 0, x0: float = 0, unit: str = "pixel") -> Tracks:
    """So many spots in so many frames, in a row, without links."""
    t = np.repeat(np.arange(frames), n) + t0
    places = [[0, 0, 20.0 * i + x0] for i in range(n)] * frames
    return Tracks.build(t, places, radius=3.0, space_unit=unit)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (rows(5, 2, t0=4), "No spot of the result lies within 3 pixel .* frames 0 to 2, .* the result frames 4 to 5"),
        (rows(5, 2, x0=900), "No spot of the result lies within 3 pixel"),
        (rows(5, 5), r"no spot in 2 frames where the result has 10 \(the first is frame 3\)"),
        (rows(9, 3), "The truth looks sparse: it holds 15 spots, of which 15 were found, but the result holds 27"),
    ],
    ids=["time", "place", "more frames", "more cells"],
)
def test_what_hardly_belongs_together_is_told(made: Tracks, sentence: str, tmp_path: Path) -> None:
    write_tracks(tmp_path / "true.mastodon", rows(5, 3))
    write_tracks(tmp_path / "made.mastodon", made)
    facts = judged(tmp_path / "made.mastodon", tmp_path / "true.mastodon")
    assert re.search(sentence, " ".join(facts["notes"]))
    silent = judged(tmp_path / "made.mastodon", tmp_path / "true.mastodon", sparse=True)
    assert not re.search("looks sparse|where the result has", " ".join(silent["notes"]))
    assert (silent["measures"][0]["false_positives"], silent["measures"][0]["precision"]) == (0, None)
    assert {row["f1"] for row in silent["distances"]} == {None}


def test_units_may_be_spelt_otherwise(tmp_path: Path) -> None:
    for name, unit in (("a", "µm"), ("b", "micron"), ("c", "mm")):
        write_tracks(tmp_path / f"{name}.mastodon", rows(3, 2, unit=unit))
    facts = judged(tmp_path / "a.mastodon", tmp_path / "b.mastodon")
    assert (facts["measures"][0]["f1"], facts["unit"]) == (1, "µm")
    with pytest.raises(DataError, match="truth are in mm, those of the result in µm"):
        judged(tmp_path / "a.mastodon", tmp_path / "c.mastodon")


def test_frames_that_no_movie_has(tmp_path: Path) -> None:
    write_tracks(tmp_path / "true.mastodon", rows(3, 2))
    write_tracks(tmp_path / "made.mastodon", rows(3, 2, t0=2_000_000_000))
    with pytest.raises(DataError, match="a spot in frame 2,000,000,001, where no movie ends"):
        judged(tmp_path / "made.mastodon", tmp_path / "true.mastodon")


def test_masks_that_nobody_has_cannot_be_matched(tmp_path: Path) -> None:
    write_tracks(tmp_path / "true.mastodon", rows(3, 2))
    with pytest.raises(DataError, match="neither has masks, and no movie says how large"):
        judged(tmp_path / "true.mastodon", tmp_path / "true.mastodon", match="masks")


def test_qualities_of_spots_links_and_features(tmp_path: Path) -> None:
    places = [[0, 0, 20.0 * i] for i in range(4)]
    links = [(0, 4), (1, 5), (2, 7), (3, 6)]
    true = Tracks.build([0] * 4 + [1] * 4, places * 2, radius=3.0, links=[(i, i + 4) for i in range(4)])
    made = Tracks.build(
        [0] * 4 + [1] * 4,
        [*places[:3], [0, 90, 0], *places],
        radius=3.0,
        links=links,
        quality=[0.9] * 3 + [0.2] + [0.8] * 4,
    )
    made = made.with_feature(Feature("Howdah link quality", "", np.array([0.9, 0.9, 0.3, 0.1]), target="link"))
    made = made.with_feature(Feature("Brightness", "Mean", np.array([50.0, 60, 70, 5, 60, 60, 60, 60])))
    write_tracks(tmp_path / "true.mastodon", true)
    write_tracks(tmp_path / "made.mastodon", made)
    facts = judged(tmp_path / "made.mastodon", tmp_path / "true.mastodon", quality=("brightness",))
    rows = {(row["of"], row["quality"]): row for row in facts["calibration"]}
    link = rows["links", "Howdah link quality"]
    assert (link["n"], link["n_right"], link["auc"]) == (4, 2, 1.0)
    assert link["ece"] == pytest.approx((2 * 0.1 + 0.3 + 0.1) / 4)
    intensity = rows["spots", "Brightness Mean"]
    assert (intensity["auc"], intensity["ece"], intensity["bins"]) == (1.0, None, [])
    assert any("is no probability" in note for note in facts["notes"])
    with pytest.raises(ConfigError, match=r"no feature 'colour'.*Brightness Mean, Howdah link quality"):
        judged(tmp_path / "made.mastodon", tmp_path / "true.mastodon", quality=("colour",))


def test_measures_can_be_chosen(tmp_path: Path) -> None:
    true, result = truth(tmp_path / "01_GT", ((0, 0),)), folder(tmp_path / "01_RES")
    assert list(judged(result, true, measures=("tra", "bc"))["challenge"]) == [
        "TRA",
        "BC(0)",
        "BC(1)",
        "BC(2)",
        "BC(3)",
    ]
    with pytest.raises(ConfigError, match="There is no measure 'MOTA'"):
        judged(result, true, measures=("mota",))


def test_report_and_tags(tmp_path: Path) -> None:
    true, result = truth(tmp_path / "01_GT"), folder(tmp_path / "01_RES", shift=4)
    names = {"out": tmp_path / "m.json", "report": tmp_path / "r.html", "tagged": tmp_path / "t.xml"}
    facts = finish(evaluate(result, true, Judging(reach=2.0), **names))
    assert all(facts[name] == str(path) for name, path in names.items())
    assert read_tracks(names["tagged"]).n_spots == 8  # four spots, and four that were missed
    assert json.loads(names["out"].read_text())["mistakes"]["spot missed"] == 4
    again = finish(evaluate(names["tagged"], true, Judging(reach=6.0)))
    assert again["measures"][0]["false_positives"] == 0  # what an evaluation added is none of the result's spots
    with pytest.raises(ConfigError, match=r"must end in \.html"):
        finish(evaluate(result, true, report=tmp_path / "r.pdf"))


def test_command_line_shows_what_fits(tmp_path: Path) -> None:
    true, result = truth(tmp_path / "01_GT", ((0, 0),)), folder(tmp_path / "01_RES")
    shown = CliRunner().invoke(
        app, ["evaluate", str(result), str(true), "--measures", "SEG,TRA,BC", "--frame-tolerance", "1"]
    )
    assert shown.exit_code == 0, shown.output
    assert "SEG 1, TRA 1, BC(0-3) 1" in shown.output
    assert "divisions ±2, mother and daughters" in shown.output
    whole = CliRunner().invoke(app, ["evaluate", str(result), str(true), "--json"])
    assert json.loads(whole.stdout)["corrections"]["AOGM"] == 0
    wrong = CliRunner().invoke(app, ["evaluate", str(result), str(true), "--measures", "HOTA"])
    assert wrong.exit_code == 2


def evaluated(result: Path, true: Path) -> dict[str, float | None]:
    """What py-ctcmetrics says of two folders."""
    from ctc_metrics import evaluate_sequence
    from ctc_metrics.metrics import ALL_METRICS

    with contextlib.redirect_stdout(io.StringIO()):
        found: dict[str, float | None] = evaluate_sequence(str(result), str(true), metrics=list(ALL_METRICS), threads=1)
    return found


@pytest.mark.real
@pytest.mark.parametrize("movie", ["c2c12-phase-2d", "tgmm-crop-3d"])
def test_same_numbers_as_the_library_on_real_folders(movie: str, real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctc_metrics")
    true, result = real_data / movie / "01_GT", tmp_path / "01_RES"
    made = read_tracks(true)
    rng = np.random.default_rng(5)
    write_tracks(result, replace(made, features=()).select(rng.random(made.n_spots) > 0.1))
    for number, file in enumerate(sorted(result.glob("*.tif"))):  # shapes that are a little off
        tifffile.imwrite(file, np.roll(tifffile.imread(file), number % 3, axis=-1), photometric="minisblack")
    table = read_table(result / "res_track.txt")
    (result / "res_track.txt").write_text(table_text(table))
    facts, theirs = judged(result, true), evaluated(result, true)
    assert next(iter(facts["agreement"].values())) < 1e-12
    for name, value in facts["challenge"].items():
        assert value == pytest.approx(theirs.get(name), abs=1e-9), name
    assert facts["challenge"]["TRA"] < 1
