"""What teaches EmbedTrack, from each kind of file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from pipeline import perfect

from bdv_io import Tracks
from bdv_io.formats import open_image, write_image, write_tracks
from bdv_io.image import ArrayImage, Hints
from bdv_io.label_image import LABEL, tracks_of_labels
from bdv_io.tags import Tag
from howdah.errors import DataError
from howdah.methods.annotation import Annotation
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.pipeline import Job
from howdah.pipeline.machine_marks import marked
from howdah.pipeline.truth import LabelFrames, joined, read_truth

CONFIG = EmbedTrackConfig()
TRACKS_TABLE = "1 0 3 0\n2 0 1 0\n3 2 3 2\n4 2 3 2\n"


def sequence(folder: Path, name: str = "01", depth: int = 1) -> Path:
    """Write the frames of a challenge sequence."""
    target = folder / name
    target.mkdir(parents=True)
    for t in range(4):
        image = perfect.frame(t, depth)
        tifffile.imwrite(target / f"t{t:03d}.tif", image if depth > 1 else image[0])
    return target


def write_masks(folder: Path, images: dict[int, np.ndarray], name: str) -> None:
    folder.mkdir(parents=True)
    for t, image in images.items():
        tifffile.imwrite(folder / f"{name}{t:03d}.tif", image[0].astype(np.uint16))


def markers(t: int) -> np.ndarray:
    """A dot in each cell."""
    image = np.zeros_like(perfect.labels(t))
    for number, places in perfect.CELLS.items():
        if t in places:
            y, x, _ = (round(v) for v in places[t])
            image[0, y - 1 : y + 2, x - 1 : x + 2] = number
    return image


def gold(sequence_folder: Path) -> None:
    tra = sequence_folder.with_name(f"{sequence_folder.name}_GT") / "TRA"
    write_masks(tra, {t: perfect.labels(t) for t in range(4)}, "man_track")
    (tra / "man_track.txt").write_text(TRACKS_TABLE)


def silver(sequence_folder: Path) -> None:
    """Markers, and masks whose numbers mean nothing; two cells of frame 3 are one mask, and a mask has no marker."""
    truth = sequence_folder.with_name(f"{sequence_folder.name}_GT")
    write_masks(truth / "TRA", {t: markers(t) for t in range(4)}, "man_track")
    (truth / "TRA" / "man_track.txt").write_text(TRACKS_TABLE)
    masks = {t: np.where(perfect.labels(t) > 0, 9 - perfect.labels(t), 0) for t in range(4)}
    masks[3][masks[3] == 9 - 3] = 9 - 4
    masks[0][0, :4, 50:60] = 20
    write_masks(sequence_folder.with_name(f"{sequence_folder.name}_ST") / "SEG", masks, "man_seg")


def as_pixels(truth: Annotation, t: int) -> np.ndarray:
    return truth.read(t)[1]


def same_cells(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two label images show the same cells under whatever numbers."""
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    return all(len(np.unique(row)) == pairs.shape[1] for row in pairs)


@settings(deadline=None, max_examples=25)
@given(
    st_np.arrays(
        np.uint8,
        st.tuples(st.just(3), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)),
        elements=st.integers(0, 3),
    ),
    st.tuples(*[st.sampled_from([1.0, 0.3, 2.16, 0.0907])] * 3),
)
def test_a_label_image_comes_back_pixel_by_pixel(labels: np.ndarray, size: tuple[float, float, float]) -> None:
    image = ArrayImage(list(labels), voxel_size=size, unit="µm")
    tracks = tracks_of_labels(image)
    frames = LabelFrames(tracks, image)
    for t, expected in enumerate(labels):
        names = np.concatenate([[0], tracks.feature(LABEL).values[frames.rows(t)]])
        np.testing.assert_array_equal(names[frames(t)], expected)


def test_gold_masks_of_a_challenge_folder_teach_completely(tmp_path: Path) -> None:
    movie = sequence(tmp_path)
    gold(movie)
    write_masks(tmp_path / "01_GT" / "SEG", {t: perfect.labels(t) for t in range(4)}, "man_seg")
    silver_too = tmp_path / "01_ST" / "SEG"
    write_masks(silver_too, {t: perfect.labels(t) * 0 for t in range(4)}, "man_seg")
    for source in (movie, tmp_path / "01_GT"):
        truth = read_truth(Job(source), CONFIG)
        assert truth.facts == {"truth": "gold", "annotation": "complete", "frames": 4, "cells": 10, "links": 8}
        for t in range(4):
            assert same_cells(as_pixels(truth.annotation, t), perfect.labels(t))
        assert len(truth.annotation.links(2)) == 3
        np.testing.assert_array_equal(truth.annotation.read(1)[0], perfect.frame(1))
    at_two = as_pixels(truth.annotation, 2)
    mother = as_pixels(truth.annotation, 1)[0, 44, 30]
    daughters = {int(at_two[0, 44, 21]), int(at_two[0, 44, 39])}
    assert {int(a) for a, b in truth.annotation.links(2) if b == mother} == daughters


def test_silver_masks_take_the_numbers_of_markers(tmp_path: Path) -> None:
    movie = sequence(tmp_path)
    silver(movie)
    truth = read_truth(Job(movie), CONFIG)
    assert truth.kind == "silver"
    assert truth.annotation.complete
    assert truth.n_cells == 8  # neither the mask with two markers nor the one without
    for t in range(3):
        assert same_cells(as_pixels(truth.annotation, t), perfect.labels(t))
    assert same_cells(as_pixels(truth.annotation, 3), np.where(perfect.labels(3) == 1, 1, 0))
    assert [len(truth.annotation.links(t)) for t in range(4)] == [0, 2, 3, 1]


def test_silver_masks_without_markers_of_their_frame_do_not_teach_that_it_is_empty(tmp_path: Path) -> None:
    movie = sequence(tmp_path)
    silver(movie)
    (tmp_path / "01_GT" / "TRA" / "man_track002.tif").unlink()
    (tmp_path / "01_GT" / "TRA" / "man_track.txt").write_text("1 0 3 0\n2 0 1 0\n3 3 3 2\n4 3 3 2\n")
    assert read_truth(Job(movie), CONFIG).annotation.times == (0, 1, 3)


def test_masks_of_some_frames_only_teach_those(tmp_path: Path) -> None:
    movie = sequence(tmp_path)
    silver(movie)
    (tmp_path / "01_ST").rename(tmp_path / "elsewhere")
    write_masks(tmp_path / "01_GT" / "SEG", {t: perfect.labels(t) for t in (1, 2)}, "man_seg")
    truth = read_truth(Job(movie), CONFIG)
    assert truth.annotation.times == (1, 2)
    assert truth.facts["links"] == 3
    with pytest.raises(DataError, match="no cell is outlined in the frames"):
        read_truth(Job(movie, frames="3"), CONFIG)


def test_all_sequences_of_a_folder_teach_and_the_last_tenth_of_each_comes_last(tmp_path: Path) -> None:
    for name in ("01", "02"):
        gold(sequence(tmp_path, name))
    truth = read_truth(Job(tmp_path), EmbedTrackConfig(validation_share=0.25))
    assert truth.n_cells == 20
    times = truth.annotation.times
    assert times == (1, 2, 3, 5, 6, 7, 9, 11)
    assert sorted(truth.annotation.earlier) == [2, 3, 6, 7]
    np.testing.assert_array_equal(truth.annotation.read(9)[0], perfect.frame(3))
    assert set(truth.inputs) == {"image_01", "image_02"}


def test_movies_that_differ_cannot_be_learned_as_one() -> None:
    one = Annotation(perfect.frame, perfect.labels, (0, 1), {}, complete=True)
    other = Annotation(perfect.frame, perfect.labels, (0, 1), {}, complete=True, voxel_size=(1.0, 2.0, 2.0))
    with pytest.raises(DataError, match="same voxel size"):
        joined([one, other], validation_share=0.1)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A person's outlines of frames 0 and 1, and in frame 2 predictions and a cell that she rejected."""
    movie = perfect.movie(tmp_path)
    tracks = tracks_of_labels(ArrayImage([perfect.labels(t) for t in range(3)], voxel_size=(1.0, 0.5, 0.5), unit="µm"))
    tracks = Tracks.build(
        tracks.t,
        tracks.centre,
        covariance=tracks.covariance,
        outlines=tracks.outlines,
        links=tracks.links,
        space_unit="µm",
    )
    last = np.flatnonzero(tracks.t == 2)
    tracks = marked(tracks, spots=last[:2], links=np.empty(0, dtype=np.int64))
    tracks = tracks.with_tag("Detection", Tag("fp"), spots=last[2:])
    write_tracks(tmp_path / "outlined.xml", tracks, image=open_image(movie))
    return tmp_path / "outlined.xml"


def test_a_trackmate_file_teaches_what_a_person_outlined(project: Path) -> None:
    truth = read_truth(Job(project), CONFIG)
    assert truth.facts == {"truth": "project", "annotation": "sparse", "frames": 2, "cells": 4, "links": 2}
    for t in (0, 1):
        assert same_cells(as_pixels(truth.annotation, t), perfect.labels(t))
    assert truth.annotation.voxel_size == (1.0, 0.5, 0.5)
    whole = read_truth(Job(project), EmbedTrackConfig(annotation="complete"))
    assert whole.annotation.complete
    assert whole.facts["frames"] == 2
    with pytest.raises(DataError, match="2 are predictions that nobody touched"):
        read_truth(Job(project, frames="2"), CONFIG)


def test_predictions_of_a_frame_that_she_looked_at_teach_as_a_whole(project: Path) -> None:
    truth = read_truth(Job(project, frames="1-2"), EmbedTrackConfig(annotation="complete"))
    assert truth.annotation.times == (1, 2)
    refused = as_pixels(truth.annotation, 2) == 0
    assert truth.n_cells == 4  # two of hers, two predictions; the one that she rejected is none
    assert np.count_nonzero(perfect.labels(2)[refused]) > 0
    assert len(truth.annotation.links(2)) == 1


def test_links_of_a_machine_do_not_teach_where_annotation_is_sparse(tmp_path: Path) -> None:
    movie = perfect.movie(tmp_path, depth=9)
    tracks = Tracks.build([0, 1, 2], [[4.0, 7.0, 6.0]] * 3, radius=3.0, links=[[0, 1], [1, 2]], space_unit="µm")
    tracks = marked(tracks, spots=np.empty(0, dtype=np.int64), links=np.array([1]))
    write_tracks(tmp_path / "p.mastodon", tracks, image=open_image(movie))
    annotation = read_truth(Job(tmp_path / "p.mastodon"), CONFIG).annotation
    assert [len(annotation.links(t)) for t in (1, 2)] == [1, 0]


def test_in_a_complete_frame_predictions_that_a_person_left_are_cells_not_background(project: Path) -> None:
    complete = EmbedTrackConfig(annotation="complete")
    unnamed = read_truth(Job(project), complete)
    assert (unnamed.annotation.times, unnamed.n_cells) == ((0, 1), 4)  # in frame 2 nothing is a person's
    named = read_truth(Job(project, frames="1-2"), complete)
    assert (named.annotation.times, named.n_cells) == ((1, 2), 4)
    seen = as_pixels(named.annotation, 2)
    assert ((seen > 0) <= (perfect.labels(2) > 0)).all()
    assert len(np.unique(seen)) == 1 + 2  # the rejected one is background


def test_ellipsoids_of_a_mastodon_project_teach_volumes(tmp_path: Path) -> None:
    movie = perfect.movie(tmp_path, depth=9)
    tracks = Tracks.build([0, 1], [[4.0, 7.0, 6.0], [4.0, 7.0, 7.5]], radius=3.0, links=[[0, 1]], space_unit="µm")
    write_tracks(tmp_path / "p.mastodon", tracks, image=open_image(movie))
    truth = read_truth(Job(tmp_path / "p.mastodon"), CONFIG)
    volume = np.count_nonzero(as_pixels(truth.annotation, 0))
    assert volume == pytest.approx(4 / 3 * np.pi * 27 / 0.25, rel=0.1)
    assert truth.annotation.links(1).tolist() == [[1, 1]]


@pytest.mark.parametrize("depth", [1, 5])
def test_a_label_image_beside_a_movie(tmp_path: Path, depth: int) -> None:
    movie = perfect.movie(tmp_path, depth)
    own = ArrayImage([perfect.labels(t, depth).astype(np.uint16) for t in range(4)])  # says nothing of voxel size
    write_image(tmp_path / "labels.tif", own)
    truth = read_truth(Job(movie), CONFIG, truth=tmp_path / "labels.tif")
    assert truth.facts == {"truth": "label image", "annotation": "complete", "frames": 4, "cells": 10, "links": 6}
    for t in range(4):
        np.testing.assert_array_equal(as_pixels(truth.annotation, t) > 0, perfect.labels(t, depth) > 0)
    write_image(tmp_path / "small.tif", ArrayImage([np.ones((depth, 8, 8), np.uint16)] * 2))
    with pytest.raises(DataError, match="Do they belong together"):
        read_truth(Job(movie), CONFIG, truth=tmp_path / "small.tif")


def test_frames_of_a_label_image_that_nobody_worked_on_are_not_taken_as_empty(tmp_path: Path) -> None:
    movie = perfect.movie(tmp_path)
    some = [perfect.labels(t).astype(np.uint16) * (t in (1, 2)) for t in range(4)]
    write_image(tmp_path / "labels.tif", ArrayImage(some))
    annotation = read_truth(Job(movie), CONFIG, truth=tmp_path / "labels.tif").annotation
    assert annotation.times == (1, 2)
    assert annotation.complete
    for own in (annotation, joined([annotation, annotation], validation_share=0.0)):
        assert own.beside is not None
        before, after = own.beside(own.times[-1])
        np.testing.assert_array_equal(before, open_image(movie).read(1))
        np.testing.assert_array_equal(after, open_image(movie).read(3))  # nobody annotated it
    assert not annotation.tells_new(2)  # cells 3 and 4 may be daughters: numbers do not tell
    assert replace(annotation, mothers=True).tells_new(2)


def test_a_movie_alone_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a movie without outlines"):
        read_truth(Job(perfect.movie(tmp_path)), CONFIG)
    with pytest.raises(DataError, match="has no movie beside it"):
        gold(tmp_path / "01")
        read_truth(Job(tmp_path / "01_GT"), CONFIG)


def test_hints_of_a_challenge_folder(tmp_path: Path) -> None:
    movie = sequence(tmp_path)
    gold(movie)
    truth = read_truth(Job(movie, hints=Hints(voxel_size=(1.0, 0.3, 0.3), unit="µm")), CONFIG)
    assert truth.annotation.voxel_size == pytest.approx((1.0, 0.3, 0.3))
    assert same_cells(as_pixels(truth.annotation, 2), perfect.labels(2))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "kind", "cells"),
    [("hela-h2b-2d", "gold", 615), ("t98g-phase-2d", "silver", 447), ("tgmm-crop-3d", "gold", 122)],
)
def test_real_challenge_folders(real_data: Path, name: str, kind: str, cells: int) -> None:
    truth = read_truth(Job(real_data / name / "01", frames=None), CONFIG)
    assert (truth.kind, truth.n_cells) == (kind, cells)
    assert truth.annotation.complete
