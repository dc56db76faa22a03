"""Masks for spots that are there, from files to files, with a network that sees what is bright."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pipeline import perfect

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.label_image import read_labels
from bdv_io.masks import spots_of_frames
from bdv_io.tags import Feature, Tag
from howdah.errors import DataError
from howdah.methods.efficientcellseg import EfficientCellSegConfig, predict
from howdah.methods.efficientcellseg.maps import Maps
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, UNLABELLED_TAG
from howdah.nn.checkpoint import Weights
from howdah.nn.device import pick
from howdah.pipeline import Job, efficientcellseg_masks, finish
from howdah.pipeline.efficientcellseg_masks import MASK, masks_for_spots
from howdah.pipeline.truth import LabelFrames

DEPTH = 5
RED = Tag("red")


class BrightNetwork:
    """Says that what is bright is cell; ``beside`` notes whether there were frames before and after."""

    beside: list[tuple[bool, bool]] = []  # noqa: RUF012

    def __init__(self, weights, config=None, *, planes=None):
        self.config = config or EfficientCellSegConfig()
        self.place = pick("cpu")

    def maps(self, frame, *, earlier=None, later=None, time=None):
        self.beside.append((earlier is not None, later is not None))
        return Maps(np.where(frame > 300, 0.9, 0.1).astype(np.float32))


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "Network", BrightNetwork)
    monkeypatch.setattr(BrightNetwork, "beside", [])
    monkeypatch.setattr(
        efficientcellseg_masks, "read_weights_of", lambda *_: Weights(({},), {"method": "efficientcellseg"})
    )


@pytest.fixture(scope="module", params=[1, DEPTH], ids=["2D", "3D"])
def movie(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perfect.movie(tmp_path_factory.mktemp("movie"), request.param)


@pytest.fixture(scope="module")
def flat_movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perfect.movie(tmp_path_factory.mktemp("flat"), 1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    return file


def truth(movie: Path) -> list[np.ndarray]:
    depth = open_image(movie).shape(0)[0]
    return [perfect.labels(t, depth) for t in range(4)]


def spheres(movie: Path) -> Tracks:
    """A project of the cells as ellipsoids that are 15 % too small, half a pixel off, linked, tagged and named."""
    image = open_image(movie)
    found = spots_of_frames([(t, labels, image.affine(t)) for t, labels in enumerate(truth(movie))], outlines=False)
    n = len(found.t)
    row = {(int(t), int(name)): i for i, (t, name) in enumerate(zip(found.t, found.label, strict=True))}
    links = [(row[t - 1, name], i) for (t, name), i in row.items() if (t - 1, name) in row]
    tracks = Tracks.build(
        found.t,
        found.centre + np.array([0, 0.25, 0.25]),
        covariance=found.covariance * 0.72,
        links=links,
        label=[f"cell {i}" for i in range(n)],
        space_unit="µm",
    )
    tracks = tracks.with_tag_set("Colours", [RED]).with_tag("Colours", RED, spots=np.array([2]))
    tracks = tracks.with_feature(Feature("Size", "", np.arange(n, dtype=float)))
    return replace(tracks, attributes={"image": str(movie)})


def written(tracks: Tracks, folder: Path, movie: Path) -> Path:
    write_tracks(folder / "in.mastodon", tracks, image=open_image(movie))
    return folder / "in.mastodon"


def given(source: Path, out: Path, weights: Path, **more) -> dict:
    settings, frames = more.pop("settings", {}), more.pop("frames", None)
    return finish(masks_for_spots(Job(source, frames=frames), weights, out, settings=settings, **more))


def pixels(tracks: Tracks, movie: Path, t: int) -> np.ndarray:
    return LabelFrames(tracks, open_image(movie))(t)


def test_masks_follow_the_cells_and_all_else_stays(movie: Path, weights: Path, tmp_path: Path) -> None:
    before = spheres(movie)
    source = written(before, tmp_path, movie)
    flat = open_image(movie).shape(0)[0] == 1
    result = given(source, tmp_path / "out.tif", weights, also=[tmp_path / "out.mastodon"])
    n = before.n_spots
    assert {key: result[key] for key in ("spots", "masks", "masks_from_ellipsoids", "ellipsoids_replaced")} == {
        "spots": n,
        "masks": n,
        "masks_from_ellipsoids": 0,
        "ellipsoids_replaced": 0,
    }
    labels = read_labels(tmp_path / "out.tif")
    for t, true in enumerate(truth(movie)):
        found = pixels(labels, movie, t)
        assert np.mean((found > 0) == (true > 0)) > (0.999 if flat else 0.995)
    project = read_tracks(tmp_path / "out.mastodon")
    assert np.array_equal(project.links, before.links)
    assert project.label.tolist() == before.label.tolist()
    assert np.allclose(project.covariance, before.covariance)
    assert project.tagged("Colours", "red").tolist() == before.tagged("Colours", "red").tolist()
    assert project.feature("Size").values.tolist() == list(range(n))
    assert project.feature(MASK).values == pytest.approx(np.full(n, 0.9), abs=0.1)


def test_ellipsoids_of_a_machine_follow_their_masks_a_persons_only_when_asked(
    movie: Path, weights: Path, tmp_path: Path
) -> None:
    image, before = open_image(movie), spheres(movie)
    exact = spots_of_frames([(t, true, image.affine(t)) for t, true in enumerate(truth(movie))], outlines=False)
    machine = np.array([0, 1])
    marked = before.with_tag_set(DETECTION, DETECTION_TAGS).with_tag(DETECTION, UNLABELLED_TAG, spots=machine)
    unnamed = replace(
        marked, label=np.array([None] * before.n_spots, dtype=object)
    )  # a name would be a person's, as a link
    source = written(unnamed.select_links(np.empty(0, dtype=np.int64)), tmp_path, movie)
    assert given(source, tmp_path / "a.mastodon", weights, ellipsoids=True)["ellipsoids_replaced"] == 2
    some = read_tracks(tmp_path / "a.mastodon")
    assert np.allclose(some.centre[machine], exact.centre[machine], atol=0.15)
    assert np.allclose(some.centre[2:], before.centre[2:])
    assert some.tagged(DETECTION, UNLABELLED_TAG.name).sum() == 2
    result = given(source, tmp_path / "b.mastodon", weights, ellipsoids=True, everyone=True)
    assert result["ellipsoids_replaced"] == before.n_spots
    every = read_tracks(tmp_path / "b.mastodon")
    assert np.allclose(every.centre, exact.centre, atol=0.15)
    volume = np.sqrt(np.linalg.det(every.covariance) / np.linalg.det(exact.covariance))
    assert np.allclose(volume, 1, atol=0.1)


def test_outlines_that_a_person_drew_stay_and_are_not_covered(flat_movie: Path, weights: Path, tmp_path: Path) -> None:
    image, before = open_image(flat_movie), spheres(flat_movie)
    drawn = np.zeros(image.shape(0), dtype=np.int32)
    drawn[:, 40:48, 20:30] = 1  # a part of the second cell of frame 0
    rings = spots_of_frames([(0, drawn, image.affine(0))]).outlines
    hers = replace(before, outlines=replace(rings, spot=np.full(len(rings), 1, dtype=np.int64)))
    write_tracks(tmp_path / "in.xml", hers, image=image)
    given(tmp_path / "in.xml", tmp_path / "out.xml", weights)
    after = read_tracks(tmp_path / "out.xml")
    row = int(np.flatnonzero((after.t == 0) & (np.abs(after.centre - before.centre[1]).sum(axis=1) < 0.1))[0])
    found = pixels(after, flat_movie, 0)
    place = int(np.flatnonzero(np.flatnonzero(after.t == 0) == row)[0]) + 1
    assert np.array_equal(found == place, drawn > 0)


def test_spots_outside_and_frames_that_were_not_asked_for_stay_as_they_are(
    movie: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = spheres(movie)
    far = before.centre.copy()
    far[0] += 1000
    source = written(replace(before, centre=far), tmp_path, movie)
    labels = tmp_path / "out.tif"
    result = given(
        source, tmp_path / "out.mastodon", weights, frames="0-1", ellipsoids=True, everyone=True, also=[labels]
    )
    assert "1 of 4 spots lie outside" in caplog.text
    assert "1 cells whose centre lies outside of the image are left out of" in caplog.text
    assert read_labels(labels).n_spots == before.n_spots - 1
    assert result["masks"] == 3
    after = read_tracks(tmp_path / "out.mastodon")
    assert np.allclose(after.centre[0], far[0])
    assert np.allclose(after.centre[before.t > 1], before.centre[before.t > 1])


def test_spots_on_nothing_keep_their_ellipsoids_and_it_is_said(
    movie: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(BrightNetwork, "maps", lambda self, frame, **_: Maps(np.zeros(frame.shape, dtype=np.float32)))
    before = spheres(movie)
    source = written(before, tmp_path, movie)
    result = given(source, tmp_path / "out.mastodon", weights, ellipsoids=True, everyone=True)
    assert (result["masks"], result["masks_from_ellipsoids"]) == (before.n_spots, before.n_spots)
    assert result["ellipsoids_replaced"] == 0
    assert "the network saw no cell at" in caplog.text
    assert np.allclose(read_tracks(tmp_path / "out.mastodon").covariance, before.covariance)


def test_everyone_without_ellipsoids_is_said_to_do_nothing(
    movie: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = written(spheres(movie), tmp_path, movie)
    assert given(source, tmp_path / "out.mastodon", weights, everyone=True)["ellipsoids_replaced"] == 0
    assert "--everyone does nothing without --ellipsoids" in caplog.text


def test_two_spots_in_one_place_do_not_stop_it(movie: Path, weights: Path, tmp_path: Path) -> None:
    before = spheres(movie)
    centre = before.centre.copy()
    centre[1] = centre[0]
    source = written(replace(before, centre=centre), tmp_path, movie)
    assert given(source, tmp_path / "out.tif", weights)["masks"] == before.n_spots


def test_colours_of_time_get_the_frames_before_and_after(flat_movie: Path, weights: Path, tmp_path: Path) -> None:
    source = written(spheres(flat_movie), tmp_path, flat_movie)
    given(source, tmp_path / "out.tif", weights, settings={"efficientcellseg": {"colour": "time"}})
    assert BrightNetwork.beside == [(False, True), (True, True), (True, True), (True, False)]


def test_a_movie_without_spots_is_refused_with_what_to_do(movie: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 0 spots, but none .*Find cells first"):
        given(movie, tmp_path / "out.tif", weights)
