"""What the real Mastodon read from each project (``expected/``), we read too; and what we write reads back equal."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdv_io import Tracks
from bdv_io.mastodon import is_mastodon, read_mastodon, write_mastodon

PROJECTS = {
    "parhyale-3d_sample.mastodon": "parhyale-3d/sample.mastodon",
    "tgmm-3d_tgmm-mini.mastodon": "tgmm-3d/tgmm-mini.mastodon",
    "tgmm-crop-3d_tgmm-mini_27_31.mastodon": "tgmm-crop-3d/tgmm-mini_27_31.mastodon",
    "written-by-java_synth.mastodon": "written-by-java/synth.mastodon",
    "faketracks_mamutproject": "faketracks/mamutproject",
    "mastodon-projects_astec_Pm07.mastodon": "mastodon-projects/astec/Pm07.mastodon",
    "mastodon-projects_features_mamutproject.mastodon": "mastodon-projects/features/mamutproject.mastodon",
    "mastodon-projects_lineages_lineage_clustering.mastodon": "mastodon-projects/lineages/lineage_clustering.mastodon",
    "mastodon-projects_lineagetree_test.mastodon": "mastodon-projects/lineagetree/test.mastodon",
    "mastodon-projects_tags_project6.mastodon": "mastodon-projects/tags/project6.mastodon",
    "mastodon-projects_tiny_tiny-project.mastodon": "mastodon-projects/tiny/tiny-project.mastodon",
    "mastodon-projects_tiny-missing-hdf5_tiny-project.mastodon": "mastodon-projects/tiny-missing-hdf5/tiny-project.mastodon",
    "mastodon-projects_tiny-no-image_tiny-project-backup-dataset-xml.mastodon": (
        "mastodon-projects/tiny-no-image/tiny-project-backup-dataset-xml.mastodon"
    ),
    "mastodon-projects_tiny-os_tiny-project-linux.mastodon": "mastodon-projects/tiny-os/tiny-project-linux.mastodon",
    "mastodon-projects_tiny-os_tiny-project-windows.mastodon": "mastodon-projects/tiny-os/tiny-project-windows.mastodon",
}

pytestmark = pytest.mark.real


@pytest.fixture(params=PROJECTS, ids=lambda name: name.removesuffix(".mastodon"))
def golden(request: pytest.FixtureRequest, real_data: Path) -> tuple[Path, Tracks, dict[str, Any]]:
    with gzip.open(real_data / "expected" / f"{request.param}.json.gz", "rt", encoding="utf-8") as file:
        expected = json.load(file)
    path = real_data / PROJECTS[request.param]
    return path, read_mastodon(path), expected


def test_every_golden_project_is_in_the_list(real_data: Path) -> None:
    named = {path.name.removesuffix(".json.gz") for path in (real_data / "expected").glob("*.json.gz")}
    assert {name for name in named if name.endswith(".mastodon")} <= PROJECTS.keys()


def test_project_facts(golden: tuple[Path, Tracks, dict[str, Any]], real_data: Path) -> None:
    path, tracks, expected = golden
    assert is_mastodon(path)
    assert tracks.n_spots == expected["n_spots"]
    assert tracks.n_links == expected["n_links"]
    if "space_units" in expected:
        assert (tracks.space_unit, tracks.time_unit) == (expected["space_units"], expected["time_units"])
    image = Path(tracks.attributes["image"])
    wanted = expected["image_path"]
    if not wanted.startswith("synth"):
        assert image.as_posix().endswith(wanted)


def test_spots(golden: tuple[Path, Tracks, dict[str, Any]]) -> None:
    _, tracks, expected = golden
    spots = expected["spots"]
    assert tracks.id.tolist() == [spot["index"] for spot in spots]
    assert tracks.t.tolist() == [spot["t"] for spot in spots]
    if spots:
        centre = np.array([[spot["z"], spot["y"], spot["x"]] for spot in spots])
        assert np.array_equal(tracks.centre, centre)
        covariance = np.array([spot["covariance"] for spot in spots])[:, ::-1, ::-1]
        assert np.array_equal(tracks.covariance, covariance)
        bounding = [spot["bounding_sphere_radius_squared"] for spot in spots]
        assert np.array_equal(next(iter(tracks.carried.spots.values())), bounding)
    assert tracks.label.tolist() == [spot["label"] if spot["label_set"] else None for spot in spots]
    assert_tags(tracks, [spot["tags"] for spot in spots], "spots")


def test_links(golden: tuple[Path, Tracks, dict[str, Any]]) -> None:
    _, tracks, expected = golden
    links = expected["links"]
    assert tracks.links.tolist() == [[link["source"], link["target"]] for link in links]
    assert_tags(tracks, [link["tags"] for link in links], "links")
    children: dict[int, list[int]] = {}
    for row, link in enumerate(links):
        children.setdefault(link["source"], []).append(row)
    places = tracks.carried.links["place_among_outgoing"]
    for rows in children.values():
        wanted = sorted(rows, key=lambda row: links[row]["source_out_index"])
        assert sorted(rows, key=lambda row: places[row]) == wanted


def assert_tags(tracks: Tracks, expected: list[dict[str, str]], what: str) -> None:
    for tags in tracks.tag_sets:
        found = [tags.tags[code].name if code >= 0 else None for code in getattr(tags, what).tolist()]
        assert found == [carried.get(tags.name) for carried in expected]


def test_tag_sets(golden: tuple[Path, Tracks, dict[str, Any]]) -> None:
    _, tracks, expected = golden
    assert [tags.name for tags in tracks.tag_sets] == [tags["name"] for tags in expected["tag_sets"]]
    for tags, wanted in zip(tracks.tag_sets, expected["tag_sets"], strict=True):
        assert [(tag.name, tag.colour) for tag in tags.tags] == [
            (tag["label"], int(tag["color"], 16)) for tag in wanted["tags"]
        ]


def test_stored_features(golden: tuple[Path, Tracks, dict[str, Any]]) -> None:
    """Mastodon computes some features anew; what is stored agrees with them, spot by spot and link by link."""
    path, tracks, expected = golden
    known = {feature["key"]: {p["key"]: p for p in feature["projections"]} for feature in expected["features"]}
    compared = 0
    for feature in tracks.features:
        wanted = known.get(feature.name, {}).get(feature.projection or feature.name)
        if wanted is None or feature.target == "branch":
            continue
        if path.name == "test.mastodon" and feature.name != "Track N spots":
            continue
        for row, value in wanted["values"].items():
            if feature.defined is None or feature.defined[int(row)]:
                assert feature.values[int(row)] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True)
                compared += 1
    if path.name == "synth.mastodon":
        assert compared > 200


def test_writing_what_was_read_changes_nothing(golden: tuple[Path, Tracks, dict[str, Any]], tmp_path: Path) -> None:
    path, tracks, _ = golden
    target = tmp_path / "again.mastodon"
    write_mastodon(target, tracks)
    again = read_mastodon(target)
    assert_equal(again, tracks)
    assert Path(again.attributes["image"]) == Path(tracks.attributes["image"])
    if path.is_file():
        before, after = entries(path), entries(target)
        changed = {"model.raw", "project.xml"}
        assert {name: data for name, data in after.items() if name not in changed} | {
            name: before[name] for name in changed & before.keys()
        } == {"gui.xml": after["gui.xml"], **before}


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}


def assert_equal(a: Tracks, b: Tracks) -> None:
    for name in ("t", "centre", "covariance", "quality", "links"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "quality"), name
    assert a.label.tolist() == b.label.tolist()
    assert (a.space_unit, a.time_unit) == (b.space_unit, b.time_unit)
    assert [tags.name for tags in a.tag_sets] == [tags.name for tags in b.tag_sets]
    for mine, theirs in zip(a.tag_sets, b.tag_sets, strict=True):
        assert mine.tags == theirs.tags
        assert np.array_equal(mine.spots, theirs.spots)
        assert np.array_equal(mine.links, theirs.links)
    assert [f.key for f in a.features] == [f.key for f in b.features]
    for one, other in zip(a.features, b.features, strict=True):
        assert np.array_equal(one.values, other.values, equal_nan=one.values.dtype.kind == "f")
    for name, column in b.carried.links.items():
        assert np.array_equal(a.carried.links[name], column), name
    for name, column in b.carried.spots.items():
        assert np.array_equal(a.carried.spots[name], column), name
