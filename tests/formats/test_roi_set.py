"""ImageJ ROI sets: what ImageJ wrote fills to ImageJ's pixels, and what we write comes back."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bdv_io.roi_set.read as reading
from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.formats import identify, read_tracks, write_tracks
from bdv_io.image import ArrayImage, Hints
from bdv_io.label_image import LABEL, tracks_of_labels
from bdv_io.outlines import Outlines
from bdv_io.raster import Rings, fill
from bdv_io.roi_set import is_roi_set, lost_in_rois, read_rois, write_rois
from bdv_io.roi_set.shapes import encoded
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Tracks

IMAGEJ = Path(__file__).parent / "written-by-imagej" / "rois.zip"
# SHA-256 (16 digits) of the (x, y) of the pixels of each ROI's mask, int32, row by row, as ImageJ 1.54p says.
MASKS = {
    "polygon-int": "6c83cdef8fadb216",
    "polygon-subpixel": "95e098748d6f2df6",
    "freehand": "6b35af0e7d8a3f4f",
    "traced": "180e7171b28d01f5",
    "oval µ": "db71833d2c61f272",
    "rectangle": "bb58c3e1cc3f36ee",
    "rounded-rectangle": "37332bbc138850c3",
    "composite-hole": "6365f486f7236201",
    "composite-two": "f0460282c37dfdd4",
    "ellipse": "0bf27c7eaa12d7cb",
    "negative": "e02876dd69d1c6b8",
}
ZYX = Hints(axes="ZYX")


def pixels(tracks, row, margin=20, side=120):
    """(K, 2) (x, y) of the pixels in the outline of a spot."""
    own = tracks.outlines.take(np.array([row]), tracks.n_spots)
    rings = Rings(own.spot + 1, np.zeros(len(own), int), own.start, own.vertices + margin)
    y, x = np.nonzero(fill(rings, (1, side, side)).labels[0])
    return np.stack([x, y], axis=1) - margin


def archive(path, *rois, names=None):
    with zipfile.ZipFile(path, "w") as file:
        for i, roi in enumerate(rois):
            file.writestr((names or [f"r{i}.roi"] * 9)[i] if names else f"r{i}.roi", encoded(roi))
    return path


def square(x=0, y=0, side=2, **fields):
    roi = roifile.ImagejRoi.frompoints(np.array([[x, y], [x, y + side], [x + side, y + side], [x + side, y]]))
    roi.roitype, roi.name = roifile.ROI_TYPE.POLYGON, fields.pop("name", "")
    for key, value in fields.items():
        setattr(roi, key, value)
    return roi


class TestWrittenByImageJ:
    def test_recognised(self, tmp_path):
        assert identify(IMAGEJ).key == "rois"
        single = tmp_path / "one"
        single.write_bytes(zipfile.ZipFile(IMAGEJ).read("traced.roi"))
        assert is_roi_set(single)
        assert read_rois(single).label.tolist() == ["traced"]
        assert not is_roi_set(tmp_path)
        assert not is_roi_set(__file__)

    @pytest.mark.parametrize("name", MASKS)
    def test_fills_to_the_same_pixels(self, name):
        tracks = read_rois(IMAGEJ, hints=ZYX).validate()
        found = pixels(tracks, tracks.label.tolist().index(name))
        assert hashlib.sha256(found.astype("<i4").tobytes()).hexdigest()[:16] == MASKS[name]

    def test_positions_tags_and_what_is_left_out(self, caplog):
        tracks = read_rois(IMAGEJ, hints=ZYX)
        place = {name: (t, z) for name, t, z in zip(tracks.label, tracks.t.tolist(), tracks.centre[:, 0], strict=True)}
        assert place["polygon-int"] == (2, 1)
        assert place["rectangle"] == (4, 0)
        assert place["freehand"] == (0, 6)
        row = tracks.label.tolist().index("negative")
        assert tracks.tagged("ROI colour", "#ffffff00").nonzero()[0].tolist() == [row]
        assert tracks.tagged("ROI group", "3").nonzero()[0].tolist() == [row]
        assert tracks.feature("ROI channel").values.tolist() == [1, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0]
        assert "were left out: 1 point, 1 line, 1 polyline" in caplog.text
        assert "1 ROIs are splines" in caplog.text

    def test_calibration(self):
        plain = read_rois(IMAGEJ, hints=ZYX)
        known = read_rois(IMAGEJ, hints=Hints(axes="ZYX", voxel_size=(2, 0.5, 0.5), unit="µm", interval=(1.0, "s")))
        assert known.centre == pytest.approx(plain.centre * [2, 0.5, 0.5])
        assert known.covariance[:, 1:, 1:] == pytest.approx(plain.covariance[:, 1:, 1:] / 4)
        assert (known.space_unit, known.interval, known.time_unit) == ("µm", 1.0, "s")


class TestPositions:
    def test_of_a_plain_stack_the_place_of_a_roi_is_the_number_of_its_plane(self, tmp_path):
        """ImageJ shows a ROI of a hyperstack position on every plane of what is no hyperstack."""
        movie = Tracks.build([0, 4], [[0, 5, 5], [0, 9, 9]], radius=2)
        volume = Tracks.build([0, 0], [[1, 5, 5], [6, 9, 9]], radius=2)
        for tracks, places, frames in ((movie, [1, 5], 5), (volume, [2, 7], 1)):
            image = ArrayImage([np.zeros((7 if frames == 1 else 1, 20, 20), np.uint8)] * frames)
            for said in (image, None):
                write_rois(tmp_path / "a.zip", tracks, image=said)
                rois = roifile.roiread(tmp_path / "a.zip")
                assert [roi.position for roi in rois] == places
                assert {(roi.z_position, roi.t_position) for roi in rois} == {(0, 0)}
                back = read_rois(tmp_path / "a.zip")
                assert back.t.tolist() == tracks.t.tolist()
                assert back.centre[:, 0].tolist() == tracks.centre[:, 0].tolist()

    def test_plain_stack_is_ambiguous(self, tmp_path):
        path = archive(tmp_path / "a.zip", square(position=1), square(position=7))
        with pytest.raises(FormatError, match="Give --axes TYX if the stack is a movie, --axes ZYX if it is a volume"):
            read_rois(path)
        with pytest.raises(FormatError, match="axes TZYX have both"):
            read_rois(path, hints=Hints(axes="TZYX"))
        movie, volume = read_rois(path, hints=Hints(axes="TYX")), read_rois(path, hints=ZYX)
        assert (movie.t.tolist(), movie.centre[:, 0].tolist()) == ([0, 6], [0, 0])
        assert (volume.t.tolist(), volume.centre[:, 0].tolist()) == ([0, 0], [0, 6])

    def test_one_plane_is_not(self, tmp_path):
        assert read_rois(archive(tmp_path / "a.zip", square(position=1), square())).t.tolist() == [0, 0]

    def test_movie_that_imagej_took_for_a_volume(self, tmp_path):
        path = archive(tmp_path / "a.zip", square(z_position=4, t_position=1, c_position=1))
        assert read_rois(path).centre[0, 0] == 3
        assert read_rois(path, hints=Hints(axes="TYX")).t.tolist() == [3]


class TestRoundTrip:
    @settings(deadline=None, max_examples=60)
    @given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, n) for n in (2, 3, 6, 6)]), elements=st.integers(0, 2)))
    def test_labels_come_back(self, tmp_path_factory, frames):
        tracks = tracks_of_labels(ArrayImage(frames))
        path = tmp_path_factory.getbasetemp() / "a.zip"
        write_tracks(path, tracks)
        found = read_rois(path).validate()
        assert (found.id == tracks.id).all()
        assert (found.t == tracks.t).all()
        assert found.n_links == 0
        if tracks.n_spots:
            rings = Rings(
                found.outlines.spot + 1, found.outlines.z.astype(int), found.outlines.start, found.outlines.vertices
            )
            value = np.concatenate([[0], tracks.feature(LABEL).values])
            order = np.lexsort((rings.plane, rings.label))
            assert (order == np.arange(len(order))).all()
            for t in range(len(frames)):
                here = found.outlines.take(np.flatnonzero(found.t == t), found.n_spots)
                numbers = np.flatnonzero(found.t == t)[here.spot] + 1
                again = fill(Rings(numbers, here.z.astype(int), here.start, here.vertices), frames.shape[1:])
                assert (value[again.labels] == frames[t]).all()

    def test_whole_coordinates_and_sub_pixel_ones(self, tmp_path):
        rings = [
            [[-0.5, 1.5], [4.5, 1.5], [4.5, 9.5]],
            [[0.25, 1.5], [4.5, 1.5], [4.5, 9.5]],
            [[-6000.5, 1.5], [0.5, 3], [9, 9]],
        ]
        outlines = Outlines.of_polygons([0, 1, 2], rings, [0.0, 2, 0])
        tracks = Tracks.build([5, 0, 0], np.zeros((3, 3)), radius=1, outlines=outlines, label=["a", "b", "c"])
        write_rois(tmp_path / "a.zip", tracks)
        by_name = {roi.name: roi for roi in roifile.roiread(tmp_path / "a.zip")}
        assert by_name["a"].integer_coordinates is not None
        assert by_name["a"].subpixel_coordinates is None
        assert (by_name["a"].z_position, by_name["a"].t_position) == (1, 6)
        assert (by_name["b"].z_position, by_name["b"].t_position) == (3, 1)
        assert by_name["b"].coordinates().tolist() == [[2, 0.75], [2, 5], [10, 5]]
        found = read_rois(tmp_path / "a.zip")
        assert [found.label[i] for i in range(3)] == ["b", "c", "a"]
        assert found.outlines.ring(1).tolist() == rings[2]

    def test_ellipsoids_become_ellipses(self, tmp_path):
        covariance = np.array([[9.0, 2, 0], [2, 30, 12], [0, 12, 20]])
        tracks = Tracks.build([0], [[2, 20.5, 30]], covariance=[covariance])
        assert lost_in_rois(tracks) == [
            "1 spots have no outline: of their ellipsoids the ellipse in the middle plane is written."
        ]
        write_rois(tmp_path / "a.roi", tracks)
        found = read_rois(tmp_path / "a.roi")
        assert found.centre[0] == pytest.approx([2, 20.5, 30])
        section = np.linalg.inv(np.linalg.inv(covariance)[1:, 1:])
        assert found.covariance[0, 1:, 1:] == pytest.approx(section, rel=0.01)

    def test_names_tags_channel_and_ids(self, tmp_path):
        labels = ["ü/😀 a", "ü/😀 a", None, "..", "x" * 300]
        tracks = Tracks.build(
            np.zeros(5), np.arange(15).reshape(5, 3) * [0, 9, 9], radius=2, label=labels, id=[5, -7, 2**40, 8, 9]
        )
        tracks = tracks.with_tag("ROI colour", Tag("#ffff00ff", 0xFFFF00FF), spots=[1])
        tracks = tracks.with_tag("ROI group", Tag("3"), spots=[0]).with_feature(
            Feature("ROI channel", "", np.arange(5))
        )
        write_rois(tmp_path / "a.zip", tracks)
        names = zipfile.ZipFile(tmp_path / "a.zip").namelist()
        assert names == [
            "ü_😀 a.roi",
            "ü_😀 a-2.roi",
            f"t0001-z0001-spot{2**40}.roi",
            "t0001-z0001-spot8.roi",
            "x" * 100 + ".roi",
        ]
        found = read_tracks(tmp_path / "a.zip")
        assert found.label.tolist() == labels
        assert found.id.tolist() == tracks.id.tolist()
        assert found.tag_set("ROI colour").spots.tolist() == [-1, 0, -1, -1, -1]
        assert found.tag_set("ROI group").spots.tolist() == [0, -1, -1, -1, -1]
        assert found.feature("ROI channel").values.tolist() == [0, 1, 2, 3, 4]
        assert lost_in_rois(tracks) == [
            "5 spots have no outline: of their ellipsoids the ellipse in the middle plane is written."
        ]

    def test_calibrated_spots_need_the_size_of_a_pixel(self, tmp_path):
        outlines = Outlines.of_polygons([0], [[[0.25, 0.25], [0.25, 1.25], [1.25, 1.25]]], 2.0)
        tracks = Tracks.build([0], [[2, 1, 1]], radius=1, outlines=outlines, space_unit="µm")
        with pytest.raises(MissingDataError, match="the spots in 'µm', and nothing says how large a pixel is"):
            write_rois(tmp_path / "a.roi", tracks)
        image = ArrayImage(np.zeros((1, 3, 9, 9), np.uint8), voxel_size=(2, 0.5, 0.5), unit="µm")
        write_rois(tmp_path / "a.roi", tracks, image=image)
        roi = roifile.roiread(tmp_path / "a.roi")
        assert (roi.position, roi.coordinates().tolist()) == (2, [[1, 1], [3, 1], [3, 3]])

    def test_one_file_holds_one_roi(self, tmp_path):
        tracks = Tracks.build([0, 0], np.zeros((2, 3)), radius=1, links=np.empty((0, 2)))
        with pytest.raises(UnsupportedError, match=r"a file \.roi holds one ROI, and there are several"):
            write_rois(tmp_path / "a.roi", tracks)
        with pytest.raises(UnsupportedError, match="there are none"):
            write_rois(tmp_path / "a.roi", Tracks.empty())
        write_rois(tmp_path / "a.zip", Tracks.empty())
        assert read_rois(tmp_path / "a.zip").n_spots == 0

    def test_what_is_lost(self):
        tracks = Tracks.build([0, 1], np.zeros((2, 3)), radius=1, links=[[0, 1]], quality=[1, 2], interval=2.0)
        tracks = tracks.with_tag("Fate", Tag("dies"), spots=[0]).with_feature(Feature("Size", "", np.ones(2)))
        lost = lost_in_rois(tracks)
        assert lost[0] == "1 links: ROIs know nothing of each other."
        assert lost[2:] == [
            "The quality of spots.",
            "Tags: Fate.",
            "Features: Size.",
            "Voxel size, unit and frame interval: ROIs are in pixels.",
        ]


class TestDamaged:
    def test_not_there_or_no_rois(self, tmp_path):
        with pytest.raises(MissingDataError, match="there is no such file"):
            read_rois(tmp_path / "a.zip")
        (tmp_path / "a.zip").write_bytes(b"PK\3\4 nothing")
        with pytest.raises(FormatError, match="no ImageJ ROI and no zip file of ROIs, or damaged"):
            read_rois(tmp_path / "a.zip")
        (tmp_path / "a.roi").write_bytes(b"Iout" + bytes(8))
        with pytest.raises(FormatError, match=r"Reading the ROI a\.roi failed: it is no ImageJ ROI, or damaged"):
            read_rois(tmp_path / "a.roi")

    def test_no_area(self, tmp_path):
        line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x2=3.0, y2=4.0)
        with pytest.raises(FormatError, match=r"none of its ROIs is an area \(found: 1 line, 1 area of size 0\)"):
            read_rois(archive(tmp_path / "a.zip", line, square(side=0)))

    def test_path_of_a_composite(self, tmp_path):
        roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, shape_roi_size=4)
        for path, message in (([0, 1, 1, 9], "the path of the composite ROI is damaged"), ([0, 1, 1, 1], "damaged")):
            roi.multi_coordinates = np.array(path, dtype=np.float32)
            with pytest.raises(FormatError, match=message):
                read_rois(archive(tmp_path / "a.zip", roi))
        roi.multi_coordinates = np.array([0, np.nan, 1, 4], dtype=np.float32)
        with pytest.raises(FormatError, match="a coordinate is not a finite number"):
            read_rois(archive(tmp_path / "a.zip", roi))

    def test_curves_of_a_composite(self, tmp_path):
        path = np.array(
            [0, 0, 0, 1, 10, 0, 3, 10, 8, 0, 8, 0, 0, 4, 0, 20, 0, 1, 30, 0, 2, 25, 10, 20, 0, 4], np.float32
        )
        roi = roifile.ImagejRoi(
            roitype=roifile.ROI_TYPE.RECT, shape_roi_size=len(path), multi_coordinates=path, right=30, bottom=8
        )
        tracks = read_rois(archive(tmp_path / "a.zip", roi))
        assert np.abs(tracks.outlines.areas()) == pytest.approx([48, 100 / 3], rel=0.02)

    def test_too_much(self, tmp_path, monkeypatch):
        path = archive(tmp_path / "a.zip", square(), square())
        for name, value, message in (
            ("MAX_ENTRIES", 1, "it claims to hold 2 ROIs"),
            ("MAX_TOTAL", 200, "larger than any ROI set"),
            ("MAX_ENTRY", 100, "larger than any ROI set"),
        ):
            monkeypatch.setattr(reading, name, value)
            with pytest.raises(FormatError, match=message):
                read_rois(path)
            monkeypatch.undo()

    @settings(deadline=None, max_examples=300)
    @given(st.data())
    def test_any_damage_gives_a_sentence(self, tmp_path_factory, data):
        whole = zipfile.ZipFile(IMAGEJ)
        content = bytearray(whole.read(data.draw(st.sampled_from(whole.namelist()))))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
        path = tmp_path_factory.getbasetemp() / "a.roi"
        path.write_bytes(content[: data.draw(st.integers(4, len(content)))])
        try:
            read_rois(path, hints=ZYX)
        except FormatError as error:
            sentence = str(error)
        else:
            sentence = "a.roi"
        assert "a.roi" in sentence
