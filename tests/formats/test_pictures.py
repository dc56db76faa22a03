"""PNG and JPEG pictures, and folders of single images."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from bdv_io import FormatError, MissingDataError
from bdv_io.formats import identify, open_image
from bdv_io.image import Hints, ImageSeries
from bdv_io.label_image import read_labels
from bdv_io.stills import Stills, images_in

GREY = np.arange(12 * 9, dtype=np.uint8).reshape(12, 9)


def png(path: Path, pixels: np.ndarray) -> Path:
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_png_is_a_movie_of_one_frame(tmp_path: Path, dtype: type) -> None:
    pixels = GREY.astype(dtype) * (100 if dtype is np.uint16 else 1)
    file = png(tmp_path / "a.png", pixels)
    assert identify(file).key == "picture"
    image = open_image(file, hints=Hints(voxel_size=(1.0, 0.5, 0.5), unit="µm"))
    assert isinstance(image, ImageSeries)
    assert (image.n_frames, image.shape(0), image.setups[0].dtype) == (1, (1, 12, 9), np.dtype(dtype))
    np.testing.assert_array_equal(image.read(0)[0], pixels)
    np.testing.assert_array_equal(image.read(0, region=(slice(0, 1), slice(2, 5), slice(1, 4))), pixels[None, 2:5, 1:4])
    np.testing.assert_array_equal(image.affine(0).diagonal(), [1.0, 0.5, 0.5, 1.0])


def test_colours_are_setups_and_transparency_is_left_out(tmp_path: Path) -> None:
    colours = np.stack([GREY, GREY + 1, GREY + 2, np.full_like(GREY, 255)], axis=2)
    for n in (3, 4):
        image = open_image(png(tmp_path / f"{n}.png", np.ascontiguousarray(colours[:, :, :n])))
        assert [setup.name for setup in image.setups] == ["red", "green", "blue"]
        np.testing.assert_array_equal(image.read(0, 1)[0], GREY + 1)
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(colours[:, :, :3])))
    assert open_image(tmp_path / "a.jpg").read(0, 2).shape == (1, 12, 9)
    (tmp_path / "g.jpeg").write_bytes(imagecodecs.jpeg8_encode(GREY))
    assert len(open_image(tmp_path / "g.jpeg").setups) == 1
    with pytest.raises(FormatError, match="has 3 channels"):
        read_labels(tmp_path / "3.png")


def test_a_png_of_labels_is_read(tmp_path: Path) -> None:
    labels = np.zeros((12, 9), dtype=np.uint16)
    labels[2:5, 2:5], labels[7:10, 3:8] = 300, 2
    assert read_labels(png(tmp_path / "m.png", labels)).n_spots == 2


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    whole = imagecodecs.png_encode(GREY)
    huge = bytearray(whole)
    huge[16:20] = (2**30).to_bytes(4, "big")
    for name, data, sentence in (
        ("short.png", whole[:20], "no PNG or JPEG, or damaged"),
        ("huge.png", bytes(huge), "claims to have 1073741824 x 12 pixels"),
        ("empty.jpg", b"\xff\xd8\xff\xe0\0\x02", "no PNG or JPEG, or damaged"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FormatError, match=sentence):
            open_image(tmp_path / name)
    (tmp_path / "cut.png").write_bytes(whole[:60])
    with pytest.raises(FormatError, match="damaged"):
        open_image(tmp_path / "cut.png").read(0)
    with pytest.raises(MissingDataError, match="a picture has one frame"):
        open_image(png(tmp_path / "a.png", GREY)).read(1)


def test_a_folder_of_images_of_any_size_and_format(tmp_path: Path) -> None:
    png(tmp_path / "b.png", GREY)
    tifffile.imwrite(tmp_path / "a.tif", GREY[:5].astype(np.uint16))
    (tmp_path / "notes.txt").write_text("x")
    files = images_in(tmp_path)
    assert [file.name for file in files] == ["a.tif", "b.png"]
    stills = Stills(tmp_path, files)
    assert isinstance(stills, ImageSeries)
    assert [stills.shape(t) for t in range(2)] == [(1, 5, 9), (1, 12, 9)]
    np.testing.assert_array_equal(stills.read(1)[0], GREY)
    stills.close()
    assert stills.read(0).shape == (1, 5, 9)
    with pytest.raises(MissingDataError, match="Image 2 of"):
        stills.read(2)
    with pytest.raises(MissingDataError, match="holds no image"):
        Stills(tmp_path, [])
    png(tmp_path / "c.png", np.stack([GREY] * 3, axis=2))
    with pytest.raises(FormatError, match=r"c\.png failed: it holds 1 frames of 3 channels"):
        Stills(tmp_path, images_in(tmp_path)).shape(2)
