"""The command line as a user meets it: help, settings, exit codes, one sentence for each kind of bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bdv_io import Tracks
from bdv_io.bdv import write_bdv
from bdv_io.formats import open_image, read_tracks, write_tracks
from howdah.cli import app

ROOT = Path(__file__).resolve().parent.parent


def howdah(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{ROOT}",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "howdah", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, for tests of many commands: a start is most of a small command's time."""
    done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def refused(*arguments: object, folder: Path | None = None, run: Callable[..., Any] = howdah) -> str:
    """Run a command that must end with exit code 2; return its one sentence."""
    done = run(*arguments, folder=folder) if folder else run(*arguments)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def refused_here(*arguments: object) -> str:
    """The same in this process."""
    return refused(*arguments, run=here)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bright balls in three small frames, as BDV XML/HDF5 with a project that marks one of them."""
    folder = tmp_path_factory.mktemp("movie")
    z, y, x = np.mgrid[:12, :32, :32]
    frames = []
    for t in range(3):
        frame = np.full((12, 32, 32), 100.0)
        for cz, cy, cx in ((6, 10, 10 + t), (6, 22, 22 - t)):
            frame += 900 * np.exp(-((z - cz) ** 2 / 4 + (y - cy) ** 2 / 9 + (x - cx) ** 2 / 9))
        frames.append(frame.astype(np.uint16))
    write_bdv(folder / "movie.xml", frames, voxel_size=(2.0, 1.0, 1.0), unit="µm")
    marks = Tracks.build([0], [[12.0, 10.0, 10.0]], radius=4.0, space_unit="µm")
    write_tracks(folder / "marks.mastodon", marks, image=open_image(folder / "movie.xml"))
    return folder


def test_help_names_every_verb() -> None:
    done = howdah("--help")
    assert done.returncode == 0
    for verb in ("info", "methods", "train", "predict", "link", "track", "convert", "demo", "doctor"):
        assert verb in done.stdout


def test_options_are_the_fields_of_the_settings() -> None:
    from howdah.methods.elephant.config import ElephantConfig

    help_text = howdah("train", "--help").stdout
    for name in ElephantConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in help_text


def test_methods_state_the_exact_parameter_counts() -> None:
    lines = [json.loads(line) for line in howdah("methods", "--json").stdout.splitlines()]
    elephant = next(line for line in lines if line["method"] == "elephant")
    assert elephant["networks"]["detection"]["parameters"] == 5_887_011
    assert {"name", "default", "description"} <= elephant["settings"][0].keys()


def test_doctor_answers() -> None:
    report = json.loads(howdah("doctor", "--json").stdout)
    assert {"python", "device", "java", "ready", "advice"} <= report.keys()


def test_info_says_what_is_in_a_file_and_goes_on_after_a_bad_one(movie: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mastodon"
    bad.write_bytes(b"this is no zip")
    done = howdah("info", "--json", movie / "movie.xml", bad, movie / "marks.mastodon")
    image, error, project = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 2
    assert image["frames"] == 3
    assert image["setups"][0]["shape_zyx"] == [12, 32, 32]
    assert image["setups"][0]["voxel_size_zyx"] == [2.0, 1.0, 1.0]
    assert error["path"] == str(bad)
    assert "no Mastodon project" in error["error"]
    assert (project["spots"], project["links"], project["unit"]) == (1, 0, "µm")
    assert howdah("info", movie / "movie.xml").returncode == 0


def test_an_unknown_setting_names_the_nearest_one(movie: Path, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("[elephant]\nn_epoch = 3\n")
    out = tmp_path / "w.safetensors"
    assert "Did you mean 'n_epochs'?" in refused("train", movie / "marks.mastodon", "--config", config, "-w", out)
    config.write_text("[elefant]\nn_epochs = 3\n")
    assert "Did you mean 'elephant'?" in refused("train", movie / "marks.mastodon", "--config", config, "-w", out)
    assert "n_epochs" in refused("train", movie / "marks.mastodon", "--n-epochs", "many", "-w", out)
    assert not out.exists()


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    assert "there is no such file" in refused("track", tmp_path / "no.mastodon")


def test_a_truncated_hdf5_is_a_sentence(movie: Path, tmp_path: Path) -> None:
    for name in ("movie.xml", "movie.h5", "marks.mastodon"):
        (tmp_path / name).write_bytes((movie / name).read_bytes())
    hdf5 = tmp_path / "movie.h5"
    hdf5.write_bytes(hdf5.read_bytes()[: hdf5.stat().st_size // 2])
    assert "movie.h5" in refused("track", tmp_path / "marks.mastodon", "-o", tmp_path / "out.mastodon")
    assert not (tmp_path / "out.mastodon").exists()


def test_an_xml_without_its_hdf5_says_which_paths_were_tried(movie: Path, tmp_path: Path) -> None:
    xml = tmp_path / "movie.xml"
    xml.write_bytes((movie / "movie.xml").read_bytes())
    assert str(tmp_path / "movie.h5") in refused("info", xml)


def test_a_project_whose_image_moved_opens_with_a_warning_and_works_with_the_image_named(
    movie: Path, tmp_path: Path
) -> None:
    project = tmp_path / "elsewhere" / "marks.mastodon"
    project.parent.mkdir()
    project.write_bytes((movie / "marks.mastodon").read_bytes())
    info = howdah("info", "--json", project)
    assert info.returncode == 0
    assert json.loads(info.stdout.splitlines()[-1])["spots"] == 1
    assert "movie.xml" in info.stderr
    assert "--image" in refused("link", project, "-o", tmp_path / "out.mastodon")
    done = howdah("link", project, "--image", movie / "movie.xml", "-o", tmp_path / "out.mastodon")
    assert done.returncode == 0, done.stderr


def test_nothing_to_train_on_is_a_sentence(movie: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mastodon"
    write_tracks(empty, Tracks.empty(space_unit="µm"), image=open_image(movie / "movie.xml"))
    out = tmp_path / "w.safetensors"
    assert "mark" in refused("train", empty, "-w", out)
    assert "mark" in refused("train", movie / "movie.xml", "-w", out)
    assert not out.exists()


def test_an_annotation_outside_of_the_image_is_a_sentence(movie: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mastodon"
    marks = Tracks.build([0], [[12.0, 10.0, 500.0]], radius=4.0, space_unit="µm")
    write_tracks(outside, marks, image=open_image(movie / "movie.xml"))
    sentence = refused("train", outside, "-w", tmp_path / "w.safetensors")
    assert "outside of the image" in sentence
    late = Tracks.build([7], [[12.0, 10.0, 10.0]], radius=4.0, space_unit="µm")
    write_tracks(outside, late, image=open_image(movie / "movie.xml"))
    assert "has 3 frames" in refused("train", outside, "-w", tmp_path / "w.safetensors")


def test_convert_knows_the_formats_by_their_endings(movie: Path, tmp_path: Path) -> None:
    names = (
        "marks.xml",
        "marks.csv",
        "again.mastodon",
        "marks-mamut.xml",
        "marks.geff",
        "marks.zip",
        "01_RES",
        "masks.tif",
    )
    assert howdah("convert", movie / "movie.xml", tmp_path / "copy.xml").returncode == 0
    for name in names:
        done = here("convert", movie / "marks.mastodon", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert read_tracks(tmp_path / "marks.xml").n_spots == 1
    assert "no annotation format ends in '.doc'" in refused_here(
        "convert", movie / "marks.mastodon", tmp_path / "a.doc"
    )
    copy, original = open_image(tmp_path / "copy.xml"), open_image(movie / "movie.xml")
    assert np.array_equal(copy.read(2), original.read(2))
    for name in ("a.ome.zarr", "a.tif", "a.ome.tif"):
        assert here("convert", movie / "movie.xml", tmp_path / name).returncode == 0
        assert here("convert", tmp_path / name, tmp_path / "back.xml").returncode == 0
        assert np.array_equal(open_image(tmp_path / "back.xml").read(2), original.read(2))


def test_what_is_lost_is_said(movie: Path, tmp_path: Path) -> None:
    done = howdah("convert", movie / "marks.mastodon", tmp_path / "marks.zip", "--json")
    said = json.loads(done.stdout.splitlines()[-1])["not_kept"]
    assert said
    shown = howdah("convert", movie / "marks.mastodon", tmp_path / "marks.zip").stdout
    assert all(sentence in shown for sentence in said)


def test_the_result_names_the_files_that_were_written(movie: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("a long name that no terminal is wide enough for " * 3).strip()
    folder.mkdir()
    shown = howdah("convert", movie / "marks.mastodon", folder / "marks.csv").stdout
    assert str(folder / "marks-spots.csv") in shown
    assert str(folder / "marks-links.csv") in shown
    assert "There is marks-spots.csv beside it" in refused("info", folder / "marks.csv")
    done = json.loads(howdah("convert", movie / "movie.xml", tmp_path / "a.h5", "--json").stdout)
    assert (done["out"], done["beside"], done["frames"]) == (str(tmp_path / "a.xml"), [str(tmp_path / "a.h5")], 3)


def test_an_annotation_is_converted_although_its_movie_has_lost_its_pixels(movie: Path, tmp_path: Path) -> None:
    for name in ("movie.xml", "marks.mastodon"):
        (tmp_path / name).write_bytes((movie / name).read_bytes())
    for name in ("a.mastodon", "a.xml", "a.geff", "a.csv"):
        done = howdah("convert", tmp_path / "marks.mastodon", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert "movie.h5" in here("convert", tmp_path / "marks.mastodon", tmp_path / "a.mastodon").stderr
    assert read_tracks(tmp_path / "a.mastodon").attributes["image"] == str(tmp_path / "movie.xml")
    assert "movie.h5" in refused_here(
        "convert", tmp_path / "marks.mastodon", tmp_path / "b.xml", "--image", tmp_path / "movie.xml"
    )


def test_an_ambiguous_stack_asks_for_its_axes(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((6, 20, 30), np.uint8), metadata=None)
    assert "--axes" in refused_here("convert", tmp_path / "stack.tif", tmp_path / "movie.xml")
    done = howdah("convert", tmp_path / "stack.tif", tmp_path / "movie.xml", "--axes", "TYX", "--interval", "30s")
    assert done.returncode == 0, done.stderr
    made = open_image(tmp_path / "movie.xml")
    assert (made.n_frames, made.setups[0].shape, made.interval) == (6, (1, 20, 30), (30.0, "s"))
    assert "was not understood" in refused_here("info", tmp_path / "stack.tif", "--voxel-size", "big")
    for option, value in (
        ("--voxel-size", "1e308,1,1"),
        ("--voxel-size", "-1,1,1"),
        ("--unit", "a\x01b"),
        ("--unit", ""),
    ):
        assert "was given" in refused_here("info", tmp_path / "stack.tif", option, value)


def test_diff_merge_and_restore(movie: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.mastodon", tmp_path / "b.mastodon"
    marks = read_tracks(movie / "marks.mastodon")
    image = open_image(movie / "movie.xml")
    write_tracks(first, marks, image=image)
    more = marks.concatenate(Tracks.build([1], [[12.0, 30.0, 30.0]], radius=4.0, space_unit="µm"))
    write_tracks(second, more, image=image)
    done = howdah("diff", first, second, "-o", tmp_path / "review.mastodon", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["spots_added"] == 1, done.stderr
    assert read_tracks(tmp_path / "review.mastodon").tagged("Difference", "added").sum() == 1
    done = here("merge", second, first, "--base", first, "-o", tmp_path / "both.mastodon", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["spots"] == more.n_spots, done.stderr
    here("merge", first, first, "-o", tmp_path / "both.mastodon")
    assert read_tracks(tmp_path / "both.mastodon").n_spots == marks.n_spots
    assert here("restore", tmp_path / "both.mastodon").returncode == 0
    assert read_tracks(tmp_path / "both.mastodon").n_spots == more.n_spots
    assert "there is no" in refused_here("restore", first)
    assert "names no file" in refused_here("restore", "")
    assert "reach of nan" in refused_here("diff", first, second, "--reach", "nan")
    assert "reach of -1" in refused_here("merge", first, second, "-o", tmp_path / "c.mastodon", "--reach", "-1")
    assert "holds annotations" in refused_here("convert", movie / "movie.xml", tmp_path / "c", "--to", "mastodon")
    assert "trackmate" in here("formats").stdout


def test_the_main_job_runs_and_leaves_its_record(movie: Path, tmp_path: Path) -> None:
    out = tmp_path / "tracked.mastodon"
    quick = ["--n-epochs", "2", "--n-crops", "2", "--prior-crops", "1", "--crop-size", "8,16,16"]
    done = howdah("track", movie / "marks.mastodon", "-o", out, "--json", *quick)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["spots"] >= 1
    record = json.loads((tmp_path / "tracked.mastodon.howdah.json").read_text())
    assert record["settings"]["elephant"]["n_epochs"] == 2
    assert record["weights"]["sha256"]
    assert (tmp_path / "tracked.mastodon.log").is_file()
    with zipfile.ZipFile(out) as entries:
        assert {"project.xml", "model.raw"} <= set(entries.namelist())
    tracked = read_tracks(out)
    marks = read_tracks(movie / "marks.mastodon")
    assert np.array_equal(tracked.centre[0], marks.centre[0])
    assert np.array_equal(tracked.covariance[0], marks.covariance[0])


# ---- what an attack found ------------------------------------------------------------------------------------------


def test_inputs_are_never_overwritten(movie: Path, tmp_path: Path) -> None:
    for name in ("movie.xml", "movie.h5", "marks.mastodon"):
        (tmp_path / name).write_bytes((movie / name).read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    marks = tmp_path / "marks.mastodon"
    assert "must end in .safetensors" in refused_here("train", marks, "-w", marks)
    assert "it is an input" in refused_here("link", marks, "-o", tmp_path / "movie.xml")
    assert "same file" in refused_here("convert", tmp_path / "movie.h5", tmp_path / "movie.xml")
    (tmp_path / "other.xml").symlink_to("movie.xml")
    assert "same file" in refused_here("convert", tmp_path / "other.xml", tmp_path / "movie.h5")
    assert "same file" in refused_here("convert", marks, tmp_path / "movie.xml", "--image", tmp_path / "movie.xml")
    assert "same file" in refused_here("diff", marks, marks, "-o", marks)
    assert "same file" in refused_here(
        "merge", marks, marks, "-o", tmp_path / "movie.xml", "--base", tmp_path / "movie.xml"
    )
    (tmp_path / "other.xml").unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_project_may_be_linked_in_place_and_its_former_version_stays(movie: Path, tmp_path: Path) -> None:
    project = tmp_path / "marks.mastodon"
    project.write_bytes((movie / "marks.mastodon").read_bytes())
    done = howdah("link", project, "--image", movie / "movie.xml", "-o", project)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "marks.mastodon~1~").read_bytes() == (movie / "marks.mastodon").read_bytes()


def test_a_target_that_cannot_be_is_refused_before_any_work(movie: Path, tmp_path: Path) -> None:
    for name in ("", ".", "x" * 300 + ".xml"):
        assert "not possible" in refused("convert", movie / "marks.mastodon", name)
    assert "does not exist" in refused("track", movie / "marks.mastodon", "-o", tmp_path / "no" / "o.mastodon")
    (tmp_path / "folder.safetensors").mkdir()
    assert "folder of this name" in refused("train", movie / "marks.mastodon", "-w", tmp_path / "folder.safetensors")
    assert "not possible" in refused("link", movie / "marks.mastodon", "-o", "")


def test_brackets_in_a_path_are_no_markup(movie: Path, tmp_path: Path) -> None:
    folder = tmp_path / "br[/red]ack [bold]"
    folder.mkdir(parents=True)
    project = folder / "marks.mastodon"
    project.write_bytes((movie / "marks.mastodon").read_bytes())
    done = howdah("info", project)
    assert done.returncode == 0, done.stderr
    assert "br[/red]ack [bold]" in done.stdout


def test_a_settings_file_may_hold_sections_of_other_commands(movie: Path, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("[elephant]\nn_epochs = 3\n\n[linking]\nmax_distance = 4.0\n")
    done = howdah("link", movie / "marks.mastodon", "--config", config, "-o", tmp_path / "o.mastodon")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "o.mastodon.howdah.json").read_text())
    assert record["settings"]["linking"]["max_distance"] == 4.0


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_that_knows_no_umlauts_shows_the_rest(movie: Path, encoding: str) -> None:
    command = [sys.executable, "-m", "howdah", "info", str(movie / "marks.mastodon")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{ROOT}", "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"marks.mastodon" in done.stdout


def test_a_reader_that_goes_away_is_no_fault(movie: Path) -> None:
    command = f"{sys.executable} -m howdah info --json {' '.join([str(movie / 'movie.xml')] * 30)} | head -c 10"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, env=environment, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr


def test_ctrl_c_while_howdah_starts_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from howdah import __main__, cli

    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", stopped)
    with pytest.raises(SystemExit, match="130"):
        __main__.main()
    assert "Stopped" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_trained_and_the_next_run_goes_on(movie: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    arguments = [
        "train",
        str(movie / "marks.mastodon"),
        "-w",
        str(weights),
        "--n-epochs",
        "4000",
        "--crop-size",
        "8,16,16",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{ROOT}"}
    running = subprocess.Popen([sys.executable, "-m", "howdah", *arguments], env=environment, stderr=subprocess.PIPE)
    for _ in range(240):  # the state is saved for the first time after half a minute; machines may be slow
        if (tmp_path / "w.safetensors.training").is_file() or running.poll() is not None:
            break
        time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert b"Stopped" in said
    assert not weights.exists()
    assert (tmp_path / "w.safetensors.training").is_file()


def test_a_weights_file_that_would_run_code_is_refused(movie: Path, tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, (f"touch {tmp_path / 'pwned'}",))

    bomb = tmp_path / "bomb.pth"
    bomb.write_bytes(pickle.dumps(Bomb()))
    sentence = refused("predict", movie / "marks.mastodon", "-w", bomb, "-o", tmp_path / "o.mastodon")
    assert "bomb.pth" in sentence
    assert not (tmp_path / "pwned").exists()


def test_a_setting_out_of_range_is_json_too(movie):
    done = howdah("link", movie / "marks.mastodon", "--max-distance", "1e300", "--json")
    assert done.returncode == 2
    assert "than or equal to" in json.loads(done.stdout)["error"]
