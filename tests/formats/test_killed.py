"""Fault injection: a writer that is killed at any call or byte, a full disk, a folder that may not be written to, two writers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from formats.contract import plain

from bdv_io.errors import BusyError, WriteError
from bdv_io.formats import FORMATS, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage

PAIRS = {"csv", "bdv", "parquet"}  # two files that belong together


@pytest.mark.skipif(os.name != "posix", reason="forks and limits the size of files")
@pytest.mark.parametrize("key", [known.key for known in FORMATS if known.write])
def test_a_writer_that_is_killed_leaves_the_old_or_the_new_version(key: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), key, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["old"] >= 4
    assert outcome["new"] > 0
    assert outcome["between"] <= (2 if key in PAIRS else 0), outcome


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs the right to do so")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    target = small_disk / "a.mastodon"
    write_tracks(target, plain())
    random = np.random.default_rng(0)
    with pytest.raises(WriteError, match=r"a\.mastodon failed: no space is left on the disk"):
        write_tracks(
            target,
            plain().select([]).concatenate(type(plain()).build(np.zeros(5000), random.random((5000, 3)), radius=1.0)),
        )
    assert read_tracks(target).n_spots == 7
    noise = ArrayImage(random.integers(0, 65535, (2, 8, 128, 128)).astype(np.uint16))
    for name in ("a.xml", "a.ome.zarr"):
        with pytest.raises(WriteError, match="no space is left"):
            write_image(small_disk / name, noise)
    assert sorted(path.name for path in small_disk.iterdir()) == ["a.mastodon"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the rights of Unix")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    code = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "os.setuid(65534) if os.geteuid() == 0 else None\n"
        "from bdv_io.formats import write_tracks\n"
        "from bdv_io.tracks import Tracks\n"
        "try: write_tracks(sys.argv[1], Tracks.empty())\n"
        "except OSError as error: print(error)\n"
    )
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "a.mastodon"), str(root), str(Path(np.__file__).parents[1])],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("another user may not read the libraries here")
    assert "permission was denied" in done.stdout, done.stderr
    assert list(folder.iterdir()) == []


def test_of_two_writers_one_is_told_that_the_file_has_changed(tmp_path: Path) -> None:
    target = tmp_path / "a.mastodon"
    write_tracks(target, plain())
    first, second = read_tracks(target), read_tracks(target)
    write_tracks(target, first.select(first.t == 0))
    with pytest.raises(BusyError, match="another program has changed it since it was read"):
        write_tracks(target, second)
    assert read_tracks(target).n_spots == 2
    write_tracks(tmp_path / "b.mastodon", second)
