"""What teaches from folders of single images, and from gold masks of single planes."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from pipeline import perfect, seeing

from bdv_io.formats import open_image, write_tracks
from bdv_io.image import Hints
from bdv_io.label_image import read_labels
from howdah.errors import DataError
from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.samples import Samples
from howdah.pipeline import Job
from howdah.pipeline.stills import masks_of_images, open_job, read_truth_or_stills
from howdah.pipeline.truth_planes import single_planes

CONFIG = EfficientCellSegConfig.of({"encoder": "lite0", "pretrained": "none"})


def test_masks_of_the_same_names_teach(tmp_path: Path) -> None:
    images, masks, truths = seeing.stills(tmp_path)
    truth = read_truth_or_stills(Job(images), CONFIG, truth=masks)
    assert truth.facts == {
        "truth": "masks of images",
        "annotation": "complete",
        "frames": 3,
        "cells": sum(len(np.unique(t)) - 1 for t in truths),
        "links": 0,
    }
    for t, expected in enumerate(truths):
        image, labels = truth.annotation.read(t)
        np.testing.assert_array_equal(labels[0], expected)
        assert image.shape == labels.shape
    (masks / "set05.tif").unlink()
    assert read_truth_or_stills(Job(images), CONFIG, truth=masks).annotation.times == (0, 2)
    assert read_truth_or_stills(Job(images, frames="0"), CONFIG, truth=masks).annotation.times == (0,)
    sparse = EfficientCellSegConfig.of({"annotation": "sparse"})
    assert not read_truth_or_stills(Job(images), sparse, truth=masks).annotation.complete


def test_masks_may_lie_beside_their_images_as_other_programs_name_them(tmp_path: Path) -> None:
    label = perfect.labels(0)[0].astype(np.uint16)
    for name, mask in (("cells", "cells_cp_masks"), ("day2_img", "day2_mask"), ("img7", "mask7")):
        (tmp_path / f"{name}.png").write_bytes(imagecodecs.png_encode(perfect.frame(0)[0]))
        (tmp_path / f"{mask}.png").write_bytes(imagecodecs.png_encode(label))
    truth = read_truth_or_stills(Job(tmp_path), CONFIG)
    assert truth.annotation.times == (0, 1, 2)
    np.testing.assert_array_equal(truth.annotation.read(1)[1][0], label)
    source, frames = open_job(Job(tmp_path))
    assert (source.image.n_frames, frames) == (3, [0, 1, 2])


def test_roi_sets_of_images_teach_sparsely(tmp_path: Path) -> None:
    images, masks, truths = seeing.stills(tmp_path)
    for file in masks.iterdir():
        write_tracks(file.with_suffix(".zip"), read_labels(file), image=open_image(images / file.name))
        file.unlink()
    truth = read_truth_or_stills(Job(images), CONFIG, truth=masks)
    assert not truth.annotation.complete
    np.testing.assert_array_equal(truth.annotation.read(2)[1][0] > 0, truths[2] > 0)


def test_a_roi_set_of_a_calibrated_movie_lies_where_it_was_drawn(tmp_path: Path) -> None:
    movie = perfect.movie(tmp_path)
    stack = np.stack([perfect.labels(t)[0] for t in range(4)]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "l.tif", stack, metadata={"axes": "TYX"}, imagej=True)
    write_tracks(tmp_path / "r.zip", read_labels(tmp_path / "l.tif"))
    truth = read_truth_or_stills(Job(movie), CONFIG, truth=tmp_path / "r.zip")
    assert (truth.kind, truth.annotation.complete) == ("ROI set", False)
    for t in range(4):
        np.testing.assert_array_equal(truth.annotation.read(t)[1] > 0, perfect.labels(t) > 0)


def test_axes_that_were_said_of_the_movie_count_for_its_labels(tmp_path: Path) -> None:
    for name, stack in (("i", perfect.frame(0, 5)), ("m", perfect.labels(0, 5).astype(np.uint16))):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack)
    truth = read_truth_or_stills(Job(tmp_path / "i.tif", hints=Hints(axes="ZYX")), CONFIG, truth=tmp_path / "m.tif")
    np.testing.assert_array_equal(truth.annotation.read(0)[1] > 0, perfect.labels(0, 5) > 0)


def test_patches_of_binary_masks_are_cells_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, masks, _ = seeing.stills(tmp_path)
    for file in masks.iterdir():
        mask = np.zeros(tifffile.imread(file).shape, np.uint8)
        mask[2:6, 2:6] = mask[9:12, 9:12] = mask[12, 12] = 255
        tifffile.imwrite(file, mask)
    truth = read_truth_or_stills(Job(images), CONFIG, truth=masks)
    assert truth.n_cells == 6
    assert np.unique(truth.annotation.read(0)[1]).tolist() == [0, 1, 2]
    assert "holds one number only, in up to 2 patches" in caplog.text
    caplog.clear()
    tifffile.imwrite(masks / "set02.tif", np.where(tifffile.imread(masks / "set02.tif") > 0, 7, 3).astype(np.uint8))
    truth = read_truth_or_stills(Job(images), CONFIG, truth=masks)
    assert (truth.n_cells, caplog.text) == (4, "")  # a cell in two patches, where masks do tell cells apart


def test_images_whose_results_would_have_one_name_are_refused(tmp_path: Path) -> None:
    images, _, _ = seeing.stills(tmp_path)
    (images / "SET02.png").write_bytes(imagecodecs.png_encode(perfect.frame(0)[0]))
    with pytest.raises(DataError, match=r"SET02\.png and set02\.tif in .* have the same name but for the ending"):
        open_job(Job(images))


def test_what_does_not_belong_together_is_a_sentence(tmp_path: Path) -> None:
    images, masks, _ = seeing.stills(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    other = tmp_path / "other"
    other.mkdir()
    tifffile.imwrite(other / "nobody.tif", np.ones((4, 4), np.uint8))
    for where, sentence in (
        (empty, "there are no label image"),
        (other, r"there are nobody\.tif"),
        (masks / "set02.tif", "must be in a folder too"),
    ):
        with pytest.raises(DataError, match=sentence):
            read_truth_or_stills(Job(images), CONFIG, truth=where)
    tifffile.imwrite(masks / "set02_mask.tif", np.ones((4, 4), np.uint8))
    with pytest.raises(DataError, match="has two masks"):
        masks_of_images(sorted(images.iterdir()), masks)
    (masks / "set02.tif").unlink()
    with pytest.raises(DataError, match=r"\(1, 4, 4\) pixels, but its image.*Do they belong together"):
        read_truth_or_stills(Job(images), CONFIG, truth=masks)
    for file in masks.iterdir():
        file.unlink()
    for file in images.iterdir():
        tifffile.imwrite(masks / file.name, np.zeros(tifffile.imread(file).shape, np.uint8))
    with pytest.raises(DataError, match=r"the 3 masks in .* hold no cell"):
        read_truth_or_stills(Job(images), CONFIG, truth=masks)
    with pytest.raises(DataError, match=r"No image of .* has a mask of its name"):
        read_truth_or_stills(Job(images), CONFIG)


def planes_folder(folder: Path) -> Path:
    """A sequence of two volumes; gold masks of plane 2 of frame 0 and plane 1 of frame 1."""
    movie, gold = folder / "01", folder / "01_GT" / "SEG"
    movie.mkdir(parents=True)
    gold.mkdir(parents=True)
    for t in range(2):
        tifffile.imwrite(movie / f"t{t:03d}.tif", perfect.frame(t, 5))
    for t, z in ((0, 2), (1, 1)):
        tifffile.imwrite(gold / f"man_seg_{t:03d}_{z:03d}.tif", perfect.labels(t, 5)[z].astype(np.uint16))
    return movie


@pytest.mark.parametrize("given", ["01", "01_GT"])
def test_gold_masks_of_single_planes_teach_these_planes_alone(tmp_path: Path, given: str) -> None:
    planes_folder(tmp_path)
    hints = Hints(voxel_size=(2.0, 0.5, 0.5), unit="µm")
    truth = read_truth_or_stills(Job(tmp_path / given, hints=hints), CONFIG)
    found = truth.annotation
    assert (truth.kind, found.times, dict(found.planes)) == ("gold planes", (0, 1), {0: (2,), 1: (1,)})
    _, labels = found.read(0)
    np.testing.assert_array_equal(labels[2] > 0, perfect.labels(0, 5)[2] > 0)
    assert not labels[[0, 1, 3, 4]].any()
    known = found.known(0, perfect.frame(0, 5).astype("f4"), labels, voxel_size=(2.0, 0.5, 0.5))
    assert known is not None
    assert known[2].all()
    assert known.sum() == known[2].sum()
    sparse = EfficientCellSegConfig.of(
        {"encoder": "lite0", "annotation": "sparse", "enlarge": 1, "validation_share": 0.0}
    )
    samples = Samples(read_truth_or_stills(Job(tmp_path / given, hints=hints), sparse).annotation, sparse)
    known = samples.store.frame(1)[:, 5] > 0
    assert known[1].any()
    assert not known[1].all()
    assert not known[[0, 2, 3, 4]].any()


def test_planes_that_do_not_fit_are_a_sentence(tmp_path: Path) -> None:
    movie = planes_folder(tmp_path)
    gold = tmp_path / "01_GT" / "SEG"
    tifffile.imwrite(gold / "man_seg_001_007.tif", perfect.labels(0)[0].astype(np.uint16))
    with pytest.raises(DataError, match=r"frame 1, plane 7 has \(Y, X\) = \(64, 64\) pixels"):
        read_truth_or_stills(Job(movie), CONFIG)
    silver = tmp_path / "01_ST" / "SEG"
    silver.mkdir(parents=True)
    tifffile.imwrite(silver / "man_seg000.tif", perfect.labels(0, 5).astype(np.uint16))
    assert single_planes(movie) is None  # whole frames, though silver, teach more
    assert single_planes(tmp_path / "01_GT") is not None


def test_an_annotation_without_planes_knows_all_or_what_is_near_cells() -> None:
    labels = perfect.labels(0).astype(np.int32)
    image = perfect.frame(0).astype(np.float32)
    whole = Annotation(lambda t: image, lambda t: labels, (0,), {}, complete=True)
    assert whole.known(0, image, labels, voxel_size=(1, 1, 1)) is None
    assert whole.planes_of(0, 3) == (0, 1, 2)


@pytest.mark.real
def test_real_stills_teach(real_data: Path) -> None:
    folder = real_data / "t98g-phase-stills"
    truth = read_truth_or_stills(Job(folder / "images"), CONFIG, truth=folder / "masks")
    assert (truth.facts["frames"], truth.facts["cells"], truth.facts["annotation"]) == (10, 253, "complete")
    folder = real_data / "stardist-stills"
    flat = read_truth_or_stills(Job(folder / "img2d.tif"), CONFIG, truth=folder / "mask2d.tif")
    deep = read_truth_or_stills(Job(folder / "img3d.tif", hints=Hints(axes="ZYX")), CONFIG, truth=folder / "mask3d.tif")
    assert (flat.n_cells, deep.n_cells, deep.annotation.read(0)[0].shape) == (125, 51, (31, 61, 57))
