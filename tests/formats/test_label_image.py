"""Label images as spots, and spots painted as label images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bdv_io.label_image as label_image
from bdv_io.errors import FormatError, MissingDataError, UnsupportedError, ValidationError
from bdv_io.formats import read_tracks, write_tracks
from bdv_io.image import ArrayImage, ImageSeries
from bdv_io.label_image import LABEL, LabelSeries, lost_in_labels, numbers_of, tracks_of_labels, write_labels
from bdv_io.masks import Grid, Painter, grid_of
from bdv_io.outlines import Outlines
from bdv_io.tracks import Tracks

SQUARE = [[1, 1], [1, 4], [4, 4], [4, 1]]


def movie(*frames, **options):
    return ArrayImage([np.atleast_3d(np.asarray(f))[None, :, :, 0] if np.ndim(f) < 3 else f for f in frames], **options)


def painted(tracks, image):
    grid = grid_of(tracks, image, "Painting")
    return [Painter(tracks, grid, values=numbers_of(tracks), dtype=np.int64).frame(t) for t in range(grid.n_frames)]


class TestReading:
    def test_spots_links_and_calibration(self):
        image = movie(
            [[1, 1, 0], [0, 0, 5]],
            [[1, 1, 0], [0, 0, 0]],
            [[0, 1, 0], [0, 0, 5]],
            voxel_size=(2, 0.5, 0.5),
            unit="µm",
            interval=(3.0, "min"),
        )
        tracks = tracks_of_labels(image).validate()
        assert tracks.t.tolist() == [0, 0, 1, 2, 2]
        assert tracks.feature(LABEL).values.tolist() == [1, 5, 1, 1, 5]
        assert tracks.links.tolist() == [[0, 2], [2, 3]]
        assert tracks.centre[1].tolist() == [0, 0.5, 1]
        assert tracks.outlines.ring(0).tolist() == [[-0.25, -0.25], [0.25, -0.25], [0.25, 0.75], [-0.25, 0.75]]
        assert (tracks.space_unit, tracks.interval, tracks.time_unit) == ("µm", 3.0, "min")
        assert tracks_of_labels(image, links_by_id=False).n_links == 0
        assert len(tracks_of_labels(image, outlines=False).outlines) == 0

    def test_whole_numbers_as_floats(self):
        assert tracks_of_labels(movie(np.float32([[70_000, 0]]))).feature(LABEL).values.tolist() == [70_000]
        with pytest.raises(
            FormatError, match=r"frame 0 of None failed: the image has values that are no whole numbers"
        ):
            tracks_of_labels(movie(np.float32([[0.5, 0]])))
        with pytest.raises(FormatError, match="found the label -3"):
            tracks_of_labels(movie([[-3, 0]]))
        with pytest.raises(FormatError, match="beyond 63 bits"):
            tracks_of_labels(movie(np.array([[2**63, 0]], dtype=np.uint64)))

    def test_several_channels_are_ambiguous(self):
        with pytest.raises(FormatError, match="it is not clear which one holds the labels"):
            tracks_of_labels(ArrayImage(np.zeros((1, 2, 1, 3, 3), dtype=np.uint8)))

    def test_no_spots(self):
        assert tracks_of_labels(movie([[0, 0]], [[0, 0]])).validate().n_spots == 0

    def test_tilted_image_has_no_planes(self):
        class Tilted(ArrayImage):
            def affine(self, frame, setup=0, level=0):
                return np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])

        with pytest.raises(UnsupportedError, match="registered with a rotation out of its planes"):
            tracks_of_labels(Tilted(np.ones((1, 1, 2, 2), dtype=np.uint8)))

    @pytest.mark.real
    def test_reference_masks_with_ids_of_tracks(self, real_data):
        tifffile = pytest.importorskip("tifffile")
        files = sorted((real_data / "nist-lineage-mapper/reference-division").glob("trk-seg_*.tif"))
        frames = [tifffile.imread(file)[None] for file in files]
        tracks = tracks_of_labels(ArrayImage(frames)).validate()
        assert tracks.n_spots == sum(len(np.unique(frame)) - 1 for frame in frames)
        assert all((a == b).all() for a, b in zip(painted(tracks, None), frames, strict=True))


class TestPainting:
    def test_outlines_over_ellipsoids_later_over_earlier(self):
        outline = Outlines.of_polygons([0], [SQUARE], 0.0)
        tracks = Tracks.build([0, 0], [[0, 2, 2], [0, 3, 4]], radius=1.1, outlines=outline)
        (labels,) = painted(tracks, movie(np.zeros((6, 6), np.uint8)))
        assert labels[0].tolist() == [
            [0, 0, 0, 0, 0, 0],
            [0, 0, 1, 1, 1, 0],
            [0, 0, 1, 1, 2, 0],
            [0, 0, 1, 2, 2, 2],
            [0, 0, 0, 0, 2, 0],
            [0, 0, 0, 0, 0, 0],
        ]

    def test_planes_that_fall_into_one_are_joined(self):
        outline = Outlines.of_polygons([0, 0], [SQUARE, SQUARE], [0.9, 1.1])
        tracks = Tracks.build([0], [[1, 2, 2]], radius=1, outlines=outline)
        (labels,) = painted(tracks, ArrayImage(np.zeros((1, 3, 6, 6), np.uint8)))
        assert labels.sum(axis=(1, 2)).tolist() == [0, 9, 0]

    def test_thin_outline_has_the_voxel_at_its_centre(self):
        thin = Outlines.of_polygons([0], [[[2.1, 2.1], [2.1, 2.2], [2.2, 2.2]]], 0.0)
        (labels,) = painted(Tracks.build([0], [[0, 2.2, 2.2]], radius=1, outlines=thin), movie(np.zeros((4, 4), int)))
        assert np.argwhere(labels).tolist() == [[0, 2, 2]]

    def test_frame_of_world_coordinates(self):
        image = movie(np.zeros((8, 8), np.uint8), voxel_size=(1, 0.5, 0.5))
        outline = Outlines.of_polygons([0], [np.array(SQUARE) / 2], 0.0)
        (labels,) = painted(Tracks.build([0], [[0, 1, 1]], radius=1, outlines=outline), image)
        assert labels.sum() == 9

    @settings(deadline=None, max_examples=60)
    @given(hnp.arrays(np.uint16, st.tuples(*[st.integers(1, n) for n in (3, 3, 6, 6)]), elements=st.integers(0, 3)))
    def test_labels_come_back(self, frames):
        tracks = tracks_of_labels(ArrayImage(frames, voxel_size=(3, 0.25, 0.5)))
        assert (np.array(painted(tracks, None)) == frames).all()
        shuffled = tracks.select(np.random.default_rng(0).permutation(tracks.n_spots))
        assert (np.array(painted(shuffled, None)) == frames).all()

    def test_ellipsoid_that_is_none(self):
        tracks = replace(Tracks.build([0], [[0, 1, 1]], radius=1), covariance=np.zeros((1, 3, 3)))
        with pytest.raises(ValidationError, match="not positive definite"):
            painted(tracks, movie(np.zeros((4, 4), np.uint8)))


class TestNumbers:
    def test_kept_where_unique_in_a_frame(self):
        tracks = tracks_of_labels(movie([[7, 0, 3]], [[7, 0, 3]]))
        assert numbers_of(tracks).tolist() == [3, 7, 3, 7]
        assert numbers_of(tracks.concatenate(tracks)).tolist() == [1, 2, 1, 2, 3, 4, 3, 4]

    def test_cells_from_division_to_division(self):
        tracks = Tracks.build([0, 1, 2, 2, 3], np.zeros((5, 3)), radius=1, links=[[0, 1], [1, 2], [1, 3], [2, 4]])
        assert numbers_of(tracks).tolist() == [1, 1, 2, 3, 2]
        assert lost_in_labels(tracks) == [
            "2 links, those of divisions, merges and gaps: a label image only says that a number in consecutive frames is "
            "the same cell.",
            "5 spots have no outline: their ellipsoids become voxels.",
        ]


class TestSeries:
    def test_is_a_movie(self):
        tracks = tracks_of_labels(movie([[1, 0], [0, 2]]))
        series = LabelSeries(tracks, grid_of(tracks, None, "x"), values=numbers_of(tracks))
        assert isinstance(series, ImageSeries)
        assert series.read(0, region=(slice(0, 1), slice(1, 2), slice(0, 2))).tolist() == [[[0, 2]]]
        assert series.setups[0].dtype == np.uint16
        with pytest.raises(MissingDataError, match="Frame 1, setup 0, level 0 of painted labels"):
            series.read(1)

    def test_wide_numbers(self):
        tracks = tracks_of_labels(movie([[2**31, 0]]))
        grid = Grid((1, 1, 2), np.eye(4), 1)
        assert LabelSeries(tracks, grid, values=numbers_of(tracks)).read(0).tolist() == [[[2**31, 0]]]
        with pytest.raises(UnsupportedError, match=f"the number {2**40} is beyond 32 bits"):
            LabelSeries(tracks, grid, values=np.array([2**40]))

    def test_written_without_pyramid(self, tmp_path, monkeypatch):
        seen = {}

        def writing(path, image, *, options):
            seen.update(path=path, frames=[image.read(t) for t in range(image.n_frames)], options=options)
            yield 1

        monkeypatch.setattr(label_image, "writing_image", writing)
        write_labels(tmp_path / "x.tif", tracks_of_labels(movie([[4, 0]], [[0, 4]])))
        assert [frame.tolist() for frame in seen["frames"]] == [[[[4, 0]]], [[[0, 4]]]]
        assert seen["options"].levels == ((1, 1, 1),)
        with pytest.raises(MissingDataError, match=r"Writing .*y\.tif failed: a mask needs the size of the image"):
            write_labels(tmp_path / "y.tif", Tracks.empty())

    def test_through_a_file(self, tmp_path):
        tracks = tracks_of_labels(movie([[4, 0, 70_000]], [[0, 4, 0]], voxel_size=(2, 0.5, 0.5), unit="µm"))
        write_tracks(tmp_path / "x.xml", tracks, key="labels")
        found = read_tracks(tmp_path / "x.xml", key="labels")
        assert found.feature(LABEL).values.tolist() == [4, 70_000, 4]
        assert (found.outlines.vertices == tracks.outlines.vertices).all()
        assert found.links.tolist() == tracks.links.tolist()
