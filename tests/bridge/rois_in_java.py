"""Checks of howdah.bridge.rois against the real ImageJ, run by test_rois.py in a child process: one JVM for all of them.

Usage: rois_in_java.py CLASSPATH headless|interactive
"""

import json
import re
import sys
import traceback

import numpy as np
import pytest

from bdv_io import ArrayImage
from bdv_io.label_image import tracks_of_labels
from bdv_io.outlines import Outlines
from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.bridge import rois
from howdah.bridge.images import from_imageplus, to_imageplus
from howdah.bridge.java_classes import java_class
from howdah.bridge.start import start_imagej
from howdah.errors import BridgeError


def cells():
    """Two frames: a cell with a hole and a part in the hole; and one of two parts."""
    labels = np.zeros((2, 1, 1, 20, 24), np.uint16)
    labels[0, 0, 0, 2:12, 3:15] = 1
    labels[0, 0, 0, 5:8, 6:10] = 0
    labels[0, 0, 0, 6, 7] = 1
    labels[1, 0, 0, 14:18, 10:20] = 2
    labels[1, 0, 0, 0, 0] = 2
    labels[1, 0, 0, 9:12, 2:7] = 5
    return labels


def covered(roi, shape):
    mask = np.zeros(shape, dtype=bool)
    for point in roi.getContainedPoints():
        mask[point.y, point.x] = True
    return mask


def same_outlines(first, second):
    for one, other in zip(
        *(t.outlines.vertices[np.lexsort(t.outlines.vertices.T)] for t in (first, second)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def pixels_are_those_of_the_labels():
    labels = cells()
    image = to_imageplus(labels)
    tracks = tracks_of_labels(ArrayImage(labels), links_by_id=False)
    made = rois.rois_of(tracks, image)
    assert len(made) == 3
    for roi, number in zip(made, [1, 2, 5], strict=True):
        frame = int(roi.getPosition()) - 1
        np.testing.assert_array_equal(covered(roi, (20, 24)), labels[frame, 0, 0] == number)


def whole_outlines_are_traced_and_others_sub_pixel():
    whole = np.array([[1.5, 1.5], [1.5, 4.5], [6.5, 4.5], [6.5, 1.5]])
    tracks = Tracks.build(
        [0, 0], [[0, 4, 3], [0, 4, 3]], radius=2.0, outlines=Outlines.of_polygons([0, 1], [whole, whole + 0.2], 0.0)
    )
    first, second = rois.rois_of(tracks)
    assert str(first.getTypeAsString()) == "Traced"
    assert str(second.getTypeAsString()) == "Freehand"
    assert second.subPixelResolution()
    polygon = second.getFloatPolygon()
    np.testing.assert_allclose(np.stack([polygon.ypoints[:4], polygon.xpoints[:4]], axis=1), whole + 0.7, rtol=1e-6)


def a_spot_without_outline_is_an_ellipse():
    covariance = np.diag([4.0, 9.0, 25.0])
    tracks = Tracks.build([0], [[0, 10, 12]], covariance=covariance[None])
    roi = rois.rois_of(tracks)[0]
    polygon = roi.getFloatPolygon()
    x, y = np.asarray(polygon.xpoints)[: polygon.npoints], np.asarray(polygon.ypoints)[: polygon.npoints]
    np.testing.assert_allclose([x.min(), x.max(), y.min(), y.max()], [7.5, 17.5, 7.5, 13.5], atol=0.1)
    back = rois.from_rois([roi])
    np.testing.assert_allclose(back.centre, tracks.centre, atol=0.02)


def an_overlay_keeps_calibration_names_ids_and_colours():
    image = to_imageplus(
        np.zeros((3, 1, 4, 30, 40), np.uint8), voxel_size=(2.0, 0.5, 0.25), unit="µm", interval=(30.0, "s")
    )
    square = np.array([[1.0, 1.0], [1.0, 3.0], [4.0, 3.0], [4.0, 1.0]])
    tracks = Tracks.build(
        [0, 2],
        [[2.0, 2.5, 2.0], [6.0, 2.5, 2.0]],
        radius=1.0,
        label=["nëuron", None],
        id=[7, 40],
        space_unit="µm",
        outlines=Outlines.of_polygons([0, 1], [square, square], [2.0, 6.0]),
    ).with_tag("ROI colour", Tag("#ff00ff00", 0xFF00FF00), spots=[1])
    overlay = rois.overlay_of(tracks, image)
    image.setOverlay(overlay)
    second = overlay.get(1)
    assert (int(second.getCPosition()), int(second.getZPosition()), int(second.getTPosition())) == (0, 4, 3)
    assert str(second.getName()) == "ID40"
    assert int(second.getStrokeColor().getGreen()) == 255
    back = rois.from_rois(image.getOverlay(), image)
    assert back.t.tolist() == [0, 2]
    assert back.id.tolist() == [7, 40]
    assert back.label.tolist() == ["nëuron", None]
    assert (back.space_unit, back.interval, back.time_unit) == ("µm", 30.0, "s")
    assert back.tagged("ROI colour", "#ff00ff00").tolist() == [False, True]
    np.testing.assert_allclose(back.centre, tracks.centre, atol=1e-6)
    np.testing.assert_allclose(back.outlines.vertices, tracks.outlines.vertices, atol=1e-6)


def planes_of_one_spot_come_back_as_one_spot():
    labels = np.zeros((1, 1, 3, 12, 12), np.uint16)
    labels[0, 0, :, 3:8, 4:9] = 3
    tracks = tracks_of_labels(ArrayImage(labels))
    image = to_imageplus(labels)
    made = rois.rois_of(tracks, image)
    assert [int(roi.getPosition()) for roi in made] == [1, 2, 3]
    back = rois.from_rois(made, image)
    assert back.n_spots == 1
    np.testing.assert_allclose(back.centre, tracks.centre)


def slices_are_frames_where_one_says_so():
    image = to_imageplus(np.zeros((1, 1, 5, 10, 10), np.uint8))
    roi = java_class("ij.gui.Roi")(1, 2, 3, 4)
    roi.setPosition(4)
    assert rois.from_rois([roi], image).centre[0, 0] == 3
    assert rois.from_rois([roi], image, axes="TYX").t.tolist() == [3]


def tracks_have_colours():
    tracks = Tracks.build([0, 1, 0], [[0, 3, 3]] * 3, radius=1.0, links=[[0, 1]])
    colours = [str(roi.getStrokeColor()) for roi in rois.rois_of(tracks, by_track=True)]
    assert len(set(colours)) == 2


def labels_go_there_and_back():
    labels = cells()
    tracks = tracks_of_labels(ArrayImage(labels))
    image = rois.label_image_of(tracks, to_imageplus(labels))
    np.testing.assert_array_equal(from_imageplus(image).pixels, labels)
    back = rois.tracks_of_label_image(image)
    assert back.n_spots == 3
    same_outlines(back, tracks)


def calibrated_spots_need_an_image():
    tracks = Tracks.build([0], [[0, 1, 1]], radius=1.0, space_unit="µm")
    with pytest.raises(BridgeError, match=re.escape("Give the image")):
        rois.rois_of(tracks)


def more_frames_than_the_image_has():
    tracks = Tracks.build([5], [[0, 1, 1]], radius=1.0)
    with pytest.raises(BridgeError, match=re.escape("image.setDimensions(1, 1, 6)")):
        rois.label_image_of(tracks, to_imageplus(np.zeros((1, 1, 6, 5, 5), np.uint8)))


def no_spots_are_no_rois():
    assert rois.rois_of(Tracks.empty()) == []
    assert rois.from_rois([]).n_spots == 0


def the_manager_needs_a_display():
    with pytest.raises(BridgeError, match=re.escape("mode='interactive'")):
        rois.to_manager(Tracks.empty())


def the_manager_takes_and_gives_rois():
    labels = cells()
    image = to_imageplus(labels)
    tracks = tracks_of_labels(ArrayImage(labels), links_by_id=False)
    manager = rois.to_manager(tracks.relabelled(["a", "a", None]), image)
    assert int(manager.getCount()) == 3
    back = rois.from_manager(image)
    assert back.label.tolist() == ["a", "a", None]
    assert back.t.tolist() == [0, 1, 1]
    same_outlines(back, tracks)
    rois.to_manager(tracks, image, keep=True)
    assert int(manager.getCount()) == 6
    manager.setSelectedIndexes([1])
    assert rois.from_manager(image, selected=True).n_spots == 1
    manager.reset()
    with pytest.raises(BridgeError, match=re.escape("holds no ROI")):
        rois.from_manager(image)
    manager.close()


HEADLESS = [
    pixels_are_those_of_the_labels,
    whole_outlines_are_traced_and_others_sub_pixel,
    a_spot_without_outline_is_an_ellipse,
    an_overlay_keeps_calibration_names_ids_and_colours,
    planes_of_one_spot_come_back_as_one_spot,
    slices_are_frames_where_one_says_so,
    tracks_have_colours,
    labels_go_there_and_back,
    calibrated_spots_need_an_image,
    more_frames_than_the_image_has,
    no_spots_are_no_rois,
    the_manager_needs_a_display,
]
INTERACTIVE = [the_manager_takes_and_gives_rois]


def main(classpath, mode):
    found = {}
    with start_imagej(classpath, mode=mode, memory="256m"):
        for check in HEADLESS if mode == "headless" else INTERACTIVE:
            try:
                check()
                found[check.__name__] = ""
            except Exception:  # noqa: BLE001  the test that asked for this check fails with it
                found[check.__name__] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
