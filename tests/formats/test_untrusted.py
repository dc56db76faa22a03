"""Untrusted input: every kind of damage and malice is found and said in a sentence, before memory or time is spent on it.

The first part goes through the kinds; the second has one small case for each finding of ``tests/fuzz``.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import struct
import threading
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bdv_io.threads
from bdv_io.errors import BdvIoError, FormatError, ValidationError
from bdv_io.formats import identify, open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.mastodon.object_stream import StreamWriter
from bdv_io.roi_set.shapes import RATIO_AT
from bdv_io.tracks import Tracks
from bdv_io.untrusted import Head, bounded_lines, check_tiff_pages, first_line, refuse_special

ANNOTATIONS = {
    "mastodon": "a.mastodon",
    "trackmate": "a.xml",
    "mamut": "a-mamut.xml",
    "csv": "a-spots.csv",
    "parquet": "a-spots.parquet",
    "geff": "a.geff",
    "ctc": "01_GT",
    "rois": "a.zip",
}
IMAGES = {"bdv": "a.xml", "ome-zarr": "a.ome.zarr", "tiff": "a.tif"}
XML = ("trackmate", "mamut", "bdv")


def tracks() -> Tracks:
    t = [0, 0, 1, 1]
    centre = np.array([(2, 6, 6), (2, 6, 17), (2, 7, 6), (2, 7, 17)], float)
    return Tracks.build(t, centre, radius=2.0, links=[(0, 2), (1, 3)], interval=30.0, id=np.arange(4) + 70_000)


def movie(shape=(4, 20, 24), n_frames=2) -> ArrayImage:
    pixels = np.random.default_rng(1).integers(0, 200, (n_frames, *shape)).astype(np.uint16)
    return ArrayImage(list(pixels), voxel_size=(2.0, 0.5, 0.5), unit="µm", interval=(30.0, "s"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """One whole file of every format, in a folder a format."""
    folder = tmp_path_factory.mktemp("whole")
    canvas = ArrayImage(np.zeros((2, 4, 20, 24), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, name in ANNOTATIONS.items():
            (folder / key).mkdir()
            target = folder / key / name.replace("-spots", "")
            write_tracks(target, tracks(), key=key, image=canvas if key in ("ctc", "rois") else None)
        for key, name in IMAGES.items():
            (folder / key).mkdir()
            write_image(folder / key / name, movie(), key=key)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    def of(key: str) -> Path:
        shutil.copytree(whole / key, tmp_path / key)
        return tmp_path / key / (ANNOTATIONS | IMAGES)[key]

    return of


def open_any(path: Path, key: str):
    if key in ANNOTATIONS:
        return read_tracks(path, key=key)
    image = open_image(path, key=key)
    try:
        for number, setup in enumerate(image.setups):
            for frame, level in itertools.product(range(image.n_frames), range(len(setup.levels))):
                image.affine(frame, number, level)
                image.read(frame, number, level)
    finally:
        image.close()
    return image


def sentence_of(path: Path, key: str) -> str:
    """What is said when a file is refused, empty if it is read. Anything but an error of ours fails the test."""
    try:
        open_any(path, key)
    except BdvIoError as error:
        return str(error)
    return ""


def rezip(path: Path, change) -> None:
    """Write a zip file again with other entries: ``change`` gets and returns (name, content) pairs."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in change(entries):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


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


def with_head(path: Path, head: str, replaced: tuple[str, str] = ("", "")) -> Path:
    text = re.sub(r"^\s*<\?xml.*?\?>", "", path.read_text(encoding="utf-8"))
    path.write_text(head + text.replace(*replaced, 1) if replaced[0] else head + text, encoding="utf-8")
    return path


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


# ---- numbers and links ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "x", "", "1,5", "9" * 400])
@pytest.mark.parametrize("column", ["frame", "z_pixel", "radius_pixel", "id"])
def test_csv_numbers(copy, column, number):
    path = copy("csv")
    header, first, *rest = path.read_text(encoding="utf-8").splitlines()
    names, cells = header.split(","), first.split(",")
    cells[names.index(column)] = f'"{number}"'
    keep = [i for i, name in enumerate(names) if not name.startswith(("cov_", "radius_a", "radius_b", "radius_c"))]
    rows = [names, cells, *(row.split(",") for row in rest)]
    path.write_text("\n".join(",".join(row[i] for i in keep) for row in rows) + "\n", encoding="utf-8")
    with pytest.raises(BdvIoError, match=r"fail|not consistent|not finite|are not symmetric"):
        read_tracks(path)


@pytest.mark.parametrize(
    ("attribute", "number"),
    [
        *itertools.product(["ID", "FRAME", "POSITION_X"], ["nan", "inf", "1e308", "1e999", "x", "", "9" * 400]),
        ("FRAME", "-1"),
        ("FRAME", "0.5"),
        ("FRAME", "2147483648"),
        ("ID", "0.5"),
    ],
)
def test_trackmate_numbers(copy, attribute, number):
    path = copy("trackmate")
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(rf'\b{attribute}="[^"]*"', f'{attribute}="{number}"', text, count=1), encoding="utf-8")
    if (attribute, number) == ("POSITION_X", "1e308"):
        assert read_tracks(path).n_spots == 4  # large, but a number
        return
    with pytest.raises(BdvIoError, match=r"Reading .* failed|not consistent|Building"):
        read_tracks(path)


@pytest.mark.parametrize("number", ["nan", "inf", "1e200", "-1", "0", "x", "1e-320"])
def test_trackmate_radius(copy, number, caplog):
    path = copy("trackmate")
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'\bRADIUS="[^"]*"', f'RADIUS="{number}"', text, count=1), encoding="utf-8")
    if number == "x":
        with pytest.raises(FormatError, match=r"expected a number|is 'x'"):
            read_tracks(path)
        return
    assert read_tracks(path).problems() == []
    assert "1 spots have no positive RADIUS" in caplog.text


def mastodon_with(path: Path, at: dict[int, bytes]) -> Path:
    """Write a project whose model has other numbers than the writer would allow."""

    def change(entries):
        made = []
        for name, content in entries:
            if name == "model.raw":
                data = bytearray(content)
                first = data.index(struct.pack("<3d", 6, 6, 2))  # x, y, z of the first spot
                for place, value in at.items():
                    data[first + place : first + place + len(value)] = value
                content = bytes(data)
            made.append((name, content))
        return made

    rezip(path, change)
    return path


SPOT = 84  # bytes


def test_mastodon_negative_frame(copy):
    path = mastodon_with(copy("mastodon"), at={24: struct.pack("<i", -5)})
    with pytest.raises(ValidationError, match=r"Reading .*a\.mastodon failed: .* 1 spot .* has negative frames"):
        read_tracks(path)


def test_spot_in_the_last_frame_of_all(copy):
    path = mastodon_with(copy("mastodon"), at={3 * SPOT + 24: struct.pack("<i", 2**31 - 1)})
    found = read_tracks(path)
    assert found.n_frames == 2**31  # no list of frames is made of it
    found.validate(odd_is_fine=True)


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, struct.pack("<d", np.nan), "centres that are not finite"),
        (28, struct.pack("<d", np.inf), "no ellipsoids"),
        (28, struct.pack("<d", -1.0), "no ellipsoids"),
        (36, struct.pack("<d", 1e6), "no ellipsoids"),
    ],
)
def test_odd_numbers_are_kept_and_said(copy, at, value, match):
    found = read_tracks(mastodon_with(copy("mastodon"), at={at: value}))
    assert any(match in sentence for sentence in found.problems())
    with pytest.raises(ValidationError, match=match):
        found.validate()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"id": np.zeros(4, np.int64)}, "ids occur more than once"),
        ({"links": np.array([[0, 9]])}, "ends that are no spots"),
        ({"links": np.array([[2, 0]])}, "links run forward in time"),
        ({"links": np.array([[0, 2], [2, 0]])}, "links run forward in time"),  # a circle
        ({"links": np.array([[0, 0]])}, "links run forward in time"),
        ({"links": np.array([[0, 2], [0, 2]])}, "links occur more than once"),
        ({"interval": np.inf}, "interval"),
        ({"interval": np.nan}, "interval"),
        ({"t": np.array([0, 0, 1, -1], np.int32)}, "negative frames"),
    ],
)
def test_every_kind_of_contradiction_is_a_sentence(change, match):
    found = replace(tracks(), **change).problems()
    assert any(match in sentence for sentence in found)
    assert all(sentence.endswith((".", ")")) for sentence in found)


def test_empty_time_points_are_fine(tmp_path):
    sparse = replace(tracks(), t=np.array([3, 3, 900, 900], np.int32))
    write_tracks(tmp_path / "a.mastodon", sparse)
    assert read_tracks(tmp_path / "a.mastodon").t.tolist() == [3, 3, 900, 900]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("1 0 1 2\n2 0 1 1\n", "begins before its parent, or together with it"),
        ("1 0 1 1\n", "begins before its parent, or together with it"),
        ("1 0 1 7\n", "has a parent that the table does not have"),
        ("1 0 1 0\n1 0 1 0\n", "has a label that an earlier row has too"),
        ("1 1 0 0\n", "ends before it begins"),
        ("1 0 99999999999999999999 0\n", "expected four whole numbers"),
        ("1 -1 0 0\n", "expected four whole numbers"),
        ("1 0 1\n", "expected four whole numbers"),
        ("0 0 1 0\n", "label 0"),
        ("1 0 1 \0\n", "expected four whole numbers"),
        ("9" * 5000 + " 0 1 0\n", "expected four whole numbers"),
    ],
)
def test_ctc_tables(copy, table, match):
    path = copy("ctc")
    (path / "TRA" / "man_track.txt").write_text(table)
    with pytest.raises(FormatError, match=match):
        read_tracks(path)


def test_ctc_frame_beyond_all_numbers(copy):
    path = copy("ctc")
    mask = next((path / "TRA").glob("*000.tif"))
    mask.rename(mask.with_name("man_track99999999999999999999.tif"))
    with pytest.raises(FormatError, match="frame"):
        read_tracks(path)


def test_bdv_placement_that_is_no_number(copy):
    path = copy("bdv")
    text = path.read_text(encoding="utf-8")
    for number in ("nan", "inf", "1e308", "1e400"):
        path.write_text(re.sub(r"<affine>\S+", f"<affine>{number}", text), encoding="utf-8")
        with pytest.raises(FormatError, match=r"flattens the image or is beyond all measure|finite|numbers"):
            open_any(path, "bdv")


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


# ---- findings of the fuzzer -----------------------------------------------------------------------------------------------


def test_found_empty_name_in_a_zip(copy):
    path = copy("mastodon")
    rezip(path, lambda entries: [*entries, ("x", b"")])
    data = path.read_bytes()
    at = data.rindex(b"PK\1\2")
    path.write_bytes(data[: at + 28] + b"\0\0" + data[at + 30 : at + 46] + data[at + 47 :])
    with pytest.raises(FormatError, match=r"points out of the project|damaged"):
        read_tracks(path, key="mastodon")


def test_found_name_of_an_image_that_no_file_may_have(copy):
    for name in ("a" * 5000, "a/" * 3000):
        path = copy("mastodon")
        rezip(path, lambda entries, name=name: [
            (n, f"<MamutProject><SpimDataFile type='relative'>{name}</SpimDataFile></MamutProject>".encode() if n == "project.xml" else c)
            for n, c in entries
        ])  # fmt: skip
        assert read_tracks(path).attributes["image_missing"] == "yes"
        shutil.rmtree(path.parent)


def test_found_views_of_another_type_than_the_first(copy):
    path = copy("bdv")
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        cells = file["t00001/s00/0/cells"]
        shape = cells.shape
        del file["t00001/s00/0/cells"]
        file.create_dataset("t00001/s00/0/cells", shape=shape, dtype="f8")
    with pytest.raises(FormatError, match="its voxels are float64, those of the first frame uint16"):
        open_any(path, "bdv")


@pytest.mark.parametrize("said", ["a", "O", "float128", "uint16,uint16", ""])
def test_found_declared_types_that_are_none(copy, said):
    path = copy("bdv")
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        file["s00"].attrs["dataType"] = np.bytes_(said)
    open_any(path, "bdv")


def test_found_factors_beyond_all_measure(copy):
    path = copy("bdv")
    with h5py.File(path.with_suffix(".h5"), "r+") as file:
        shape = file["s00/resolutions"].shape
        del file["s00/resolutions"]
        file["s00/resolutions"] = np.full(shape, 1e300)
    with pytest.raises(FormatError, match="beyond all measure"):
        open_any(path, "bdv")


@pytest.mark.parametrize(
    ("name", "value"), [("attributes", [1]), ("attributes", 3), ("voxel_size", [2.0, 0.5, 0.0]), ("voxel_size", [1, 2])]
)
def test_found_our_own_entry_of_the_wrong_kind(copy, name, value):
    path = copy("ome-zarr")
    file = path / ".zattrs"
    said = json.loads(file.read_text())
    own = said.get("howdah")
    if own is None:
        pytest.skip("nothing of our own was needed")
    own["setups"][0][name] = value
    file.write_text(json.dumps(said))
    with pytest.raises(FormatError, match="attribute 'howdah' is damaged"):
        open_any(path, "ome-zarr")


def test_found_things_that_are_not_zarrs_in_a_group(copy):
    path = copy("ome-zarr")
    (path / "notes.txt").write_text("hello")
    (path / ".zattrs").unlink()
    with pytest.raises(BdvIoError, match="failed"):
        open_any(path, "ome-zarr")


def test_found_pages_of_a_mask_that_tifffile_follows_without_end(copy):
    path = copy("ctc")
    mask = next((path / "TRA").glob("*.tif"))
    data = mask.read_bytes()
    mask.write_bytes(data[:15] + data[15:271] * 50 + data[15:])  # all bytes of the first page, shifted, again and again
    with pytest.raises(FormatError, match="damaged"):
        read_tracks(path)


def test_found_sentences_with_the_whole_file_in_them(copy):
    path = copy("trackmate")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<Spot ", "<Spot " + "A" * 100_000 + " ", 1), encoding="utf-8")
    with pytest.raises(FormatError, match="not well-formed") as raised:
        read_tracks(path)
    assert len(str(raised.value)) < 2100
    path = copy("csv")
    path.write_text("frame,z_um,y_um," + ",".join(f"x{i}" * 40 for i in range(1000)) + "\n", encoding="utf-8")
    path.with_name("a-links.csv").unlink()
    with pytest.raises(FormatError, match="x_") as raised:
        read_tracks(path, key="csv")
    assert len(str(raised.value)) < 2100
    assert str(FormatError("a" * 5000 + "z")).endswith("az")
    assert len(str(FormatError("a" * 5000))) < 2100


def test_found_a_start_of_xml_that_never_ends(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(b"<?xml veath ")
    os.truncate(path, 300 << 20)
    with pytest.raises(FormatError, match="none of the known formats"):
        identify(path)


@pytest.mark.parametrize("ratio", [np.nan, np.inf])
def test_found_ellipse_whose_axes_have_no_ratio(tmp_path, ratio):
    roi = roifile.ImagejRoi.frompoints([[0, 0], [4, 0], [4, 2]])
    roi.roitype, roi.subtype = roifile.ROI_TYPE.FREEHAND, roifile.ROI_SUBTYPE.ELLIPSE
    data = bytearray(roi.tobytes())
    struct.pack_into(">4f", data, 18, 0.0, 0.0, 8.0, 8.0)
    struct.pack_into(">f", data, RATIO_AT, ratio)
    (tmp_path / "a.roi").write_bytes(bytes(data))
    with pytest.raises(FormatError, match=r"Reading .*a\.roi failed"):
        read_tracks(tmp_path / "a.roi")


def test_found_block_of_negative_length(copy):
    path = copy("mastodon")

    def change(entries):
        for name, content in entries:
            at = content.find(b"\x7a") if name == "model.raw" else -1  # a long block of data
            if name == "model.raw":
                at = 4 if at < 0 else at
                content = content[:at] + b"\x7a\xff\xff\xff\xff" + content[at + 5 :]
            yield name, content

    rezip(path, lambda entries: list(change(entries)))
    with pytest.raises(FormatError, match=r"model\.raw .*failed"):
        read_tracks(path)


def test_found_page_with_fewer_samples_than_the_first(tmp_path):
    path = tmp_path / "a.tif"
    write_image(path, ArrayImage([np.zeros((1, 20, 24), np.uint8)] * 2), key="tiff")
    data = bytearray(path.read_bytes())
    order = "<" if data[:2] == b"II" else ">"
    place = 8 + 2 + 2 * 12  # the third entry, 8 bits a sample, becomes 8 samples a pixel
    assert struct.unpack_from(order + "H", data, place) == (258,)
    struct.pack_into(order + "H", data, place, 277)
    path.write_bytes(bytes(data))
    image = open_image(path)
    with pytest.raises(FormatError, match="has 1 numbers a pixel, not 8 as the first has"):
        image.read(1, setup=7)
    image.close()


def test_found_hdf5_whose_groups_cannot_be_listed(copy):
    path = copy("bdv").with_suffix(".h5")
    path.with_suffix(".xml").unlink()
    data = bytearray(path.read_bytes())
    data[120] ^= 1  # where the names of the root group are
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match="its groups cannot be listed"):
        open_any(path, "bdv")


def test_found_radii_whose_square_is_no_number():
    found = Tracks.build([0], np.zeros((1, 3)), radius=1e200)
    assert any("no ellipsoids" in sentence for sentence in found.problems())
    assert any("centres" in s for s in Tracks.build([0], np.full((1, 3), 1e308), radius=1.0).problems())


# ---- any damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [*ANNOTATIONS, *IMAGES])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_flipped_bytes_are_a_sentence_or_nothing(whole, tmp_path_factory, key, data):
    """The same as ``tests/fuzz``, small: blind damage to one file."""
    folder = tmp_path_factory.mktemp("damaged") / key
    shutil.copytree(whole / key, folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content))
    sentence = sentence_of(folder / (ANNOTATIONS | IMAGES)[key], key)
    assert sentence == "" or 30 < len(sentence) < 3000
    shutil.rmtree(folder)
