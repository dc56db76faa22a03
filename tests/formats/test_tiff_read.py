"""Reading TIFF: axes, calibration and pixels as ImageJ, OME-XML or the user says them."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.formats import identify, open_image
from bdv_io.image import Hints, ImageSeries
from bdv_io.tiff import is_tiff, open_tiff

RANDOM = np.random.default_rng(1)


def pixels(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return RANDOM.integers(0, 200, shape).astype(dtype)


def stacked(movie: ImageSeries) -> np.ndarray:
    """(T, C, Z, Y, X) of a whole movie."""
    return np.stack([[movie.read(t, s) for s in range(len(movie.setups))] for t in range(movie.n_frames)])


def imagej(path: Path, array: np.ndarray, axes: str, **metadata: object) -> Path:
    resolution = metadata.pop("resolution", None)
    tifffile.imwrite(path, array, imagej=True, resolution=resolution, metadata={"axes": axes, **metadata})
    return path


# ---- ImageJ --------------------------------------------------------------------------------------------------------


def test_imagej_hyperstack_keeps_axes_calibration_and_names(tmp_path: Path) -> None:
    array = pixels(3, 4, 2, 5, 6)
    labels = ["GFP", "H2B µ"] * 12
    path = imagej(
        tmp_path / "a.tif", array, "TZCYX", unit="\\u00B5m", spacing=2.0, finterval=1.5, tunit="min", Labels=labels, resolution=(4, 2)
    )  # fmt: skip
    movie = open_image(path)
    assert identify(path).key == "tiff"
    assert movie.format == "ImageJ TIFF"
    assert (movie.n_frames, movie.interval, movie.timepoints) == (3, (1.5, "min"), (0, 1, 2))
    assert [s.name for s in movie.setups] == ["GFP", "H2B µ"]
    assert movie.setups[1].attributes == {"channel": (1, "H2B µ")}
    assert movie.setups[0].unit == "µm"
    assert movie.setups[0].voxel_size == pytest.approx((2.0, 0.5, 0.25))
    np.testing.assert_array_equal(stacked(movie), array.transpose(0, 2, 1, 3, 4))
    np.testing.assert_allclose(movie.affine(0), np.diag([2, 0.5, 0.25, 1]))


def test_z_stays_z_until_the_user_says_otherwise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    array = pixels(50, 5, 6)
    path = imagej(tmp_path / "a.tif", array, "ZYX")
    assert (open_tiff(path).n_frames, open_tiff(path).setups[0].shape) == (1, (50, 5, 6))
    assert not caplog.records
    movie = open_tiff(path, hints=Hints(axes="TYX"))
    assert (movie.n_frames, movie.setups[0].shape) == (50, (1, 5, 6))
    assert "50 planes of a stack are time points" in caplog.text
    np.testing.assert_array_equal(stacked(movie)[:, 0, 0], array)


def test_swapped_axes_are_put_right_by_a_hint(tmp_path: Path) -> None:
    array = pixels(3, 4, 2, 5, 6)
    movie = open_tiff(imagej(tmp_path / "a.tif", array, "TZCYX"), hints=Hints(axes="ZTCYX"))
    np.testing.assert_array_equal(stacked(movie), array.transpose(1, 2, 0, 3, 4))


def test_silent_file_has_voxels_of_one_pixel_and_no_interval(tmp_path: Path) -> None:
    movie = open_tiff(imagej(tmp_path / "a.tif", pixels(3, 5, 6), "TYX"))
    assert (movie.setups[0].voxel_size, movie.setups[0].unit, movie.interval) == ((1, 1, 1), "pixel", None)


def test_header_that_counts_other_planes_than_there_are(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    header = "ImageJ=1.54p\nimages=50\nframes=50\n"
    with tifffile.TiffWriter(path) as file:
        for number in range(20):
            file.write(pixels(5, 6), description=header if not number else None, metadata=None, compression="zlib")
    with pytest.raises(FormatError, match=r"50 frames = 50 planes in 50 images, but the file has 20 pages.*--axes TYX"):
        open_tiff(path)
    assert open_tiff(path, hints=Hints(axes="TYX")).n_frames == 20


def test_stack_of_images_only_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for number in range(4):
            file.write(pixels(5, 6), description="ImageJ=1.30\nimages=4\n" if not number else None, metadata=None)
    with pytest.raises(FormatError, match="4 pages of 5 x 6 pixels without saying what they are"):
        open_tiff(path)


def test_block_of_planes_behind_one_page(tmp_path: Path) -> None:
    array = pixels(3, 4, 2, 5, 6)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "TZCYX"}, truncate=True)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    movie = open_tiff(path)
    np.testing.assert_array_equal(stacked(movie), array.transpose(0, 2, 1, 3, 4))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError, match=r"24 planes of 5 x 6 uint16 .* it ends at byte"):
        open_tiff(path)


def test_signed_numbers_in_imagejs_way(tmp_path: Path) -> None:
    meant = np.array([[-32768, -1, 0], [1, 5, 32767]], dtype=np.int16)
    path = imagej(
        tmp_path / "a.tif", (meant.astype(np.int32) + 32768).astype(np.uint16), "YX", cf=0, c0=-32768.0, c1=1.0
    )
    movie = open_tiff(path)
    assert movie.setups[0].dtype == np.int16
    np.testing.assert_array_equal(movie.read(0)[0], meant)
    np.testing.assert_array_equal(movie.read(0, region=(slice(None), slice(1, 2), slice(0, 3, 2)))[0], meant[1:2, ::2])


def test_imagej2_says_the_order_of_planes(tmp_path: Path) -> None:
    array = pixels(2, 3, 5, 6)
    text = "SCIFIO=0.46.0\naxes=X,Y,Z,Channel\nlengths=6,5,3,2\nimages=6\nchannels=2\nslices=3\nhyperstack=true\nunit=micron\n"
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", description=text, metadata=None)
    movie = open_tiff(tmp_path / "a.tif")
    assert movie.setups[0].unit == "µm"
    np.testing.assert_array_equal(stacked(movie)[0], array)


def test_speed_of_playing_is_no_interval(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert open_tiff(imagej(tmp_path / "a.tif", pixels(3, 5, 6), "TYX", fps=7.0)).interval is None
    assert "7.0 frames a second are a speed to play at" in caplog.text


def test_hints_win_over_the_header_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = imagej(
        tmp_path / "a.tif", pixels(3, 4, 5, 6), "TZYX", unit="um", spacing=2.0, finterval=3.0, resolution=(2, 2)
    )
    movie = open_tiff(path, hints=Hints(voxel_size=(1.0, 0.1, 0.1), interval=(30.0, "sec")))
    assert (movie.setups[0].voxel_size, movie.setups[0].unit, movie.interval) == ((1.0, 0.1, 0.1), "µm", (30.0, "s"))
    assert caplog.text.count("was given, and wins") == 2
    assert open_tiff(path, hints=Hints(unit="nm")).setups[0].voxel_size == pytest.approx((2000, 500, 500))


def test_what_is_left_unread_is_told(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", pixels(2, 5, 6), "TYX", Info="seen by me", Overlays=[b"Iout" + bytes(60)])
    movie = open_tiff(path)
    assert movie.unread == (
        "The TIFF's overlay is not carried over.",
        "The TIFF's text of notes (Info) is not carried over.",
    )


# ---- plain TIFF ----------------------------------------------------------------------------------------------------


def test_one_page_is_not_ambiguous(tmp_path: Path) -> None:
    array = pixels(5, 6)
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None)
    for axes in (None, "YX", "TYX", "TZYX"):
        movie = open_tiff(tmp_path / "a.tif", hints=Hints(axes=axes))
        np.testing.assert_array_equal(stacked(movie), array[None, None, None])


def test_pages_without_meaning_are_asked_about(tmp_path: Path) -> None:
    array = pixels(7, 5, 6)
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None)
    with pytest.raises(
        FormatError, match=r"7 pages of 5 x 6 .*--axes TYX if they are 7 time points, --axes ZYX .*--axes CYX"
    ):
        open_tiff(tmp_path / "a.tif")
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path / "a.tif", hints=Hints(axes="ZYX")))[0, 0], array)
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path / "a.tif", hints=Hints(axes="CYX")))[0, :, 0], array)
    with pytest.raises(FormatError, match="axes TZYX were given, but it holds 7 pages"):
        open_tiff(tmp_path / "a.tif", hints=Hints(axes="TZYX"))
    with pytest.raises(FormatError, match="must end in YX"):
        open_tiff(tmp_path / "a.tif", hints=Hints(axes="YXT"))


def test_shape_without_letters_is_asked_about(tmp_path: Path) -> None:
    array = pixels(3, 4, 5, 6)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    with pytest.raises(FormatError, match=r"3 x 4 pages of 5 x 6 pixels .*for example --axes TZYX"):
        open_tiff(tmp_path / "a.tif")
    np.testing.assert_array_equal(
        stacked(open_tiff(tmp_path / "a.tif", hints=Hints(axes="ZTYX")))[:, 0], array.swapaxes(0, 1)
    )
    tifffile.imwrite(tmp_path / "b.tif", array, photometric="minisblack", metadata={"axes": "TZYX"})
    assert open_tiff(tmp_path / "b.tif").n_frames == 3


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((72, 72), "INCH", None), ((96, 96), "INCH", None), ((118.11, 118.11), "CENTIMETER", None), ((3, 3), "NONE", None),
        ((40000, 20000), "CENTIMETER", (1.0, 0.5, 0.25)), ((101600, 101600), "INCH", (1.0, 0.25, 0.25)),
    ],
)  # fmt: skip
def test_dots_of_printers_are_no_calibration(
    tmp_path: Path, resolution: tuple[float, float], unit: str, expected: object
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(5, 6), metadata=None, resolution=resolution, resolutionunit=unit)
    setup = open_tiff(tmp_path / "a.tif").setups[0]
    assert (
        (setup.voxel_size, setup.unit) == ((1, 1, 1), "pixel") if expected is None else (pytest.approx(expected), "µm")
    )


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_channels(tmp_path: Path, planar: str) -> None:
    array = pixels(4, 9, 8, 3, dtype="uint8")
    stored = array if planar == "contig" else np.moveaxis(array, -1, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, metadata=None)
    for axes in ("TYX", "TYXC"):
        movie = open_tiff(tmp_path / "a.tif", hints=Hints(axes=axes))
        assert [s.name for s in movie.setups] == ["red", "green", "blue"]
        np.testing.assert_array_equal(stacked(movie)[:, :, 0], np.moveaxis(array, -1, 1))


def test_pages_that_differ(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels(5, 6), metadata=None)
        file.write(pixels(7, 6), metadata=None)
    with pytest.raises(FormatError, match=r"page 1 is 7 x 6 .* page 0 is 5 x 6 .*several images"):
        open_tiff(tmp_path / "a.tif")


STORED = [
    {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"compression": "lzw", "predictor": True},
    {"compression": "zstd"}, {"compression": "packbits"}, {"tile": (16, 32)}, {"tile": (16, 16), "compression": "zlib"},
    {"rowsperstrip": 7}, {"rowsperstrip": 7, "compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"},
    {"byteorder": ">", "compression": "zlib"}, {"bigtiff": True, "byteorder": ">", "tile": (32, 16)},
]  # fmt: skip


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_all_ways_of_storing(tmp_path: Path, stored: dict[str, object], dtype: str) -> None:
    array = pixels(3, 45, 50, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata={"axes": "ZYX"}, **stored)
    movie = open_tiff(tmp_path / "a.tif")
    found = movie.read(0)
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)
    region = (slice(1, 3), slice(9, 40, 3), slice(20, 41))
    np.testing.assert_array_equal(movie.read(0, region=region), array[region])


def test_one_bit_becomes_eight(tmp_path: Path) -> None:
    array = RANDOM.random((9, 13)) > 0.5
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None)
    found = open_tiff(tmp_path / "a.tif").read(0)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], array)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_every_region_is_as_numpy_cuts_it(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    array = pixels(4, 2, 33, 21)
    path = tmp_path_factory.mktemp("region") / "a.tif"
    stored = data.draw(st.sampled_from([{}, {"tile": (16, 16)}, {"compression": "zlib", "rowsperstrip": 5}]))
    tifffile.imwrite(path, array, metadata={"axes": "ZCYX"}, **stored)
    index = st.one_of(st.none(), st.integers(-40, 40))
    parts = [slice(data.draw(index), data.draw(index), data.draw(st.sampled_from([None, 1, 2, 5]))) for _ in range(3)]
    found = open_tiff(path).read(0, 1, region=(parts[0], parts[1], parts[2]))
    np.testing.assert_array_equal(found, array[:, 1][tuple(parts)])


def test_threads_pickle_and_close(tmp_path: Path) -> None:
    array = pixels(20, 64, 64)
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": "TYX"}, compression="zlib")
    movie = open_tiff(tmp_path / "a.tif")
    with ThreadPoolExecutor(8) as pool:
        for frame, found in enumerate(pool.map(movie.read, range(20))):
            np.testing.assert_array_equal(found[0], array[frame])
    again = pickle.loads(pickle.dumps(movie))
    movie.close()
    np.testing.assert_array_equal(stacked(again), stacked(movie))
    with pytest.raises(FormatError, match="must go forwards"):
        movie.read(0, region=(slice(None), slice(None, None, -1), slice(None)))
    with pytest.raises(MissingDataError, match=r"Frame 20, setup 0, level 0 .* 20 frames, 1 setups and 1 levels"):
        movie.read(20)


# ---- OME-TIFF ------------------------------------------------------------------------------------------------------


def test_ome_keeps_axes_calibration_and_names(tmp_path: Path) -> None:
    array = pixels(3, 2, 4, 5, 6)
    metadata = {
        "axes": "TCZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2000.0, "PhysicalSizeZUnit": "nm",
        "TimeIncrement": 2.0, "TimeIncrementUnit": "min", "Channel": {"Name": ["GFP", "µ-tubulin"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", array, ome=True, metadata=metadata)
    movie = open_tiff(tmp_path / "a.ome.tif")
    assert movie.format == "OME-TIFF"
    assert movie.interval == (2.0, "min")
    assert movie.setups[0].unit == "µm"
    assert movie.setups[0].voxel_size == pytest.approx((2.0, 0.25, 0.5))
    assert [s.name for s in movie.setups] == ["GFP", "µ-tubulin"]
    np.testing.assert_array_equal(stacked(movie), array)


@pytest.mark.parametrize("axes", ["TCZYX", "TZCYX", "CTZYX", "CZTYX", "ZCTYX", "ZTCYX"])
def test_ome_dimension_orders(tmp_path: Path, axes: str) -> None:
    array = pixels(2, 3, 4, 5, 6)
    tifffile.imwrite(tmp_path / "a.ome.tif", array, ome=True, metadata={"axes": axes})
    order = [axes.index(letter) for letter in "TCZYX"]
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path / "a.ome.tif")), array.transpose(order))


def test_ome_levels(tmp_path: Path) -> None:
    array = pixels(3, 64, 70)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(
            array, subifds=2, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, tile=(16, 16)
        )
        file.write(array[:, ::2, ::2], subfiletype=1, tile=(16, 16))
        file.write(array[:, ::4, ::4], subfiletype=1, tile=(16, 16))
    movie = open_tiff(tmp_path / "a.ome.tif")
    assert movie.setups[0].levels == ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    np.testing.assert_array_equal(movie.read(0, level=2), array[:, ::4, ::4])
    region = (slice(1, 3), slice(3, 20), slice(5, 30))
    np.testing.assert_array_equal(movie.read(0, level=1, region=region), array[:, ::2, ::2][region])
    np.testing.assert_allclose(movie.affine(0, level=1)[:3, 3], [0, 0.25, 0.25])


OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{uuid}>{images}</OME>'
PIXELS = (
    '<Image ID="Image:{n}" Name="{name}"><Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" Type="uint16" SizeX="6" SizeY="5" '
    'SizeC="1" SizeZ="1" SizeT="{t}">{body}</Pixels></Image>'
)


def ome(path: Path, array: np.ndarray, *images: str, uuid: str = "") -> Path:
    xml = OME.format(uuid=f' UUID="{uuid}"' if uuid else "", images="".join(images))
    tifffile.imwrite(path, array, photometric="minisblack", description=xml.encode(), metadata=None)
    return path


def test_ome_over_several_files_and_one_lost(tmp_path: Path) -> None:
    array = pixels(2, 5, 6)
    body = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="t{t}.ome.tif">urn:{t}</UUID></TiffData>'
        for t in (0, 1)
    )
    for t in (0, 1):
        ome(tmp_path / f"t{t}.ome.tif", array[t], PIXELS.format(n=0, name="a", t=2, body=body), uuid=f"urn:{t}")
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path / "t0.ome.tif"))[:, 0, 0], array)
    np.testing.assert_array_equal(stacked(open_tiff(tmp_path / "t1.ome.tif"))[:, 0, 0], array)
    (tmp_path / "t1.ome.tif").unlink()
    with pytest.raises(MissingDataError, match=r"part of the image is in t1\.ome\.tif, but there is no such file"):
        open_tiff(tmp_path / "t0.ome.tif")


def test_ome_planes_that_are_placed_nowhere_are_missing(tmp_path: Path) -> None:
    array = pixels(2, 5, 6)
    body = '<TiffData FirstT="0" IFD="0" PlaneCount="1"/><TiffData FirstT="2" IFD="1" PlaneCount="1"/>'
    movie = open_tiff(ome(tmp_path / "a.ome.tif", array, PIXELS.format(n=0, name="a", t=3, body=body)))
    assert [movie.is_missing(t) for t in range(3)] == [False, True, False]
    np.testing.assert_array_equal(movie.read(2)[0], array[1])
    with pytest.raises(MissingDataError, match="does not hold all planes"):
        movie.read(1)


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        ([(0, "one", 1), (1, "two", 1)], UnsupportedError, r"2 images \(0: 'one' T 1 .*; 1: 'two'"),
        ([(0, "one", 5)], FormatError, "places 5 planes from page 0 of .*which has 2 pages"),
        ([(0, "one", 10**9)], FormatError, "claims T 1000000000"),
    ],
)
def test_ome_that_does_not_fit(
    tmp_path: Path, images: list[tuple[int, str, int]], error: type[Exception], match: str
) -> None:
    parts = [
        PIXELS.format(n=n, name=name, t=t, body=f'<TiffData IFD="{n}" PlaneCount="{min(t, 9)}"/>')
        for n, name, t in images
    ]
    with pytest.raises(error, match=match):
        open_tiff(ome(tmp_path / "a.ome.tif", pixels(2, 5, 6), *parts))


def test_ome_label_beside_the_image_is_left_out(tmp_path: Path) -> None:
    parts = [
        PIXELS.format(n=n, name=name, t=1, body=f'<TiffData IFD="{n}"/>')
        for n, name in enumerate(["cells", "label image"])
    ]
    array = pixels(2, 5, 6)
    np.testing.assert_array_equal(open_tiff(ome(tmp_path / "a.ome.tif", array, *parts)).read(0)[0], array[0])


@pytest.mark.parametrize("name", ["../a.tif", "/etc/passwd", "..\\a.tif"])
def test_ome_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    body = f'<TiffData IFD="0"><UUID FileName="{name}">urn:2</UUID></TiffData>'
    with pytest.raises(FormatError, match="which is not one in the same folder"):
        open_tiff(ome(tmp_path / "a.ome.tif", pixels(5, 6), PIXELS.format(n=0, name="a", t=1, body=body)))


def test_ome_even_times_of_planes_are_the_interval(tmp_path: Path) -> None:
    def body(times: list[float]) -> str:
        planes = "".join(f'<Plane TheC="0" TheZ="0" TheT="{t}" DeltaT="{s}"/>' for t, s in enumerate(times))
        return "<TiffData/>" + planes

    for times, expected in (([0, 10.1, 20, 30], (9.95, "s")), ([0, 10, 90, 91], None)):
        xml = PIXELS.format(n=0, name="a", t=4, body=body(times))
        interval = open_tiff(ome(tmp_path / "a.ome.tif", pixels(4, 5, 6), xml)).interval
        assert interval is None if expected is None else interval == (pytest.approx(10, abs=0.1), "s")


# ---- real files ----------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "shape", "voxel_size", "unit", "interval"),
    [
        ("faketracks/trackmate-7.0.5/FakeTracks.tif", (50, 1, 1, 128, 128), (1, 1, 1), "pixel", (1.0, "s")),
        ("drosophila-h2b-2d/sequence1-2.tif", (41, 1, 1, 264, 542), (1, 1, 1), "pixel", None),
        ("mitosis-2d/C1-MAX_mitosis.tif", (51, 1, 1, 196, 171), (1, 1, 1), "pixel", None),
        ("mitosis-bdv-formats/mitosis-small.tif", (2, 2, 5, 196, 171), (1, 0.0885, 0.0885), "µm", (1 / 7, "s")),
        ("written-by-java/trackmate/labels.tif", (8, 1, 1, 96, 120), (1, 0.5, 0.5), "µm", (30.0, "s")),
        ("written-by-java/trackmate/raw.tif", (8, 1, 1, 96, 120), (1, 0.5, 0.5), "µm", (30.0, "s")),
        ("written-by-java/trackmate/synth_tzcyx.tif", (8, 2, 16, 56, 64), (2, 1, 1), "µm", (1.0, "frame")),
    ],
)
def test_real_files_say_what_their_readme_says(
    real_data: Path, name: str, shape: tuple[int, ...], voxel_size: object, unit: str, interval: object
) -> None:
    movie = open_image(real_data / name)
    found = stacked(movie)
    assert found.shape == shape
    assert movie.setups[0].voxel_size == pytest.approx(voxel_size, rel=1e-4)
    assert (movie.setups[0].unit, movie.interval) == (unit, interval)
    peer = tifffile.imread(real_data / name, squeeze=False)  # T, Z, C, Y, X, S for ImageJ
    stored = peer.reshape(shape[0], shape[2], shape[1], *shape[3:]).swapaxes(1, 2)
    np.testing.assert_array_equal(found, stored)


@pytest.mark.real
def test_real_stack_without_words_is_asked_about(real_data: Path) -> None:
    with pytest.raises(FormatError, match="29 pages of 40 x 70 pixels"):
        open_image(real_data / "tgmm-crop-3d/01/t000.tif")
    assert is_tiff(real_data / "tgmm-crop-3d/01/t000.tif")
    assert not is_tiff(real_data / "README.md")
