"""ROIs, overlays, the ROI Manager and label images in the real ImageJ; the checks are in rois_in_java.py."""

import json
from pathlib import Path

import pytest
from bridge.in_java import run_python

HERE = Path(__file__).resolve().parent
CHECKS = [
    "pixels_are_those_of_the_labels",
    "whole_outlines_are_traced_and_others_sub_pixel",
    "a_spot_without_outline_is_an_ellipse",
    "an_overlay_keeps_calibration_names_ids_and_colours",
    "planes_of_one_spot_come_back_as_one_spot",
    "slices_are_frames_where_one_says_so",
    "tracks_have_colours",
    "labels_go_there_and_back",
    "calibrated_spots_need_an_image",
    "more_frames_than_the_image_has",
    "no_spots_are_no_rois",
    "the_manager_needs_a_display",
]


def checks(arguments, home, *, before=()):
    ended = run_python(arguments, home, before=before, timeout=200, PYTHONWARNINGS="error")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def headless(java_classpath, tmp_path_factory):
    command = [str(HERE / "rois_in_java.py"), java_classpath, "headless"]
    return checks(command, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("check", CHECKS)
def test_in_imagej(headless, check):
    assert not headless[check], headless[check]


def test_every_check_is_named_here(headless):
    assert sorted(headless) == sorted(CHECKS)


def test_the_manager_takes_and_gives_rois(java_classpath, virtual_display, tmp_path):
    command = [str(HERE / "rois_in_java.py"), java_classpath, "interactive"]
    found = checks(command, tmp_path, before=(virtual_display, "-a"))
    assert found == {"the_manager_takes_and_gives_rois": ""}
