"""TIFFs that are cut off, damaged or made to hurt: a sentence, never another error, no hang, no flood of memory."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.errors import BdvIoError, FormatError, MissingDataError, UnsupportedError
from bdv_io.image import Hints
from bdv_io.tiff import is_tiff, open_tiff

RANDOM = np.random.default_rng(4)
MOVIE = RANDOM.integers(0, 200, (3, 2, 2, 20, 24)).astype(np.uint16)


def tags(*entries: tuple[int, int, int, int], following: int = 0, order: str = "<") -> bytes:
    """One classic directory at byte 8."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return head + struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", following)


def page(width: int, height: int, *more: tuple[int, int, int, int], following: int = 0, bits: int = 8) -> bytes:
    wanted = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
    ]
    return tags(*wanted, *more, following=following)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "its first bytes, b'', are not those of a TIFF"),
        (b"II*\0", "are not those of a TIFF"),
        (b"PK\3\4" + bytes(30), "are not those of a TIFF"),
        (b"II*\0" + struct.pack("<I", 0), "it holds no page"),
        (b"II*\0" + struct.pack("<I", 10**9), "page 0 would be at byte 1000000000"),
        (tags((256, 4, 1, 5)), "says neither width nor height"),
        (page(5, 5), "lists 0 of 1 strips"),
        (page(5, 5, (273, 4, 1, 8), (279, 4, 1, 25), following=8), "run in a circle"),
        (page(5, 5, (273, 4, 1, 8), (279, 4, 1, 25), following=4000), "page 1 would be at byte 4000"),
        (page(10**6, 10**6, (273, 4, 1, 8), (279, 4, 1, 25)), "1000000 x 1000000 uint8 .* would end at byte"),
        (page(5, 5, (273, 4, 10**9, 8), (279, 4, 1, 25)), "tag 273 of page 0 claims 4000000000 bytes"),
        (page(5, 5, (273, 4, 1, 8), (279, 4, 1, 25), (700, 1, 2**31, 8)), "tag 700 of page 0 claims 2147483648 bytes"),
        (page(40, 40, (273, 4, 1, 8), (279, 4, 1, 90)), "would end at byte"),
        (b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", 1 << 60), "claims 1152921504606846976 tags"),
    ],
)
def test_damaged_files_give_a_sentence(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FormatError, match=match):
        open_tiff(tmp_path / "a.tif")


def test_claimed_compressed_pixels_are_not_believed(tmp_path: Path) -> None:
    content = page(10**5, 10**5, (273, 4, 1, 8), (279, 4, 1, 25)).replace(
        struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 8)
    )
    (tmp_path / "a.tif").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(FormatError, match="claims 100000 x 100000 pixels in 25 stored bytes"):
        open_tiff(tmp_path / "a.tif")
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {"ome": True, "compression": "zlib"}], ids=str)
def test_every_cut_is_told(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, MOVIE, metadata={"axes": "TZCYX"}, **options)
    whole = path.read_bytes()
    cuts = sorted({1, 7, 9, 100, *range(150, len(whole), len(whole) // 40), len(whole) - 1})
    told = 0
    for cut in cuts:
        path.write_bytes(whole[:cut])
        try:
            movie = open_tiff(path)
            found = np.array([[movie.read(t, s) for s in range(2)] for t in range(3)])
        except (FormatError, MissingDataError):
            told += 1
        else:  # only padding at the end was cut
            np.testing.assert_array_equal(found, MOVIE.swapaxes(1, 2))
    assert told >= len(cuts) - 1


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_damage_is_a_sentence_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(SAMPLES)))
    head = data.draw(st.booleans())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 400 if head else len(whole) - 1)) % len(whole)
        whole[at] = data.draw(st.one_of(st.sampled_from([0, 1, 255]), st.integers(0, 255)))
    path = tmp_path_factory.mktemp("any") / "a.tif"
    path.write_bytes(bytes(whole))
    is_tiff(path)
    with contextlib.suppress(BdvIoError):
        movie = open_tiff(path, hints=Hints(axes=data.draw(st.sampled_from([None, "TZCYX"]))))
        movie.read(0, region=(slice(0, 2), slice(0, 20), slice(0, 20)))
        movie.read(movie.n_frames - 1, len(movie.setups) - 1, region=(slice(0, 2), slice(0, 20), slice(0, 20)))


def samples() -> list[bytes]:
    found = []
    for options in (
        {"imagej": True}, {"ome": True, "compression": "zlib", "predictor": True}, {"compression": "lzw"}, {"tile": (16, 16)},
        {"bigtiff": True, "byteorder": ">", "compression": "zstd"}, {"compression": "packbits", "rowsperstrip": 3},
    ):  # fmt: skip
        file = io.BytesIO()
        tifffile.imwrite(file, MOVIE, photometric="minisblack", metadata={"axes": "TZCYX"}, **options)
        found.append(file.getvalue())
    return found


SAMPLES = samples()


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><OME><Image/></OME>',
        "<OME><Image>",
        "<OME><Image ID='a'/></OME>",
        "<OME></OME>",
        '<OME><Image><Pixels DimensionOrder="XYZ" SizeX="24"/></Image></OME>',
        '<OME><Image><Pixels DimensionOrder="XYCZT" SizeX="24" SizeY="20" SizeC="1" SizeZ="-3" SizeT="1"/></Image></OME>',
        '<OME><Image><Pixels DimensionOrder="XYCZT" SizeX="24" SizeY="20" SizeC="1" SizeZ="1" SizeT="1"/></Image></OME>',
        '<OME><BinaryOnly MetadataFile="none.companion.ome" UUID="urn:1"/></OME>',
        '<OME><Image><Pixels DimensionOrder="XYCZT" SizeX="24" SizeY="20" SizeC="1" SizeZ="2" SizeT="1">'
        '<TiffData FirstZ="0" IFD="0"/><TiffData FirstZ="1" IFD="0"/></Pixels></Image></OME>',
        '<OME><Image><Pixels DimensionOrder="XYCZT" SizeX="9" SizeY="9" SizeC="1" SizeZ="1" SizeT="1"><TiffData/></Pixels></Image></OME>',
    ],
)
def test_bad_ome_xml(tmp_path: Path, xml: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", MOVIE[0, 0], photometric="minisblack", description=xml, metadata=None)
    with pytest.raises((FormatError, MissingDataError, UnsupportedError), match=r"OME-XML|images|metadata file"):
        open_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("line", ["images=-5", "slices=0", "frames=99999999999", "channels=x", "slices=3\nimages=6"])
def test_bad_imagej_header(tmp_path: Path, line: str) -> None:
    text = f"ImageJ=1.54p\n{line}\n"
    tifffile.imwrite(tmp_path / "a.tif", MOVIE[0, 0], photometric="minisblack", description=text, metadata=None)
    with pytest.raises(FormatError, match="ImageJ's header"):
        open_tiff(tmp_path / "a.tif")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such file"):
        open_tiff(tmp_path / "none.tif")
    assert not is_tiff(tmp_path / "none.tif")
    assert not is_tiff(tmp_path / "nu\0ll.tif")


def test_pixels_no_one_can_show(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", MOVIE[0, 0, 0].astype(np.complex64), metadata=None)
    with pytest.raises(UnsupportedError, match="64 bits of kind 6"):
        open_tiff(tmp_path / "a.tif")
