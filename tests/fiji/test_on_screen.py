"""The scripts with ImageJ's windows, on a virtual screen: overlay, ROI Manager, tables, macros, the dialog of an error."""

from __future__ import annotations

import json
from pathlib import Path

from fiji.conftest import RealJava
from pipeline import growing, perfect

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.label_image import tracks_of_labels

ON_SCREEN = Path(__file__).with_name("on_screen.py")
QUICK = "embedtrack.n_epochs=1; embedtrack.n_crops=2; embedtrack.batch_size=1; embedtrack.crop_size=[32,32]; embedtrack.device=cpu"
LOOSE = "embedtrack.foreground_threshold=0; embedtrack.min_size=1; embedtrack.test_time=none; embedtrack.device=cpu"


def outlined(movie: Path) -> Path:
    """A TrackMate file in which a person outlined the cells of two frames."""
    found = tracks_of_labels(ArrayImage([perfect.labels(t) for t in range(2)], voxel_size=(1.0, 0.5, 0.5), unit="µm"))
    tracks = Tracks.build(
        found.t, found.centre, covariance=found.covariance, outlines=found.outlines, links=found.links, space_unit="µm"
    )
    path = movie.with_name("outlined.xml")
    write_tracks(path, tracks, image=open_image(movie))
    return path


def test_the_scripts_on_a_screen(real_java: RealJava, virtual_display: str) -> None:
    work = real_java.work
    movie = perfect.movie(work)
    told = {
        "scripts": real_java.script(""),
        "movie": movie,
        "outlined": outlined(movie),
        "weights": work / "cells.safetensors",
        "network": growing.network(work),
        "quick": QUICK,
        "loose": LOOSE,
        "seen": work / "seen.json",
    }
    for name in ("records", "pictures"):
        (work / name).mkdir()
        told[name] = work / name
    (work / "told.json").write_text(json.dumps(told, default=str))
    screen = (virtual_display, "-a", "-s", "-screen 0 1100x720x24")
    done = real_java.run("--run", str(ON_SCREEN), f'told="{work / "told.json"}"', before=screen)
    records = {path.stem: json.loads(path.read_text()) for path in (work / "records").glob("*.json")}
    output = (done.stdout + done.stderr, {name: record["sentence"] for name, record in records.items()})
    assert (work / "seen.json").is_file(), output
    seen = json.loads((work / "seen.json").read_text())
    assert {name: record["code"] for name, record in records.items() if record["code"]} == {"Convert_a_file.py": 2}, (
        output
    )
    cells = read_tracks(work / "movie-tracks.xml")
    assert seen["overlay"] == seen["manager"] == cells.n_spots > 0
    assert seen["macro"] == f"{cells.n_spots} {cells.n_spots}"
    assert seen["colours"] > 1
    assert "Howdah events" in seen["tables"]
    events = (work / "movie-events.csv").read_text().splitlines()[1:]
    assert seen["point"] == [int(events[1].split(",")[1]) + 1, "Point"]
    assert seen["map"] == ["movie-arrow.tif", 2, 4, True]
    assert seen["dialog"] == "Howdah: Convert a file"
    assert sum(line.startswith("Howdah: ") for line in seen["log"].splitlines()) == len(records)
    assert all((work / "pictures" / f"{name}.png").stat().st_size > 5000 for name in ("tracked", "dialog", "log"))
