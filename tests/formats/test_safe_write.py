"""Writing never loses what was there: crash, full disk, second writer, damaged new file."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from bdv_io.errors import BusyError, FormatError, MissingDataError, WriteError
from bdv_io.safe_write import previous_version, replacing, restore, stamp_of


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_the_previous_version_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    for text in ("one", "two", "three"):
        with replacing(target) as temporary:
            temporary.write_text(text)
    assert target.read_text() == "three"
    assert previous_version(target).read_text() == "two"
    assert leftovers(tmp_path) == []


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("good")
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert target.read_text() == "good"
    assert leftovers(tmp_path) == []


def test_a_new_file_that_does_not_read_back_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("good")

    def verify(path: Path) -> None:
        raise FormatError(f"{path} reads back wrong")

    with pytest.raises(FormatError, match="reads back wrong"), replacing(target, verify=verify) as temporary:
        temporary.write_text("bad")
    assert target.read_text() == "good"
    assert not previous_version(target).exists()


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("good")
    with pytest.raises(WriteError, match=r"a\.txt failed: no space is left"), replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "good"
    assert leftovers(tmp_path) == []


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="its folder does not exist"), replacing(tmp_path / "no" / "a.txt"):
        pass


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with replacing(target) as temporary:
        with pytest.raises(BusyError, match="another Howdah is writing it"), replacing(target):
            pass
        temporary.write_text("first")
    assert target.read_text() == "first"


def test_the_lock_of_a_dead_process_does_not_block(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / ".a.txt.lock").write_text(str(dead.pid))
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "project"
    for text in ("one", "two"):
        with replacing(target, folder=True) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert os.listdir(target) == ["two"]
    assert os.listdir(previous_version(target)) == ["one"]


def test_a_folder_or_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="there is a folder of this name"), replacing(tmp_path / "folder"):
        pass
    with pytest.raises(WriteError, match="no ordinary file"), replacing("/dev/null"):
        pass
    with pytest.raises(WriteError, match="names no file"), replacing(""):
        pass


def test_a_folder_in_the_place_of_the_previous_version_is_not_deleted(tmp_path: Path) -> None:
    target, precious = tmp_path / "a.txt", tmp_path / "a.txt~1~" / "precious"
    target.write_text("good")
    precious.parent.mkdir()
    precious.write_text("x")
    with pytest.raises(WriteError, match="Move the folder away"), replacing(target):
        pass
    assert precious.read_text() == "x"
    assert target.read_text() == "good"


def test_a_lock_file_that_nobody_holds_does_not_block(tmp_path: Path) -> None:
    for left in ("", "9" * 50):
        (tmp_path / ".a.txt.lock").write_text(left)
        (tmp_path / ".a.txt.01234567.part").write_text("of a writer that was killed")
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
        assert leftovers(tmp_path) == []


def test_two_writers_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as first:
        first.write_text("first")
        with (
            pytest.raises(BusyError, match=r"another Howdah is writing it \(it holds \.a\.txt\.lock\)"),
            replacing(tmp_path / "a.txt"),
        ):
            pass
    assert (tmp_path / "a.txt").read_text() == "first"


def test_as_many_former_versions_are_kept_as_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOWDAH_KEEP", "3")
    target = tmp_path / "a.txt"
    for text in "12345":
        with replacing(target) as temporary:
            temporary.write_text(text)
    kept = [previous_version(target, number) for number in (1, 2, 3)]
    assert [path.read_text() for path in kept] == ["4", "3", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt~1~", "a.txt~2~", "a.txt~3~"]
    assert restore(target, 2).read_text() == "3"
    assert [path.read_text() for path in kept] == ["5", "4", "2"]
    assert restore(target).read_text() == "5"
    monkeypatch.setenv("HOWDAH_KEEP", "0")
    with replacing(target) as temporary:
        temporary.write_text("6")
    assert kept[0].read_text() == "3"
    monkeypatch.setenv("HOWDAH_KEEP", "many")
    with pytest.raises(WriteError, match="HOWDAH_KEEP is 'many'"), replacing(target):
        pass


def test_folders_are_restored_too_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("one", "two"):
        with replacing(target, folder=True) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert os.listdir(restore(target)) == ["one"]
    assert os.listdir(previous_version(target)) == ["two"]
    with pytest.raises(MissingDataError, match=r"no folder~7~ beside it; kept versions: folder~1~"):
        restore(target, 7)


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("one")
    stamp = stamp_of(target)
    stamp.check(target)
    os.utime(target, (1, 1))
    stamp.check(target)  # only touched
    stamp.check(tmp_path / "other.txt")
    target.write_text("two")
    with pytest.raises(BusyError, match="another program has changed it since it was read"):
        stamp.check(target)
    target.unlink()
    stamp.check(target)


def test_of_a_large_file_any_change_of_time_counts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bdv_io.safe_write.HASHED_BYTES", 2)
    target = tmp_path / "a.txt"
    target.write_text("one")
    stamp = stamp_of(target)
    stamp.check(target)
    os.utime(target, (1, 1))
    with pytest.raises(BusyError, match="another program has changed it"):
        stamp.check(target)


def test_without_an_exchange_a_folder_is_swapped_in_two_steps(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bdv_io.safe_write._exchange", lambda first, second: False)
    test_folders_are_restored_too_and_what_is_not_there_is_said(tmp_path)
