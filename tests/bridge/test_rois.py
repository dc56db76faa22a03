"""ROIs, overlays, the ROI Manager and label images in the real ImageJ; the checks are in rois_in_java.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
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


def checks(command, home):
    path = os.pathsep.join([str(REPOSITORY / "python"), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": path, "HOME": str(home), "PYTHONWARNINGS": "error"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def headless(java_classpath, tmp_path_factory):
    command = [sys.executable, str(HERE / "rois_in_java.py"), java_classpath, "headless"]
    return checks(command, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("check", CHECKS)
def test_in_imagej(headless, check):
    assert not headless[check], headless[check]


def test_every_check_is_named_here(headless):
    assert sorted(headless) == sorted(CHECKS)


def test_the_manager_takes_and_gives_rois(java_classpath, virtual_display, tmp_path):
    command = [virtual_display, "-a", sys.executable, str(HERE / "rois_in_java.py"), java_classpath, "interactive"]
    found = checks(command, tmp_path)
    assert found == {"the_manager_takes_and_gives_rois": ""}
