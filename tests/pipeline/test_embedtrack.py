"""EmbedTrack from files to files, with a network that says the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pipeline import perfect

from bdv_io import Tracks, UnsupportedError
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.label_image import read_labels
from bdv_io.masks import spots_of_frames
from bdv_io.tags import Tag
from howdah.errors import ConfigError, WeightsError
from howdah.methods.embedtrack import predict
from howdah.pipeline import Job, embedtrack, finish
from howdah.pipeline.embedtrack import track_embedtrack
from howdah.pipeline.machine_marks import MACHINE, marked, recognised
from howdah.pipeline.truth import LabelFrames

ENDINGS = ["a.xml", "a.mastodon", "a.tif", "a.ome.zarr", "01_RES", "a.geff", "a.csv"]


@pytest.fixture(autouse=True)
def truthful(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real weights, no real network."""
    monkeypatch.setattr(predict, "Network", perfect.PerfectNetwork)
    monkeypatch.setattr(embedtrack, "read_weights_of", lambda method, path: perfect.perfect_weights())


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perfect.movie(tmp_path_factory.mktemp("movie"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    return file


def tracked(movie: Path, out: Path, weights: Path, **more) -> Tracks:
    settings = more.pop("settings", {})
    result = finish(track_embedtrack(Job(movie), out, settings=settings, weights=weights, **more))
    assert Path(result["out"]).exists()
    return read_tracks(out)


def painted(tracks: Tracks, movie: Path, t: int) -> np.ndarray:
    return LabelFrames(tracks, open_image(movie))(t)


def test_a_movie_becomes_a_trackmate_file(movie: Path, weights: Path, tmp_path: Path) -> None:
    tracks = tracked(movie, tmp_path / "out.xml", weights)
    assert tracks.n_spots == sum(map(len, perfect.CELLS.values()))
    assert tracks.n_links == perfect.N_LINKS
    assert len(tracks.divisions()) == 1
    assert Path(tracks.attributes["image"]) == movie
    assert (tracks.quality > 0).all()
    assert tracks.space_unit == "µm"
    for t in range(4):
        np.testing.assert_array_equal(painted(tracks, movie, t) > 0, perfect.labels(t) > 0)
    first = tracks.t == 0
    area = tracks.feature("AREA").values[first]
    np.testing.assert_allclose(np.sort(area), np.sort(np.bincount(perfect.labels(0).ravel())[1:] * 0.25))
    assert tracks.feature("AREA").units == "µm^2"
    assert {"PERIMETER", "ECCENTRICITY", "ELLIPSE_THETA", "SOLIDITY", "MEAN_INTENSITY_CH1"} <= {
        f.name for f in tracks.features
    }
    assert tracks.tagged("Detection", "unlabeled").all()
    assert tracks.tagged("Tracking", "unlabeled", links=True).all()
    record = json.loads((tmp_path / "out.xml.howdah.json").read_text())
    assert record["divisions"] == 1
    assert record["settings_used"]["min_size"] == 10


def test_every_format_holds_the_same_cells(movie: Path, weights: Path, tmp_path: Path) -> None:
    first, *others = [tmp_path / name for name in ENDINGS]
    result = finish(track_embedtrack(Job(movie), first, settings={}, weights=weights, also=others))
    assert result["also"] == [str(path) for path in others]
    for path in (first, *others):
        labels = path.suffix in (".tif", ".zarr")
        written = path.with_name("a-spots.csv") if path.suffix == ".csv" else path
        tracks = read_labels(path) if labels else read_tracks(written)
        assert tracks.n_spots == 10, path
        assert tracks.n_links == (6 if labels else perfect.N_LINKS), path  # a label image knows no mothers
        order = np.lexsort((tracks.centre[:, 2], tracks.t))
        if path.name not in ("01_RES",):
            reference = read_tracks(first)
            same = np.lexsort((reference.centre[:, 2], reference.t))
            np.testing.assert_allclose(tracks.centre[order], reference.centre[same], atol=1e-3)


def test_divisions_come_from_the_linking_package_too(movie: Path, weights: Path, tmp_path: Path) -> None:
    settings = {"embedtrack": {"links": "linking"}, "linking": {"solver": "global", "max_distance": 4.0}}
    tracks = tracked(movie, tmp_path / "out.xml", weights, settings=settings)
    assert tracks.n_links == perfect.N_LINKS
    assert len(tracks.divisions()) == 1


def test_a_gap_is_closed_by_the_linking_package(
    movie: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perfect.PerfectNetwork, "missing", frozenset({(1, 1)}))
    settings = {"embedtrack": {"links": "linking"}, "linking": {"frame_gap": 2, "max_distance": 4.0}}
    tracks = tracked(movie, tmp_path / "out.xml", weights, settings=settings)
    assert tracks.tagged("Interpolated", "bridge").sum() == 1
    assert tracks.tagged("Detection", "unlabeled").all()
    assert tracks.tracks()[0] == 2


def test_what_a_person_outlined_stays_and_predictions_give_way(movie: Path, weights: Path, tmp_path: Path) -> None:
    hers = perfect.labels(1).copy()
    hers[hers != 1] = 0
    hers = np.roll(hers, 2, axis=2)  # she sees cell 1 a little to the right
    image = open_image(movie)
    found = spots_of_frames([(1, hers, image.affine(1))])
    mine = Tracks.build(
        found.t, found.centre, covariance=found.covariance, outlines=found.outlines, label=["hers"], space_unit="µm"
    )
    write_tracks(tmp_path / "mine.xml", mine, image=image)
    tracks = tracked(tmp_path / "mine.xml", tmp_path / "out.xml", weights)
    row = int(np.flatnonzero(tracks.label == "hers")[0])
    np.testing.assert_array_equal(tracks.centre[row], mine.centre[0])
    np.testing.assert_array_equal(painted(tracks.select([row]), movie, 1) > 0, hers > 0)
    assert tracks.n_spots == 10
    assert not tracks.tagged("Detection", "unlabeled")[row]
    assert tracks.n_links == perfect.N_LINKS
    assert tracks.n_parents()[row] == tracks.n_children()[row] == 1
    assert tracks.tracks()[0] == 2


def test_a_second_run_finds_the_machines_cells_anew_and_keeps_hers(movie: Path, weights: Path, tmp_path: Path) -> None:
    first = tracked(movie, tmp_path / "out.xml", weights)
    row = int(np.flatnonzero((first.t == 0) & (first.centre[:, 1] < 10))[0])
    shift = np.zeros((first.n_spots, 3))
    shift[row, 2] = 1.0  # as TrackMate drags a spot: place and outline move, all features stay
    moved = replace(first, centre=first.centre + shift, outlines=first.outlines.moved(shift))
    write_tracks(tmp_path / "corrected.xml", moved, image=open_image(movie))
    again = read_tracks(tmp_path / "corrected.xml")
    assert recognised(again).tagged("Detection", "unlabeled").sum() == first.n_spots - 1
    second = tracked(tmp_path / "corrected.xml", tmp_path / "second.xml", weights)
    assert second.n_spots == first.n_spots
    assert second.n_links == first.n_links
    hers = np.flatnonzero(~second.tagged("Detection", "unlabeled"))
    assert len(hers) == 1
    np.testing.assert_array_equal(second.centre[hers[0]], moved.centre[row])
    np.testing.assert_array_equal(second.id[hers[0]], moved.id[row])


def test_links_of_a_person_stay(movie: Path, weights: Path, tmp_path: Path) -> None:
    first = tracked(movie, tmp_path / "out.xml", weights)
    wrong = np.flatnonzero(first.t == 1)
    low, high = sorted(wrong.tolist(), key=lambda row: first.centre[row, 1])
    target = int(np.flatnonzero((first.t == 2) & (first.centre[:, 1] < 10))[0])
    cut = first.select_links(~((first.links[:, 0] == low) & (first.links[:, 1] == target)))
    hers = cut.with_links([[high, target]])  # untagged: a person's
    write_tracks(tmp_path / "linked.xml", hers, image=open_image(movie))
    second = tracked(tmp_path / "linked.xml", tmp_path / "second.xml", weights)
    pairs = {(int(second.id[a]), int(second.id[b])) for a, b in second.links.tolist()}
    assert (int(first.id[high]), int(first.id[target])) in pairs
    assert second.n_parents().max() == 1
    assert second.n_children().max() == 2
    assert second.n_spots == 10


def test_what_she_rejected_is_no_cell(movie: Path, weights: Path, tmp_path: Path) -> None:
    first = tracked(movie, tmp_path / "out.mastodon", weights)
    row = int(np.flatnonzero((first.t == 3) & (first.centre[:, 1] < 10))[0])
    judged = first.with_tag("Detection", Tag("fp"), spots=[row])
    write_tracks(tmp_path / "judged.mastodon", judged, image=open_image(movie))
    job = Job(tmp_path / "judged.mastodon")
    finish(
        track_embedtrack(
            job, tmp_path / "second.mastodon", settings={}, weights=weights, also=[tmp_path / "labels.tif"]
        )
    )
    second = read_tracks(tmp_path / "second.mastodon")
    assert second.tagged("Detection", "fp").sum() == 1
    assert second.n_spots == 10  # nothing new in its place
    assert second.n_links == perfect.N_LINKS - 1
    assert read_labels(tmp_path / "labels.tif").n_spots == 9


def test_frames_limit_what_is_found(movie: Path, weights: Path, tmp_path: Path) -> None:
    finish(track_embedtrack(Job(movie, frames="0,2-3"), tmp_path / "o.xml", settings={}, weights=weights))
    tracks = read_tracks(tmp_path / "o.xml")
    assert sorted(np.unique(tracks.t).tolist()) == [0, 2, 3]
    assert tracks.n_links == 3  # nothing over the frame that was left out


def test_a_result_without_any_cell_says_what_to_do(movie: Path, weights: Path, tmp_path: Path, caplog) -> None:
    settings = {"embedtrack": {"min_size": 10_000}}
    assert tracked(movie, tmp_path / "out.xml", weights, settings=settings).n_spots == 0
    assert "No cell was found in 4 frames" in caplog.text
    assert f"--start {weights}" in caplog.text


def test_volumes_too(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movie = perfect.movie(tmp_path, depth=5)
    with pytest.raises(WeightsError, match=r"trained on 2D images, but frames of .* have 5 planes"):
        tracked(movie, tmp_path / "out.mastodon", weights)
    monkeypatch.setattr(embedtrack, "read_weights_of", lambda method, path: perfect.perfect_weights(3))
    tracks = tracked(movie, tmp_path / "out.mastodon", weights, also=[tmp_path / "a.ome.zarr", tmp_path / "01_RES"])
    assert tracks.n_spots == 10
    assert tracks.n_links == perfect.N_LINKS
    assert tracks.feature("VOLUME").units == "µm^3"
    assert (
        tracks.feature("VOLUME").dimension == "NONE"
    )  # TrackMate and Mastodon refuse files with a word that is not theirs
    for path in (tmp_path / "a.ome.zarr", tmp_path / "01_RES"):
        found = read_labels(path) if path.suffix else read_tracks(path)
        assert found.n_spots == 10
    flat = perfect.movie(tmp_path)
    with pytest.raises(WeightsError, match=r"trained on volumes, but frames of .* have one plane"):
        tracked(flat, tmp_path / "flat.xml", weights)


@pytest.mark.parametrize(
    ("also", "sentence"),
    [(["out.xml"], "not possible twice"), (["movie.tif"], "it is an input"), (["a.jpg"], "no annotation format")],
)
def test_results_are_looked_at_before_any_work(movie: Path, weights: Path, also: list[str], sentence: str) -> None:
    more = [movie.with_name(name) for name in also]
    with pytest.raises((ConfigError, UnsupportedError), match=sentence):
        finish(track_embedtrack(Job(movie), movie.with_name("out.xml"), settings={}, weights=weights, also=more))
    assert not movie.with_name("out.xml").exists()


def test_the_mark_of_a_machine_survives_without_tags() -> None:
    made = Tracks.build([0, 0], [[0, 1, 2], [0, 5, 6]], radius=2.0)
    said = marked(made, spots=np.array([1]), links=np.empty(0, np.int64))
    bare = replace(said, tag_sets=())
    assert recognised(bare).tagged("Detection", "unlabeled").tolist() == [False, True]
    assert said.feature(MACHINE).defined.tolist() == [False, True]


def test_frames_in_the_middle_are_linked_to_what_is_around(movie: Path, weights: Path, tmp_path: Path) -> None:
    first = tracked(movie, tmp_path / "out.xml", weights)
    for settings in ({}, {"embedtrack": {"links": "linking"}, "linking": {"max_distance": 4.0}}):
        job = Job(tmp_path / "out.xml", frames="1")
        finish(track_embedtrack(job, tmp_path / "second.xml", settings=settings, weights=weights))
        second = read_tracks(tmp_path / "second.xml")
        assert (second.n_spots, second.n_links, second.tracks()[0]) == (10, perfect.N_LINKS, 2)
        outside = first.t != 1
        assert set(first.id[outside].tolist()) <= set(second.id.tolist())
        qualities = [f.name for f in second.features if "quality" in f.name]
        assert qualities == ["Howdah_link_quality"]


def test_a_cell_that_she_drew_over_a_rejected_one_keeps_its_pixels(movie: Path, weights: Path, tmp_path: Path) -> None:
    image = open_image(movie)
    found = [spots_of_frames([(0, perfect.labels(0) * (perfect.labels(0) == 1), image.affine(0))]) for _ in range(2)]
    both = Tracks.build(
        [0, 0],
        np.concatenate([f.centre for f in found]),
        covariance=np.concatenate([f.covariance for f in found]),
        space_unit="µm",
    )
    both = both.with_tag("Detection", Tag("fp"), spots=[1])
    write_tracks(tmp_path / "both.mastodon", both, image=image)
    tracks = tracked(tmp_path / "both.mastodon", tmp_path / "out.mastodon", weights)
    assert tracks.n_spots == 11
    assert tracks.n_links == perfect.N_LINKS
    assert tracks.n_children()[:2].tolist() == [1, 0]


def test_the_result_may_take_the_place_of_the_project(movie: Path, weights: Path, tmp_path: Path) -> None:
    tracked(movie, tmp_path / "out.xml", weights)
    again = tracked(tmp_path / "out.xml", tmp_path / "out.xml", weights)
    assert again.n_spots == 10
    assert (tmp_path / "out.xml~1~").exists()


def test_a_cancelled_run_writes_nothing(movie: Path, weights: Path, tmp_path: Path) -> None:
    steps = track_embedtrack(Job(movie), tmp_path / "out.xml", settings={}, weights=weights)
    stages = [next(steps).stage for _ in range(3)]
    steps.close()
    assert stages == ["cells"] * 3
    assert not (tmp_path / "out.xml").exists()
