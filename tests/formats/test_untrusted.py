"""Untrusted input: every kind of malice is found and said in a sentence, before memory or time is spent on it."""

from __future__ import annotations

import json
import os
import re
import struct
import threading
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from formats.damage import (
    ANNOTATIONS,
    IMAGES,
    XML,
    open_any,
    rezip,
    sentence_of,
    with_head,
)

import bdv_io.threads
from bdv_io.errors import BdvIoError, FormatError
from bdv_io.formats import identify, open_image, read_tracks
from bdv_io.mastodon.object_stream import StreamWriter
from bdv_io.untrusted import Head, bounded_lines, check_tiff_pages, first_line, refuse_special


@pytest.mark.parametrize("key", [*ANNOTATIONS, *IMAGES])
def test_the_whole_files_are_read(copy, key):
    open_any(copy(key), key)


# ---- zip files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "features/../../evil", "a/../b"])
def test_zip_names_that_lead_out_of_the_project(copy, name):
    path = copy("mastodon")
    rezip(path, lambda entries: [*entries, (name, b"x")])
    with pytest.raises(FormatError, match=r"its entry '.*' points out of the project"):
        read_tracks(path)


def test_zip_names_of_rois_are_only_names(copy):
    path = copy("rois")
    rezip(path, lambda entries: [("../../../" + name, content) for name, content in entries])
    assert read_tracks(path).n_spots == 4
    for name in zipfile.ZipFile(path).namelist():
        assert not (path.parent / name).exists()


def test_zip_with_twenty_thousand_entries(copy):
    path = copy("mastodon")
    rezip(path, lambda entries: [*entries, *((f"features/{i}.raw", b"") for i in range(100_000))])
    with pytest.raises(FormatError, match=r"it claims 10000\d entries"):
        read_tracks(path)


def test_zip_bomb_of_a_project(copy, monkeypatch):
    path = copy("mastodon")
    rezip(path, lambda entries: [*entries, ("features/a.raw", b"\0" * 40_000_000)])
    monkeypatch.setattr(bdv_io.threads, "memory", lambda: 10_000_000)
    with pytest.raises(FormatError, match=r"Opening .*a\.mastodon was refused: it is 40\d+ elements"):
        read_tracks(path)


def test_zip_bomb_of_rois(copy, monkeypatch):
    path = copy("rois")
    monkeypatch.setattr("bdv_io.roi_set.read.MAX_TOTAL", 30_000_000)
    rezip(path, lambda entries: [(f"{i}.roi", b"Iout" + b"\0" * 9_000_000) for i in range(5)])
    with pytest.raises(BdvIoError, match=r"was refused: unpacked|cannot be read|failed"):
        read_tracks(path)


def test_zip_with_an_entry_twice(copy):
    path = copy("mastodon")
    rezip(path, lambda entries: [*entries, ("model.raw", b"\0" * 8)])
    with pytest.raises(FormatError, match=r"the entry 'model\.raw' is in it 2 times"):
        read_tracks(path)


@pytest.mark.parametrize("key", ["mastodon", "rois"])
def test_encrypted_zip(copy, key):
    path = copy(key)
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(signature), bytes(data)):
            data[found.start() + at] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match=r"failed: .*(encrypted|password|damaged)"):
        read_tracks(path, key=key)


# ---- XML ------------------------------------------------------------------------------------------------------------------


LAUGHS = (
    "<!DOCTYPE a [<!ENTITY l0 'lol'>" + "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 12)) + "]>"
)


@pytest.mark.parametrize("key", XML)
def test_entity_bombs(copy, key):
    first = {"bdv": ("<BasePath", "&l11;<BasePath")}.get(key, ("<Model", "&l11;<Model"))
    path = with_head(copy(key), LAUGHS, first)
    with pytest.raises(FormatError, match=r"declares a (DTD|document type)|not well-formed"):
        open_any(path, key)


@pytest.mark.parametrize("key", XML)
def test_entities_from_outside_are_not_read(copy, key):
    path = copy(key)
    secret = path.parent / "secret.txt"
    secret.write_text("the secret")
    path = with_head(path, f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>', ("<BasePath", "&e;<BasePath"))
    with pytest.raises(FormatError, match=r"declares a (DTD|document type)") as raised:
        open_any(path, key)
    assert "the secret" not in str(raised.value)


def test_entities_in_a_mastodon_project_stay_unread(copy):
    path = copy("mastodon")
    evil = LAUGHS.replace("a [", "MamutProject [<!ENTITY e SYSTEM 'file:///etc/passwd'>") + (
        "<MamutProject version='0.3'><SpimDataFile type='relative'>&e;&l11;</SpimDataFile></MamutProject>"
    )
    rezip(path, lambda entries: [(n, evil.encode() if n == "project.xml" else c) for n, c in entries])
    sentence = sentence_of(path, "mastodon")  # libraries differ in whether they refuse it or leave the entities alone
    assert "root:" not in sentence
    if not sentence:
        assert read_tracks(path).attributes["image_stored"] in ("", "&e;")


@pytest.mark.parametrize("key", XML)
def test_a_hundred_thousand_elements_within_each_other(copy, key):
    path = copy(key)
    text = path.read_text(encoding="utf-8")
    tag = "<ImageLoader" if key == "bdv" else "<AllSpots"
    path.write_text(text.replace(tag, "<a>" * 100_000 + tag, 1), encoding="utf-8")
    with pytest.raises(FormatError, match=r"not well-formed XML"):
        open_any(path, key)


# ---- absurd sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["t00000/s00/0/cells", "s00/resolutions"])
def test_hdf5_of_a_million_billion_elements(copy, where):
    path = copy("bdv")
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        del file[where]
        if where.endswith("cells"):
            file.create_dataset(where, shape=(100_000,) * 3, dtype="i2", chunks=(64, 64, 64))
        else:
            file.create_dataset(where, shape=(10**15, 3), dtype="f8", chunks=(4096, 3))
    with pytest.raises(BdvIoError, match=r"100000x100000x100000 voxels|has shape \(1000000000000000, 3\)"):
        open_any(path, "bdv")


def test_hdf5_of_a_million_billion_elements_is_read_by_regions(copy):
    path = copy("bdv")
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        del file["t00000/s00/0/cells"]
        file.create_dataset("t00000/s00/0/cells", shape=(100_000,) * 3, dtype="i2", chunks=(64, 64, 64))
    image = open_image(path)
    assert image.read(0, region=(slice(99_998, None), slice(0, 3), slice(0, 4))).shape == (2, 3, 4)
    image.close()


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("shape", [2, 1, 10**5, 10**5, 10**5], r"voxels of uint16 need .* GiB|does not fit"),
        ("shape", [2**60] * 5, r"frames of|does not fit"),
        ("shape", [-1] * 5, "damaged"),
        ("shape", [[1]], "damaged|does not fit"),
        ("shape", "nonsense", "damaged|does not fit"),
        ("chunks", [1, 1, 10**4, 10**4, 10**4], r"declares chunks of .* GiB each"),
        ("chunks", [0, 0, 0, 0, 0], "damaged|chunks"),
        ("dtype", "|O", "damaged|expected whole or real numbers"),
        ("dtype", "|S2147483647", "damaged|expected whole or real numbers"),
        ("dtype", 3, "damaged"),
        ("compressor", {"id": "pickle"}, "not installed|damaged"),
        ("zarr_format", 10**400, "damaged"),
    ],
)
def test_zarr_metadata_of_an_array(copy, name, value, match):
    path = copy("ome-zarr")
    file = path / "0" / ".zarray"
    said = json.loads(file.read_text())
    rank = len(said["shape"])
    said[name] = value[:rank] if isinstance(value, list) and len(value) > 1 else value
    file.write_text(json.dumps(said))
    with pytest.raises(BdvIoError, match=match):
        open_any(path, "ome-zarr")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "1" * 5000, "null", "", '"\\ud800"'])
def test_zarr_metadata_that_is_no_table(copy, text):
    path = copy("ome-zarr")
    for file in (path / ".zattrs", path / "0" / ".zarray"):
        before = file.read_text()
        file.write_text(text)
        with pytest.raises(BdvIoError, match="failed"):
            open_any(path, "ome-zarr")
        file.write_text(before)


@pytest.mark.parametrize("tag", [256, 257])
def test_tiff_of_absurd_size(copy, tag):
    path = copy("tiff")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[tag].overwrite(2**31 - 1)
    with pytest.raises(BdvIoError, match=r"damaged|refused|failed"):
        open_any(path, "tiff")


def test_mask_of_absurd_size(copy):
    path = copy("ctc")
    mask = next((path / "TRA").glob("*.tif"))
    with tifffile.TiffFile(mask, mode="r+b") as file:
        for tag in (256, 257):
            file.pages[0].tags[tag].overwrite(2**31 - 1)
    with pytest.raises(FormatError, match=r"Reading the mask .*(claims to have|damaged|it has \d+ images)"):
        read_tracks(path)


def test_trackmate_roi_of_absurd_length(copy):
    path = copy("trackmate")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<Spot ", '<Spot ROI_N_POINTS="2147483647" ', 1), encoding="utf-8")
    with pytest.raises(FormatError, match="has ROI_N_POINTS 2147483647, but 0 numbers"):
        read_tracks(path)


def test_mastodon_counts_that_the_file_cannot_hold(copy):
    path = copy("mastodon")
    stream = StreamWriter()
    stream.integer(2**31 - 1)
    rezip(path, lambda entries: [(n, stream.getvalue() if n == "model.raw" else c) for n, c in entries])
    with pytest.raises(FormatError, match="announces 2147483647 entries"):
        read_tracks(path)


# ---- files that are none --------------------------------------------------------------------------------------------------


def pieces(folder: Path) -> list[Path]:
    """A file of each kind in a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return list({(p.suffix, p.name if p.name.startswith(".z") else ""): p for p in files}.values())


@pytest.mark.parametrize("kind", ["pipe", "loop", "folder", "zeros", "nothing"])
@pytest.mark.parametrize("key", [*ANNOTATIONS, *IMAGES])
def test_pipes_devices_loops_and_folders_in_the_place_of_files(copy, key, kind):
    path = copy(key)
    for file in pieces(path.parent):
        before = file.read_bytes()
        file.unlink()
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "loop":
            file.symlink_to(file.name)
        elif kind == "zeros":
            file.symlink_to("/dev/zero")
        elif kind == "folder":
            file.mkdir()
        done = threading.Event()
        threading.Thread(target=_free, args=(file, done), daemon=True).start() if kind == "pipe" else None
        try:
            sentence = sentence_of(path, key)
        finally:
            done.set()
        assert sentence == "" or len(sentence) > 30
        file.rmdir() if kind == "folder" else file.unlink(missing_ok=True)
        file.write_bytes(before)


def _free(pipe: Path, done: threading.Event) -> None:
    """Let go of a reader that waits for a pipe after some seconds, so that a failure is one and no hang."""
    if not done.wait(20):
        os.close(os.open(pipe, os.O_WRONLY))
        raise AssertionError(f"{pipe} was opened")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a" * 300, "", "."])
def test_names_that_no_file_has(name, tmp_path):
    for function in (identify, read_tracks, open_image):
        with pytest.raises(BdvIoError, match=r"failed"):
            function(f"{tmp_path}/{name}" if name else tmp_path)


@pytest.mark.parametrize("key", ["mastodon", "ome-zarr", "geff", "ctc"])
def test_loops_of_links_in_folders(copy, key):
    path = copy(key)
    if path.is_dir():
        (path / "loop").symlink_to(".")
        (path / "self").symlink_to("self")
        open_any(path, key)
    else:
        folder = path.parent / "project"
        zipfile.ZipFile(path).extractall(folder)
        (folder / "features").mkdir(exist_ok=True)
        (folder / "features" / "loop").symlink_to("..")
        assert read_tracks(folder).n_spots == 4


def test_a_file_without_end_or_lines(tmp_path):
    path = tmp_path / "a-spots.csv"
    path.write_bytes(b"id,frame,z_um,y_um,x_um,radius_um\n")
    os.truncate(path, 80 << 20)  # a hole
    with pytest.raises(FormatError, match="a line has more than"):
        read_tracks(path)
    path.write_bytes(b"")
    os.truncate(path, 80 << 20)
    with pytest.raises(FormatError, match="none of the known formats"):
        read_tracks(path)


# ---- the bounds themselves ------------------------------------------------------------------------------------------------


def test_refuse_special(tmp_path):
    refuse_special(tmp_path / "nothing")
    with pytest.raises(FormatError, match="it is not a file but a folder"):
        refuse_special(tmp_path)
    with pytest.raises(FormatError, match="a device, a pipe or the like"):
        refuse_special(Path("/dev/null"))
    (tmp_path / "a").write_bytes(b"12345")
    refuse_special(tmp_path / "a", 5)
    with pytest.raises(FormatError, match="it has 5 bytes, and such a file never has more than 4"):
        refuse_special(tmp_path / "a", 4)


def test_the_beginning_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with (tmp_path / "a").open("rb") as file:
        head = Head(file, 7)
        assert [head.read(4), head.read(4), head.read()] == [b"0123", b"456", b""]
    assert first_line(tmp_path / "a") == "0123456789"
    with (tmp_path / "a").open() as file:
        assert list(bounded_lines(file, tmp_path / "a")) == ["0123456789"]


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_pages_of_a_tiff(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 4, 5), np.uint8), photometric="minisblack", metadata=None, **options)
    check_tiff_pages(path)
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[2].offset
        order, big = file.byteorder, file.is_bigtiff
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, last)
    struct.pack_into(order + ("Q" if big else "I"), data, last + (8 if big else 2) + count * (20 if big else 12), first)
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match="its pages run in a circle"):
        check_tiff_pages(path)
    path.write_bytes(bytes(data[: last + 3]))
    with pytest.raises(FormatError, match="does not fit into its"):
        check_tiff_pages(path)
