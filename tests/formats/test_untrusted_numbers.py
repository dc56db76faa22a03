"""Numbers that are none, links that lead nowhere: each is found and said in a sentence."""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
from formats.damage import (
    mastodon_with,
    open_any,
    tracks,
)

from bdv_io.errors import BdvIoError, FormatError, ValidationError
from bdv_io.formats import read_tracks, write_tracks

# ---- numbers and links ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "x", "", "1,5", "9" * 400])
@pytest.mark.parametrize("column", ["frame", "z_pixel", "radius_pixel", "id"])
def test_csv_numbers(copy, column, number):
    path = copy("csv")
    header, first, *rest = path.read_text(encoding="utf-8").splitlines()
    names, cells = header.split(","), first.split(",")
    cells[names.index(column)] = f'"{number}"'
    keep = [i for i, name in enumerate(names) if not name.startswith(("cov_", "radius_a", "radius_b", "radius_c"))]
    rows = [names, cells, *(row.split(",") for row in rest)]
    path.write_text("\n".join(",".join(row[i] for i in keep) for row in rows) + "\n", encoding="utf-8")
    with pytest.raises(BdvIoError, match=r"fail|not consistent|not finite|are not symmetric"):
        read_tracks(path)


@pytest.mark.parametrize(
    ("attribute", "number"),
    [
        *itertools.product(["ID", "FRAME", "POSITION_X"], ["nan", "inf", "1e308", "1e999", "x", "", "9" * 400]),
        ("FRAME", "-1"),
        ("FRAME", "0.5"),
        ("FRAME", "2147483648"),
        ("ID", "0.5"),
    ],
)
def test_trackmate_numbers(copy, attribute, number):
    path = copy("trackmate")
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(rf'\b{attribute}="[^"]*"', f'{attribute}="{number}"', text, count=1), encoding="utf-8")
    if (attribute, number) == ("POSITION_X", "1e308"):
        assert read_tracks(path).n_spots == 4  # large, but a number
        return
    with pytest.raises(BdvIoError, match=r"Reading .* failed|not consistent|Building"):
        read_tracks(path)


@pytest.mark.parametrize("number", ["nan", "inf", "1e200", "-1", "0", "x", "1e-320"])
def test_trackmate_radius(copy, number, caplog):
    path = copy("trackmate")
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'\bRADIUS="[^"]*"', f'RADIUS="{number}"', text, count=1), encoding="utf-8")
    if number == "x":
        with pytest.raises(FormatError, match=r"expected a number|is 'x'"):
            read_tracks(path)
        return
    assert read_tracks(path).problems() == []
    assert "1 spots have no positive RADIUS" in caplog.text


SPOT = 84  # bytes


def test_mastodon_negative_frame(copy):
    path = mastodon_with(copy("mastodon"), at={24: struct.pack("<i", -5)})
    with pytest.raises(ValidationError, match=r"Reading .*a\.mastodon failed: .* 1 spot .* has negative frames"):
        read_tracks(path)


def test_spot_in_the_last_frame_of_all(copy):
    path = mastodon_with(copy("mastodon"), at={3 * SPOT + 24: struct.pack("<i", 2**31 - 1)})
    found = read_tracks(path)
    assert found.n_frames == 2**31  # no list of frames is made of it
    found.validate(odd_is_fine=True)


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, struct.pack("<d", np.nan), "centres that are not finite"),
        (28, struct.pack("<d", np.inf), "no ellipsoids"),
        (28, struct.pack("<d", -1.0), "no ellipsoids"),
        (36, struct.pack("<d", 1e6), "no ellipsoids"),
    ],
)
def test_odd_numbers_are_kept_and_said(copy, at, value, match):
    found = read_tracks(mastodon_with(copy("mastodon"), at={at: value}))
    assert any(match in sentence for sentence in found.problems())
    with pytest.raises(ValidationError, match=match):
        found.validate()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"id": np.zeros(4, np.int64)}, "ids occur more than once"),
        ({"links": np.array([[0, 9]])}, "ends that are no spots"),
        ({"links": np.array([[2, 0]])}, "links run forward in time"),
        ({"links": np.array([[0, 2], [2, 0]])}, "links run forward in time"),  # a circle
        ({"links": np.array([[0, 0]])}, "links run forward in time"),
        ({"links": np.array([[0, 2], [0, 2]])}, "links occur more than once"),
        ({"interval": np.inf}, "interval"),
        ({"interval": np.nan}, "interval"),
        ({"t": np.array([0, 0, 1, -1], np.int32)}, "negative frames"),
    ],
)
def test_every_kind_of_contradiction_is_a_sentence(change, match):
    found = replace(tracks(), **change).problems()
    assert any(match in sentence for sentence in found)
    assert all(sentence.endswith((".", ")")) for sentence in found)


def test_empty_time_points_are_fine(tmp_path):
    sparse = replace(tracks(), t=np.array([3, 3, 900, 900], np.int32))
    write_tracks(tmp_path / "a.mastodon", sparse)
    assert read_tracks(tmp_path / "a.mastodon").t.tolist() == [3, 3, 900, 900]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("1 0 1 2\n2 0 1 1\n", "begins before its parent, or together with it"),
        ("1 0 1 1\n", "begins before its parent, or together with it"),
        ("1 0 1 7\n", "has a parent that the table does not have"),
        ("1 0 1 0\n1 0 1 0\n", "has a label that an earlier row has too"),
        ("1 1 0 0\n", "ends before it begins"),
        ("1 0 99999999999999999999 0\n", "expected four whole numbers"),
        ("1 -1 0 0\n", "expected four whole numbers"),
        ("1 0 1\n", "expected four whole numbers"),
        ("0 0 1 0\n", "label 0"),
        ("1 0 1 \0\n", "expected four whole numbers"),
        ("9" * 5000 + " 0 1 0\n", "expected four whole numbers"),
    ],
)
def test_ctc_tables(copy, table, match):
    path = copy("ctc")
    (path / "TRA" / "man_track.txt").write_text(table)
    with pytest.raises(FormatError, match=match):
        read_tracks(path)


def test_ctc_frame_beyond_all_numbers(copy):
    path = copy("ctc")
    mask = next((path / "TRA").glob("*000.tif"))
    mask.rename(mask.with_name("man_track99999999999999999999.tif"))
    with pytest.raises(FormatError, match="frame"):
        read_tracks(path)


def test_bdv_placement_that_is_no_number(copy):
    path = copy("bdv")
    text = path.read_text(encoding="utf-8")
    for number in ("nan", "inf", "1e308", "1e400"):
        path.write_text(re.sub(r"<affine>\S+", f"<affine>{number}", text), encoding="utf-8")
        with pytest.raises(FormatError, match=r"flattens the image or is beyond all measure|finite|numbers"):
            open_any(path, "bdv")
