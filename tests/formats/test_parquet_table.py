"""Parquet tables: types and everything else come back; tables of others; damage."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdv_io import parquet_table
from bdv_io.errors import FormatError, MissingDataError, MissingExtraError
from bdv_io.formats import identify, read_tracks, write_tracks
from bdv_io.mastodon import read_mastodon
from bdv_io.outlines import Outlines
from bdv_io.parquet_table import is_parquet, lost_in_parquet, read_parquet, write_parquet
from bdv_io.tags import Feature, Tag
from bdv_io.trackmate import read_trackmate
from bdv_io.tracks import Tracks

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (the extra 'tables')")
parquet = importlib.import_module("pyarrow.parquet")


def same(a: Tracks, b: Tracks) -> None:
    for name in ("t", "centre", "covariance", "quality", "id", "links"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert a.label.tolist() == b.label.tolist()
    assert [(s.name, s.tags, s.spots.tolist(), s.links.tolist()) for s in a.tag_sets] == [
        (s.name, s.tags, s.spots.tolist(), s.links.tolist()) for s in b.tag_sets
    ]
    assert {f.key for f in a.features} == {f.key for f in b.features}
    for mine in a.features:
        theirs = b.feature(mine.name, mine.projection, mine.target)
        assert (mine.units, mine.dimension, mine.values.dtype) == (theirs.units, theirs.dimension, theirs.values.dtype)
        known = np.ones(len(mine.values), bool) if mine.defined is None else mine.defined
        np.testing.assert_array_equal(known, np.ones(len(known), bool) if theirs.defined is None else theirs.defined)
        np.testing.assert_array_equal(mine.values[known], theirs.values[known])
    for name in ("spot", "z", "start", "vertices"):
        np.testing.assert_array_equal(getattr(a.outlines, name), getattr(b.outlines, name), err_msg=name)
    assert (a.space_unit, a.time_unit, a.interval, dict(a.attributes)) == (
        b.space_unit,
        b.time_unit,
        b.interval,
        dict(b.attributes),
    )
    assert (a.carried.format, dict(a.carried.entries)) == (b.carried.format, dict(b.carried.entries))
    for mine, theirs in ((a.carried.spots, b.carried.spots), (a.carried.links, b.carried.links)):
        assert {k: v.tolist() for k, v in mine.items()} == {k: v.tolist() for k, v in theirs.items()}


def example() -> Tracks:
    tracks = Tracks.build(
        [0, 1, 1, 3],
        np.arange(12).reshape(4, 3) / 7,
        covariance=[np.eye(3) * 4, np.diag([9.0, 4, 1]), [[4, 1, 0], [1, 3, 0.5], [0, 0.5, 2]], np.eye(3) / 3],
        links=[[0, 1], [0, 2], [2, 3]],
        label=[None, "", "ü 😀", 'a,"b"'],
        quality=[np.nan, 0.5, np.inf, -1],
        id=[70000, -1, 2**60 + 1, 15],
        space_unit="µm",
        time_unit="min",
        interval=2.5,
        features=(
            Feature("Intensity", "Mean", np.array([1.5, np.nan, 3, 4]), dimension="INTENSITY", units="Counts"),
            Feature("n", "", np.array([1, 2, 0, 2**60 + 1]), defined=np.array([True, True, False, True])),
            Feature("n", "small", np.array([1, 2, 3, 4], np.int32)),
            Feature("n | small", "", np.arange(4)),
            Feature("b", "", np.arange(4.0), target="branch"),
            Feature("n", "", np.array([1.0, 2, 3]), target="link"),
        ),
        outlines=Outlines.of_polygons(
            [1, 1, 3], [[[0, 0], [0, 3], [3, 3]], [[1, 1], [1, 2], [2, 2]], [[9, 9], [9, 8], [8, 8.1]]], [0, 1, 2]
        ),
    )
    tracks = tracks.with_tag_set("Det", [Tag("tp", 0xFF00FFFF), Tag("fp", 0x80FF0000), Tag("unused")]).with_tag_set(
        "Empty", []
    )
    return tracks.with_tag("Det", Tag("fp"), spots=[1, 3], links=[2])


def test_everything_comes_back(tmp_path):
    tracks = example()
    assert not lost_in_parquet(tracks)
    write_tracks(tmp_path / "m.parquet", tracks)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m-links.parquet", "m-spots.parquet"]
    assert identify(tmp_path / "m-spots.parquet").key == "parquet"
    same(tracks, read_tracks(tmp_path / "m-spots.parquet"))
    same(tracks, read_parquet(tmp_path / "m"))
    (tmp_path / "folder").mkdir()
    write_parquet(tmp_path / "folder", tracks)
    same(tracks, read_parquet(tmp_path / "folder"))


def test_an_askew_covariance_stays_as_it_is(tmp_path):
    askew = np.eye(3)
    askew[0, 1] = 1e-12
    tracks = Tracks.build([0], [[0, 0, 0]], covariance=[askew])
    write_parquet(tmp_path / "a", tracks)
    same(tracks, read_parquet(tmp_path / "a"))


def test_others_read_the_columns(tmp_path):
    write_parquet(tmp_path / "m", example())
    table = parquet.read_table(tmp_path / "m-spots.parquet").to_pydict()
    assert table["tag: Det"] == [None, "fp", None, "fp"]
    assert table["feature: n"][2] is None
    assert table["time_min"] == [0, 2.5, 2.5, 7.5]
    assert table["outline_vertices"] == [[], [3, 3], [], [3]]
    assert table["outline_x"][3] == [9, 8, 8.1]


@pytest.mark.real
@pytest.mark.parametrize("name", ["written-by-java/synth.mastodon", "faketracks/trackmate-8.0.0-roi/FakeTracks.xml"])
def test_real_projects(real_data, name, tmp_path):
    tracks = (read_mastodon if name.endswith("mastodon") else read_trackmate)(real_data / name)
    write_parquet(tmp_path / "a", tracks)
    same(tracks, read_parquet(tmp_path / "a"))


def test_a_table_of_others(tmp_path, caplog):
    columns = {"frame": [0.0, 2.0], "z_um": [1.0, 2], "y_um": [1, 2], "x_um": [1.0, 2], "radius_um": [1.0, 2], "time_s": [0.0, 60],
               "tag: a": ["x", None], "feature: f": [True, False], "feature: g": [1, 2]}  # fmt: skip
    parquet.write_table(pyarrow.table(columns), tmp_path / "any.parquet")
    tracks = read_tracks(tmp_path / "any.parquet")
    assert (tracks.t.tolist(), tracks.interval, tracks.time_unit, tracks.space_unit) == ([0, 2], 30, "s", "um")
    assert tracks.tagged("a", "x").tolist() == [True, False]
    assert [f.name for f in tracks.features] == ["g"]
    assert "spots are not linked" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius_um": None}, "has no column 'radius_um'"),
        ({"x_um": None}, "has no column 'x_um'"),
        ({"frame": [0.5]}, "'frame' needs a whole number"),
        ({"frame": [None]}, "'frame'"),
        ({"y_um": ["left"]}, "'y_um' holds no numbers"),
    ],
)
def test_bad_columns_are_sentences(tmp_path, change, message):
    columns = {"frame": [0], "z_um": [1.0], "y_um": [1.0], "x_um": [1.0], "radius_um": [1.0], **change}
    columns = {name: column for name, column in columns.items() if column is not None}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(FormatError, match=message):
        read_parquet(tmp_path / "a.parquet")


def test_damage_is_a_sentence(tmp_path):
    write_parquet(tmp_path / "m", example())
    path = tmp_path / "m-spots.parquet"
    whole = path.read_bytes()
    for content in (whole[:-40], whole[: len(whole) // 2], MAGIC_ONLY, whole[:200] + bytes(400) + whole[600:]):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="failed"):
            read_parquet(path)
    assert not is_parquet(path.with_name("none.parquet"))
    with pytest.raises(MissingDataError, match="there is no such file"):
        read_parquet(tmp_path / "none.parquet")


MAGIC_ONLY = b"PAR1PAR1"


def test_links_to_nowhere(tmp_path):
    write_parquet(tmp_path / "m", example())
    write_parquet(tmp_path / "n", Tracks.build([0], [[0, 0, 0]], radius=1))
    (tmp_path / "n-links.parquet").write_bytes((tmp_path / "m-links.parquet").read_bytes())
    with pytest.raises(FormatError, match="3 links name a spot"):
        read_parquet(tmp_path / "n")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write_parquet(tmp_path / "m", example())

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(parquet_table, "import_module", absent)
    assert is_parquet(tmp_path / "m-spots.parquet")
    with pytest.raises(MissingExtraError, match=r"howdah\[tables\]"):
        read_parquet(tmp_path / "m")


def test_nothing_to_write(tmp_path):
    write_parquet(tmp_path / "a", Tracks.empty())
    same(Tracks.empty(), read_parquet(tmp_path / "a"))


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    labels=st.lists(st.none() | st.text(max_size=4), max_size=6),
    name=st.text(min_size=1, max_size=6),
)
def test_any_annotation_comes_back(tmp_path, seed, labels, name):
    rng = np.random.default_rng(seed)
    n = len(labels)
    features = (
        Feature(name, "", rng.normal(size=n), defined=rng.random(n) < 0.5),
        Feature(name, "p", rng.integers(-9, 9, n)),
    )
    tracks = Tracks.build(rng.integers(0, 4, n), rng.normal(size=(n, 3)), radius=1, label=labels, features=features)
    pairs = np.array([[a, b] for a in range(n) for b in range(n) if tracks.t[a] < tracks.t[b]]).reshape(-1, 2)
    tracks = tracks.with_links(pairs[rng.random(len(pairs)) < 0.3]).with_tag(name, Tag(name), spots=rng.random(n) < 0.5)
    if n and rng.random() < 0.5:
        tracks = replace(
            tracks, outlines=Outlines.of_polygons([0, n - 1], rng.normal(size=(2, 4, 2)), rng.normal(size=2))
        )
    write_parquet(tmp_path / "a", tracks)
    same(tracks, read_parquet(tmp_path / "a"))
