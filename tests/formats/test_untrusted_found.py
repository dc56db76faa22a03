"""One small case for each finding of ``tests/fuzz``, and a short run of blind damage."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct

import h5py
import numpy as np
import pytest
import roifile
from formats.damage import (
    ANNOTATIONS,
    IMAGES,
    open_any,
    rezip,
    sentence_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdv_io.errors import BdvIoError, FormatError
from bdv_io.formats import identify, open_image, read_tracks, write_image
from bdv_io.image import ArrayImage
from bdv_io.roi_set.shapes import RATIO_AT
from bdv_io.tracks import Tracks

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


@pytest.mark.parametrize("number", ["-1e308", "0", "-2", "1e300"])
def test_found_voxel_size_that_is_none(copy, number, caplog):
    path = copy("bdv")
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(<voxelSize>.*?<size>)\S+", rf"\g<1>{number}", text, flags=re.DOTALL), encoding="utf-8")
    image = open_image(path)
    assert image.setups[0].voxel_size == (2.0, 0.5, 0.5)  # of the registration
    assert "is no size; that of its registration is taken" in caplog.text
    image.close()


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


def test_a_zarr_folder_whose_metadata_is_damaged_is_called_so(tmp_path):
    folder = tmp_path / "a.ome.zarr"
    folder.mkdir()
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text("{")
    with pytest.raises(FormatError, match=r"a\.ome\.zarr failed: it is a Zarr folder, but what it says of itself"):
        identify(folder)
