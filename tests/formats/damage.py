"""Whole files of every format, to be damaged: what the tests of untrusted input share. Fixtures are in ``conftest.py``."""

from __future__ import annotations

import itertools
import re
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np

from bdv_io.errors import BdvIoError
from bdv_io.formats import open_image, read_tracks
from bdv_io.image import ArrayImage
from bdv_io.tracks import Tracks

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


def with_head(path: Path, head: str, replaced: tuple[str, str] = ("", "")) -> Path:
    text = re.sub(r"^\s*<\?xml.*?\?>", "", path.read_text(encoding="utf-8"))
    path.write_text(head + text.replace(*replaced, 1) if replaced[0] else head + text, encoding="utf-8")
    return path


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
