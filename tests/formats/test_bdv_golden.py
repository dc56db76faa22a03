"""What BigDataViewer itself read from the real movies: our reader must agree, pixel for pixel."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bdv_io._axes import affine_from_xyz, reverse_axes
from bdv_io.bdv import BdvMovie, open_bdv
from bdv_io.bdv.xml import read_bdv_xml
from bdv_io.errors import MissingDataError
from bdv_io.formats import open_image

pytestmark = pytest.mark.real

TYPES = {"UnsignedShortType": "uint16", "FloatType": "float32", "UnsignedByteType": "uint8", "ShortType": "int16"}
GOLDEN = [
    "faketracks_mamutproject_FakeTracksBDV",
    "mastodon-projects_tiny-os_some_folder_tiny-dataset",
    "mastodon-projects_tiny_tiny-dataset",
    "parhyale-3d_sample",
    "tgmm-3d_datasethdf5",
    "tgmm-crop-3d_tgmm_mini_27_31",
    "written-by-java_synth",
]


def golden(real_data: Path, name: str) -> dict:
    with gzip.open(real_data / "expected" / f"{name}.xml.json.gz") as file:
        return json.load(file)


def opened(real_data: Path, truth: dict) -> BdvMovie:
    return open_bdv(real_data / truth["base_path"] / Path(truth["file"]).name)


def test_no_golden_dataset_is_left_out(real_data):
    found = []
    for path in (real_data / "expected").glob("*.xml.json.gz"):
        with gzip.open(path) as file:
            truth = json.load(file)
        if "setups" in truth and "img_loader" in truth:
            found.append(path.name.removesuffix(".xml.json.gz"))
    assert sorted(found) == sorted(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_setups_and_levels(real_data, name):
    truth = golden(real_data, name)
    movie = opened(real_data, truth)
    assert list(movie.timepoints) == [entry["id"] for entry in truth["timepoints"]]
    assert len(movie.setups) == len(truth["setups"])
    assert movie.spim.missing == frozenset(), "no golden movie has missing views"
    assert truth.get("missing_views", "[]") == "[]"
    for index, (setup, declared, expected) in enumerate(
        zip(movie.setups, movie.spim.setups, truth["setups"], strict=True)
    ):
        assert setup.id == expected["id"]
        assert setup.name == expected.get("name", "")
        assert declared.size == tuple(expected["size_xml"][::-1])
        assert setup.voxel_size == tuple(expected["voxel_size"][::-1])
        assert setup.unit == expected["voxel_unit"]
        assert setup.dtype == TYPES[expected["image_type"]]
        assert {key: value[0] for key, value in setup.attributes.items()} == {
            key: value["id"] for key, value in expected["attributes"].items()
        }
        assert len(setup.levels) == expected["n_mipmap_levels"]
        np.testing.assert_array_equal(reverse_axes(setup.levels), expected["mipmap_resolutions"])
        model = movie.spim.model(movie.timepoints[0], setup.id)
        for level, transform in enumerate(expected["mipmap_transforms"]):
            mipmap = np.linalg.inv(model) @ movie.affine(0, index, level)
            np.testing.assert_allclose(mipmap, affine_from_xyz(transform), atol=1e-12)


@pytest.mark.parametrize("name", GOLDEN)
def test_registrations(real_data, name):
    truth = golden(real_data, name)
    movie = opened(real_data, truth)
    for index, expected in enumerate(truth["setups"]):
        for view in expected["views"]:
            frame = movie.timepoints.index(view["timepoint"])
            np.testing.assert_array_equal(movie.affine(frame, index), affine_from_xyz(view["registration_model"]))
            chain = movie.spim.registrations[view["timepoint"], expected["id"]]
            assert [link.name for link in chain] == [link.get("name", "") for link in view["transform_list"]]
            for link, wanted in zip(chain, view["transform_list"], strict=True):
                np.testing.assert_array_equal(link.affine, affine_from_xyz(wanted["affine"]))


@pytest.mark.parametrize("name", GOLDEN)
def test_every_pixel(real_data, name):
    truth = golden(real_data, name)
    movie = opened(real_data, truth)
    for index, expected in enumerate(truth["setups"]):
        assert len(expected["views"]) == movie.n_frames
        for view in expected["views"]:
            frame = movie.timepoints.index(view["timepoint"])
            assert not movie.is_missing(frame, index)
            assert len(view["levels"]) == len(movie.setups[index].levels)
            for level, wanted in enumerate(view["levels"]):
                pixels = movie.read(frame, index, level)
                assert pixels.shape == movie.shape(frame, index, level) == tuple(wanted["size"][::-1])
                assert pixels.dtype == TYPES[wanted["type"]]
                little = pixels.astype(pixels.dtype.newbyteorder("<"))
                assert hashlib.sha256(little.tobytes()).hexdigest() == wanted["sha256_le_xfastest"]
    movie.close()


def test_mitosis_hdf5_equals_its_n5_copy_and_differs_from_the_smoothed_tiff(real_data):
    folder = real_data / "mitosis-bdv-formats"
    movie = open_bdv(folder / "mitosis_small_hdf5.xml")
    assert movie.spim.loader.format == "bdv.n5.universe"
    tiff = tifffile.imread(folder / "mitosis-small.tif")
    for frame in range(2):
        for setup in range(2):
            pixels = movie.read(frame, setup)
            n5 = read_n5(folder / "mitosis_small_n5.n5" / f"setup{setup}" / f"timepoint{frame}" / "s0")
            np.testing.assert_array_equal(pixels, n5)
            assert pixels.shape == tiff.shape[-2:] or pixels.size * 4 == tiff.size
    assert movie.setups[0].unit == "µm"


def read_n5(folder: Path) -> np.ndarray:
    """Decode a gzip N5 of big-endian uint16: blocks X/Y/Z with a header of mode, rank and sizes (x, y, z)."""
    attributes = json.loads((folder / "attributes.json").read_text())
    out = np.zeros(attributes["dimensions"][::-1], np.uint16)
    for block in (path for path in folder.rglob("*") if path.is_file() and path.name != "attributes.json"):
        x, y, z = (
            int(part) * size
            for part, size in zip(block.relative_to(folder).parts, attributes["blockSize"], strict=True)
        )
        content = block.read_bytes()
        w, h, d = struct.unpack(">III", content[4:16])
        out[z : z + d, y : y + h, x : x + w] = np.frombuffer(gzip.decompress(content[16:]), ">u2").reshape(d, h, w)
    return out


@pytest.mark.parametrize(("one", "other"), [("hdf5.xml", "n5.xml"), ("n5.xml", "n5.n5"), ("omezarr.xml", ".ome.zarr")])
def test_mitosis_is_the_same_through_each_door(real_data, one, other):
    folder = real_data / "mitosis-bdv-formats"
    names = [f"mitosis_small{'' if name.startswith('.') else '_'}{name}" for name in (one, other)]
    first, second = (open_image(folder / name) for name in names)
    assert len(first.setups) == len(second.setups) == 2
    assert len(first.setups[0].levels) == len(second.setups[0].levels)
    for frame in range(2):
        for setup in range(2):
            for level in range(len(first.setups[setup].levels)):
                np.testing.assert_array_equal(first.read(frame, setup, level), second.read(frame, setup, level))


def test_mitosis_zarr_equals_the_tiff_at_the_xml_calibration(real_data):
    folder = real_data / "mitosis-bdv-formats"
    tiff = tifffile.imread(folder / "mitosis-small.tif")  # (T, Z, C, Y, X)
    movie = open_bdv(folder / "mitosis_small_omezarr.xml")
    assert movie.format == "BigDataViewer XML/OME-Zarr"
    assert movie.setups[0].unit == "µm"
    assert len(movie.setups[0].levels) == 5
    assert movie.affine(0)[1, 1] == pytest.approx(0.0885, abs=1e-6)
    for frame in range(2):
        for setup in range(2):
            np.testing.assert_array_equal(movie.read(frame, setup), tiff[frame, :, setup])


def test_missing_hdf5_names_what_is_written_and_where_it_was_sought(real_data):
    folder = real_data / "mastodon-projects" / "tiny-missing-hdf5"
    with pytest.raises(MissingDataError, match=r"names 'tiny-dataset.h5' \(relative") as caught:
        open_bdv(folder / "tiny-dataset.xml")
    assert str(folder / "tiny-dataset.h5") in str(caught.value)


def test_hdf5_named_directly_finds_its_xml(real_data):
    movie = open_bdv(real_data / "parhyale-3d" / "sample.h5")
    assert movie.setups[0].unit == "micron"
    assert movie.affine(0)[0, 0] == pytest.approx(2.16054, abs=1e-5)
    assert read_bdv_xml(real_data / "parhyale-3d" / "sample.xml").timepoints == movie.timepoints
