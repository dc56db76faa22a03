"""TAP from files to files: training and its pictures, maps, features and events, on a movie of six tiny frames."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pipeline.growing import FRAMES, SIZE, TINY, movie, network, pixels

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.tags import Tag
from howdah.errors import ConfigError, DataError, WeightsError
from howdah.lineages.protection import protected
from howdah.methods.elephant.merge import replaceable
from howdah.pipeline import Job, finish
from howdah.pipeline.tap import train_tap
from howdah.pipeline.tap_events import Listing, events_tap
from howdah.pipeline.tap_maps import embed_tap, map_tap

pytest.importorskip("torch")
SETTINGS = {"tap": TINY}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tap")
    movie(folder)
    network(folder)
    return folder


def test_training_leaves_weights_a_record_and_pictures(place: Path, tmp_path: Path) -> None:
    weights, pictures = tmp_path / "w.safetensors", tmp_path / "pictures"
    jobs = [Job(place / "movie.tif"), Job(place / "movie.tif", frames="0-4")]
    result = finish(train_tap(jobs, weights, settings=SETTINGS, pictures=pictures))
    assert (result["movies"], result["frames"]) == (2, FRAMES + 5)
    record = json.loads((tmp_path / "w.safetensors.howdah.json").read_text())
    assert record["task"] == "tap-train"
    assert len(record["curve"]) == 2
    assert {path.name for path in pictures.iterdir()} == {"curves.png", "arrow.png"}
    assert {"image 1", "image 2"} <= set(record["inputs"])


def test_a_stopped_training_leaves_weights_and_goes_on(place: Path, tmp_path: Path) -> None:
    weights, job = tmp_path / "w.safetensors", Job(place / "movie.tif")
    steps = train_tap([job], weights, settings=SETTINGS)
    for _ in range(3):
        next(steps)
    steps.close()
    assert weights.is_file()
    said = []
    finish(train_tap([job], weights, settings=SETTINGS), lambda step: said.append(step.message))
    assert any("Going on at step 2" in message for message in said)


@pytest.mark.parametrize("name", ["map.tif", "map.ome.zarr", "map.xml"])
def test_a_map_has_the_calibration_of_the_movie(place: Path, tmp_path: Path, name: str) -> None:
    result = finish(
        map_tap(Job(place / "movie.tif"), tmp_path / name, weights=place / "network.safetensors", settings={})
    )
    image = open_image(tmp_path / name)
    assert image.setups[0].voxel_size == pytest.approx((1.0, 0.5, 0.5))
    assert (image.n_frames, image.setups[0].shape, image.interval) == (FRAMES, (1, *SIZE), (60.0, "s"))
    assert image.read(2).max() > 0
    assert not image.read(FRAMES - 1).any()  # it has no later frame
    assert result["frames"] == FRAMES - 1


def test_an_overlay_and_chosen_frames(place: Path, tmp_path: Path) -> None:
    job = Job(place / "movie.tif", frames="1-2")
    finish(map_tap(job, tmp_path / "m.tif", weights=place / "network.safetensors", settings={}, overlay=True))
    image, raw = open_image(tmp_path / "m.tif"), open_image(place / "movie.tif")
    assert [setup.name for setup in image.setups] == ["channel 1", "evidence"]
    assert np.array_equal(image.read(3, 0), raw.read(3))
    assert [bool(image.read(t, 1).any()) for t in range(FRAMES)] == [False, True, True, False, False, False]


def test_maps_in_order_are_those_computed_one_by_one(place: Path, tmp_path: Path) -> None:
    weights = place / "network.safetensors"
    finish(map_tap(Job(place / "movie.tif"), tmp_path / "all.tif", weights=weights, settings={}))
    finish(map_tap(Job(place / "movie.tif", frames="4"), tmp_path / "one.tif", weights=weights, settings={}))
    both = [open_image(tmp_path / name).read(4) for name in ("all.tif", "one.tif")]
    assert np.allclose(*both, rtol=1e-5)


def test_a_blank_movie_has_no_events(place: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "blank.tif", ArrayImage(np.zeros((3, 1, 1, *SIZE), np.uint8)))
    with pytest.raises(DataError, match=r"all frames are blank \(one value everywhere\)\. Is it the right channel"):
        finish(
            events_tap(
                Job(tmp_path / "blank.tif"), tmp_path / "e.csv", weights=place / "network.safetensors", settings={}
            )
        )


def test_blank_frames_have_no_events(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pixels()
    found[3:] = 7
    write_image(tmp_path / "half.tif", ArrayImage(found))
    monkeypatch.setattr(logging.getLogger("howdah"), "propagate", True)
    with caplog.at_level("WARNING", logger="howdah"):
        finish(
            events_tap(
                Job(tmp_path / "half.tif"), tmp_path / "e.mastodon", weights=place / "network.safetensors", settings={}
            )
        )
    assert read_tracks(tmp_path / "e.mastodon").t.max() == 2
    assert "No event is looked for in 2 frames" in caplog.text


def test_spots_of_events_are_as_large_as_a_cell(place: Path, tmp_path: Path) -> None:
    weights = place / "network.safetensors"
    finish(events_tap(Job(place / "movie.tif"), tmp_path / "e.mastodon", weights=weights, settings={}))
    size = np.sqrt(np.linalg.eigvalsh(read_tracks(tmp_path / "e.mastodon").covariance[0]))
    assert size == pytest.approx(16 / 6 * 0.5, rel=1e-4)  # a sixth of the crop, half a micrometre a pixel


def test_weights_are_not_written_over_those_they_start_from(place: Path, tmp_path: Path) -> None:
    weights = place / "network.safetensors"
    with pytest.raises(ConfigError, match=r"network\.safetensors is not possible: it is an input"):
        finish(train_tap([Job(place / "movie.tif")], weights, settings=SETTINGS, start=weights))


def test_how_long_it_takes_is_said(place: Path, tmp_path: Path) -> None:
    settings, said = {"tap": {**TINY, "n_epochs": 4}}, []
    steps = train_tap([Job(place / "movie.tif")], tmp_path / "w.safetensors", settings=settings)
    finish(steps, lambda step: said.append(step.message))
    assert sum("At this speed all 4 passes take" in one for one in said) == 1


def test_a_folder_of_weights_is_named_as_one(place: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"it is a folder\. Name the file in it"):
        finish(events_tap(Job(place / "movie.tif"), tmp_path / "e.csv", weights=tmp_path, settings={}))


def test_a_movie_of_one_frame_has_no_map(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 1 frames has a frame 1 later"):
        finish(
            map_tap(
                Job(place / "movie.tif", frames="5"),
                tmp_path / "m.tif",
                weights=place / "network.safetensors",
                settings={},
            )
        )


def test_features_are_channels(place: Path, tmp_path: Path) -> None:
    settings = {"tap": {"memory_mb": 0.1}}  # too little to hold four frames: they go through a file
    for name, given in (("a.ome.zarr", {}), ("b.ome.zarr", settings)):
        finish(
            embed_tap(Job(place / "movie.tif"), tmp_path / name, weights=place / "network.safetensors", settings=given)
        )
    first, second = (open_image(tmp_path / name) for name in ("a.ome.zarr", "b.ome.zarr"))
    assert [setup.name for setup in first.setups] == [f"feature {i}" for i in range(1, 5)]
    assert np.allclose(first.read(3, 2), second.read(3, 2), atol=1e-4)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_events_of_a_movie_are_ranked_spots(place: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "e.mastodon", tmp_path / "e.csv"
    result = finish(
        events_tap(
            Job(place / "movie.tif"),
            out,
            weights=place / "network.safetensors",
            settings={},
            also=[table, tmp_path / "e.xml"],
            map_to=tmp_path / "m.tif",
            listing=Listing(top=12),
        )
    )
    tracks = read_tracks(out)
    assert tracks.n_spots == result["events"] == 12
    assert tracks.label.tolist() == [f"#{i:02d}" for i in range(1, 13)]
    assert tracks.tagged("TAP", "event").all()
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[0] == ["rank", "t", "z", "y", "x", "quality"]
    assert float(rows[1][3]) == pytest.approx(tracks.centre[0, 1])
    assert (np.diff([float(row[5]) for row in rows[1:]]) <= 0).all()
    assert read_tracks(tmp_path / "e.xml").n_spots == 12
    assert (tmp_path / "m.tif").is_file()


def her_project(place: Path, folder: Path) -> tuple[Path, Path]:
    """Write a project with a spot near each of the three best events, two of them linked; return it, and the weights."""
    weights, found = place / "network.safetensors", folder / "found.geff"
    finish(events_tap(Job(place / "movie.tif"), found, weights=weights, settings={}, listing=Listing(top=0)))
    best = read_tracks(found).select(np.arange(3))
    hers = Tracks.build(
        [*best.t, 0], [*(best.centre + np.array([0, 0.3, -0.2])), [0, 50, 50]], radius=1.0, space_unit="µm"
    )
    hers = hers.with_tag("state", Tag("round"), spots=np.array([0, 1]))
    write_tracks(folder / "hers.mastodon", hers, image=open_image(place / "movie.tif"))
    return folder / "hers.mastodon", weights


def test_events_lie_on_the_spots_of_a_project_and_change_nothing_else(place: Path, tmp_path: Path) -> None:
    source, weights = her_project(place, tmp_path)
    before, out = read_tracks(source), tmp_path / "out.mastodon"
    result = finish(events_tap(Job(source), out, weights=weights, settings={}, listing=Listing(top=0)))
    after = read_tracks(out)
    assert result["on_spots"] == 3
    assert after.n_spots == before.n_spots + result["events"] - 3
    assert np.array_equal(after.centre[:4], before.centre)
    assert after.label[:4].tolist() == before.label.tolist()
    assert np.array_equal(after.tag_set("state").spots[:4], before.tag_set("state").spots)
    assert after.tagged("TAP", "event").sum() == result["events"]
    assert after.feature("TAP rank").values[:3].tolist() == [1, 2, 3]
    machine = after.tagged("Detection", "unlabeled")
    assert machine.sum() == after.n_spots - 4
    apart = finish(events_tap(Job(source), out, weights=weights, settings={}, listing=Listing(top=0, apart=True)))
    assert apart["on_spots"] == 0


def test_events_again_replace_those_of_before_but_not_what_a_person_said(place: Path, tmp_path: Path) -> None:
    source, weights = her_project(place, tmp_path)
    out, all_of_them = tmp_path / "out.xml", Listing(top=0)
    finish(events_tap(Job(source), out, weights=weights, settings={}, listing=all_of_them))
    first = read_tracks(out)
    n_events, hers = int(first.tagged("TAP", "event").sum()), np.flatnonzero(first.tagged("state", "round"))
    said = first.with_tag("TAP", Tag("nothing"), spots=hers[:1])
    tags = said.tag_set("TAP")
    column = tags.spots.copy()
    column[hers[1]] = -1  # she took the tag away
    write_tracks(out, said.with_tags(replace(tags, spots=column)), image=open_image(place / "movie.tif"))
    finish(events_tap(Job(out), tmp_path / "again.mastodon", weights=weights, settings={}, listing=all_of_them))
    again = read_tracks(tmp_path / "again.mastodon")
    assert again.n_spots == first.n_spots
    assert again.tagged("TAP", "nothing").sum() == 1
    assert again.tagged("TAP", "event").sum() == n_events - 2


def test_other_channels_than_the_network_sees_are_refused(place: Path, tmp_path: Path) -> None:
    two = movie(tmp_path, "two.tif", channels=2)
    with pytest.raises(ConfigError, match=r"2 channels were chosen, but the network in .* was trained on 1"):
        finish(
            map_tap(
                Job(two),
                tmp_path / "m.tif",
                weights=place / "network.safetensors",
                settings={"tap": {"channels": (0, 1)}},
            )
        )
    wide = network(tmp_path, channels=2)
    assert finish(map_tap(Job(two), tmp_path / "m.tif", weights=wide, settings={}))["frames"] == FRAMES - 1


def test_a_result_never_replaces_an_input(place: Path, tmp_path: Path) -> None:
    weights = place / "network.safetensors"
    with pytest.raises(ConfigError, match="it is an input"):
        finish(map_tap(Job(place / "movie.tif"), place / "movie.tif", weights=weights, settings={}))
    with pytest.raises(ConfigError, match="named twice"):
        finish(
            events_tap(
                Job(place / "movie.tif"), tmp_path / "e.xml", weights=weights, settings={}, also=[tmp_path / "e.xml"]
            )
        )


def test_a_tag_of_tap_does_not_make_a_spot_a_persons() -> None:
    found = Tracks.build([0, 1], np.zeros((2, 3)), radius=1.0).with_tag(
        "Detection", Tag("unlabeled"), spots=np.arange(2)
    )
    told = found.with_tag("TAP", Tag("event"), spots=np.arange(2)).with_tag(
        "TAP state", Tag("round"), spots=np.arange(2)
    )
    assert replaceable(told).all()
    assert not protected(told).spots.any()
    assert protected(told.with_tag("state", Tag("round"), spots=np.arange(2))).spots.all()


def test_a_project_that_mastodon_has_saved_can_be_worked_on_again(place: Path, tmp_path: Path) -> None:
    source, weights = her_project(place, tmp_path)
    out, every = tmp_path / "out.mastodon", Listing(top=0)
    finish(events_tap(Job(source), out, weights=weights, settings={}, listing=every))
    first = read_tracks(out)
    renamed = [replace(f, name="TrackMate Spot features", projection=f.name) for f in first.features]  # as it does
    write_tracks(out, replace(first, features=tuple(renamed)), image=open_image(place / "movie.tif"))
    finish(events_tap(Job(out), tmp_path / "again.mastodon", weights=weights, settings={}, listing=every))
    again = read_tracks(tmp_path / "again.mastodon")
    assert again.n_spots == first.n_spots
    assert sorted(f.name for f in again.features) == sorted(f.name for f in first.features)
