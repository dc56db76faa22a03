"""GEFF: what the geff library writes and reads, round trips of everything, and damaged folders."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import zarr
from geff.core_io import read_to_memory, write_arrays
from geff.validate.data import ValidationConfig
from geff_spec import Axis, GeffMetadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.formats import identify, read_tracks, write_tracks
from bdv_io.geff_graph import is_geff, lost_in_geff, read_geff, write_geff
from bdv_io.image import Hints
from bdv_io.mastodon import read_mastodon, write_mastodon
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag
from bdv_io.trackmate import read_trackmate, write_trackmate
from bdv_io.tracks import Tracks

# geff 1.3 takes 3D ellipsoids for wrong: it compares the number of array axes with that of the space axes, plus one.
EVERYTHING = ValidationConfig(graph=True, sphere=True, lineage=True, tracklet=True)


def same(a: Tracks, b: Tracks) -> None:
    for name in ("t", "centre", "covariance", "quality", "id", "links"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.label.tolist() == b.label.tolist()
    assert [(s.name, s.tags, s.spots.tolist(), s.links.tolist()) for s in a.tag_sets] == [
        (s.name, s.tags, s.spots.tolist(), s.links.tolist()) for s in b.tag_sets
    ]
    key = lambda f: (f.key, f.units, f.dimension, f.values.dtype)  # noqa: E731
    assert sorted(map(key, a.features), key=str) == sorted(map(key, b.features), key=str)
    for mine in a.features:
        theirs = b.feature(mine.name, mine.projection, mine.target)
        known = np.ones(len(mine.values), bool) if mine.defined is None else mine.defined
        np.testing.assert_array_equal(known, np.ones(len(known), bool) if theirs.defined is None else theirs.defined)
        np.testing.assert_array_equal(mine.values, theirs.values)
    for name in ("spot", "z", "start", "vertices"):
        np.testing.assert_array_equal(getattr(a.outlines, name), getattr(b.outlines, name), err_msg=name)
    assert (a.space_unit, a.time_unit, a.interval) == (b.space_unit, b.time_unit, b.interval)
    assert dict(a.attributes) == dict(b.attributes)
    assert (a.carried.format, dict(a.carried.entries)) == (b.carried.format, dict(b.carried.entries))
    for mine, theirs in ((a.carried.spots, b.carried.spots), (a.carried.links, b.carried.links)):
        assert {k: v.tolist() for k, v in mine.items()} == {k: v.tolist() for k, v in theirs.items()}


def example() -> Tracks:
    tracks = Tracks.build(
        [0, 1, 1, 3, 0],
        np.arange(15).reshape(5, 3) / 7,
        covariance=[
            np.eye(3) * 4,
            np.diag([9.0, 4, 1]),
            [[4, 1, 0], [1, 3, 0.5], [0, 0.5, 2]],
            np.eye(3) / 3,
            np.eye(3),
        ],
        links=[[0, 1], [0, 2], [2, 3]],
        label=[None, "", "zellkern ü 😀", "c/d", "a\0"],
        quality=[np.nan, 0.5, np.inf, -1, 0],
        id=[70000, 1, 2**40, 15, 3],
        space_unit="µm",
        time_unit="min",
        interval=2.5,
        attributes={"image": "a b.xml"},
        features=(
            Feature(
                "Spot intensity", "Mean ch1", np.array([1.5, np.nan, 3, 4, 5]), dimension="INTENSITY", units="Counts"
            ),
            Feature("a/b", "", np.array([1, 2, 0, 4, 5], np.int32), defined=np.array([True, True, False, True, True])),
            Feature("A_b", "", np.arange(5)),
            Feature("x", "", np.arange(5)),
            Feature("radius", "", np.arange(5.0)),
            Feature("Branch N", "", np.arange(5), target="branch"),
            Feature("Odd", "", np.array([1.0, 2, 3]), target="link"),
        ),
        outlines=Outlines.of_polygons(
            [1, 1, 3], [[[0, 0], [0, 3], [3, 3]], [[1, 1], [1, 2], [2, 2]], [[9, 9], [9, 8], [8, 8.1]]], [0, 1, 2]
        ),
    )
    tracks = tracks.with_tag_set("Det/ection é", [Tag("tp", 0xFF00FFFF), Tag("fp", 0x80FF0000)]).with_tag_set(
        "Empty", []
    )
    return tracks.with_tag("Det/ection é", Tag("fp"), spots=[1, 3], links=[2])


def foreign(path, *, zarr_format=2, axes=None, ids=(4, 9, 2), edges=((4, 9), (9, 2)), node_props=None, **metadata):
    props = {"t": [0, 1, 2], "y": [1.5, 2, 3], "x": [4.0, 5, 6], **(node_props or {})}
    axes = axes or [
        Axis(name="t", type="time", unit="frame"),
        *(Axis(name=n, type="space", unit="micrometer") for n in "yx"),
    ]
    made = {n: p if isinstance(p, dict) else {"values": np.asarray(p), "missing": None} for n, p in props.items()}
    meta = GeffMetadata(directed=True, axes=axes, node_props_metadata={}, edge_props_metadata={}, **metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        link_props = {"score": {"values": np.arange(len(edges), dtype=np.float32), "missing": None}}
        write_arrays(str(path), np.array(ids, np.uint64), made, np.array(edges, np.uint64).reshape(-1, 2), link_props, meta,
                     zarr_format=zarr_format)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder that holds everything."""
    path = tmp_path_factory.mktemp("whole") / "a.geff"
    write_geff(path, example())
    return path


class TestRoundTrip:
    def test_everything(self, tmp_path):
        tracks = example()
        assert not lost_in_geff(tracks)
        write_tracks(tmp_path / "a.geff", tracks)
        assert identify(tmp_path / "a.geff").key == "geff"
        same(tracks, read_tracks(tmp_path / "a.geff"))

    def test_the_library_finds_it_valid(self, tmp_path):
        write_geff(tmp_path / "a.geff", example())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = read_to_memory(str(tmp_path / "a.geff"), data_validation=EVERYTHING)
        metadata = graph["metadata"]
        assert [a.name for a in metadata.axes] == ["t", "z", "y", "x"]
        assert (metadata.axes[0].scale, metadata.axes[0].scaled_unit, metadata.axes[1].unit) == (
            2.5,
            "minute",
            "micrometer",
        )
        polygon = graph["node_props"]["polygon"]
        assert polygon["missing"].tolist() == [True, False, True, False, True]
        expected = np.array([[0, 0, 0], [0, 0, 3], [0, 3, 3]]) - example().centre[1]
        np.testing.assert_array_equal(polygon["values"][1], expected)
        tags = graph["node_props"]["tag_Det_ection__"]
        assert tags["missing"].tolist() == [True, False, True, False, True]
        assert tags["values"][[1, 3]].tolist() == [1, 1]
        assert zarr.open_group(tmp_path / "a.geff", mode="r").metadata.zarr_format == 2

    @pytest.mark.parametrize("tracks", [Tracks.empty(), Tracks.build([0], [[1, 2, 3]], radius=1, id=[-5])])
    def test_no_spot_and_a_negative_number(self, tmp_path, tracks):
        write_geff(tmp_path / "a.geff", tracks)
        same(tracks, read_geff(tmp_path / "a.geff"))

    def test_writing_again_keeps_the_version_before(self, tmp_path):
        write_geff(tmp_path / "a.geff", Tracks.empty())
        write_geff(tmp_path / "a.geff", example())
        assert read_geff(tmp_path / "a.geff~1~").n_spots == 0
        assert read_geff(tmp_path / "a.geff").n_spots == 5

    @pytest.mark.real
    def test_a_mastodon_project_loses_nothing_on_the_way(self, real_data, tmp_path):
        tracks = read_mastodon(real_data / "written-by-java" / "synth.mastodon")
        write_geff(tmp_path / "a.geff", tracks)
        again = read_geff(tmp_path / "a.geff")
        same(tracks, again)
        write_mastodon(tmp_path / "a.mastodon", tracks)
        write_mastodon(tmp_path / "b.mastodon", again)
        same(read_mastodon(tmp_path / "a.mastodon"), read_mastodon(tmp_path / "b.mastodon"))

    @pytest.mark.real
    def test_a_trackmate_file_loses_nothing_on_the_way(self, real_data, tmp_path):
        tracks = read_trackmate(real_data / "faketracks" / "trackmate-8.0.0-roi" / "FakeTracks.xml")
        write_geff(tmp_path / "a.geff", tracks)
        same(tracks, read_geff(tmp_path / "a.geff"))
        write_trackmate(tmp_path / "a.xml", tracks)
        write_trackmate(tmp_path / "b.xml", read_geff(tmp_path / "a.geff"))
        assert (tmp_path / "a.xml").read_bytes() == (tmp_path / "b.xml").read_bytes()


@pytest.mark.real
def test_the_project_beside_is_the_same_graph(real_data):
    graph = read_tracks(real_data / "tgmm-3d" / "tgmm-mini.geff")
    project = read_mastodon(real_data / "tgmm-3d" / "tgmm-mini.mastodon")
    for name in ("t", "centre", "id"):
        np.testing.assert_array_equal(getattr(graph, name), getattr(project, name))
    assert set(map(tuple, graph.links)) == set(map(tuple, project.links))
    assert graph.space_unit == "pixel"


class TestOtherPrograms:
    @pytest.mark.parametrize("zarr_format", [2, 3])
    @pytest.mark.filterwarnings("ignore")
    def test_unknown_properties_are_kept(self, tmp_path, zarr_format):
        props = {
            "area": {"values": np.array([1, 2, 3], np.float32), "missing": np.array([False, True, False])},
            "flag": np.array([True, False, True]),
            "vector": np.arange(6).reshape(3, 2),
            "cell": {"values": np.array(["a", "bb", ""]), "missing": np.array([False, False, True])},
            "trk": np.array([5, 5, 5]),
        }
        path = foreign(tmp_path / "a.geff", zarr_format=zarr_format, node_props=props, track_node_props={"tracklet": "trk"},
                       extra={"theirs": {"a": 1}})  # fmt: skip
        assert is_geff(path)
        tracks = read_geff(path)
        assert tracks.id.tolist() == [4, 9, 2]
        assert tracks.links.tolist() == [[0, 1], [1, 2]]
        assert tracks.centre.tolist() == [[0, 1.5, 4], [0, 2, 5], [0, 3, 6]]
        assert tracks.feature("area").defined.tolist() == [True, False, True]
        assert tracks.feature("score", target="link").values.tolist() == [0, 1]
        write_geff(tmp_path / "b.geff", tracks)
        same(tracks, read_geff(tmp_path / "b.geff"))
        was, now = read_to_memory(str(path)), read_to_memory(str(tmp_path / "b.geff"))
        assert [a.name for a in now["metadata"].axes] == ["t", "y", "x"]
        assert now["metadata"].extra["theirs"] == {"a": 1}
        assert now["metadata"].track_node_props["tracklet"] == "trk"
        for name, prop in was["node_props"].items():
            np.testing.assert_array_equal(now["node_props"][name]["values"], prop["values"], err_msg=name)
            assert now["node_props"][name]["values"].dtype == prop["values"].dtype
            np.testing.assert_array_equal(now["node_props"][name]["missing"], prop["missing"], err_msg=name)

    def test_scale_offset_and_named_axes(self, tmp_path):
        axes = [
            Axis(name="frame", type="time", unit="frame", scale=5, scaled_unit="minute"),
            Axis(name="pos_x", type="space", unit="pixel", scale=0.5, scaled_unit="micrometer", offset=10),
            Axis(name="pos_y", type="space", unit="pixel", scale=2, scaled_unit="micrometer"),
        ]
        props = {"frame": [0, 1, 2], "pos_x": [0.0, 2, 4], "pos_y": [1.0, 2, 3], "r": [1.0, 2, 3]}
        tracks = read_geff(foreign(tmp_path / "a.geff", axes=axes, node_props=props, sphere="r"))
        assert tracks.centre.tolist() == [[0, 2, 10], [0, 4, 11], [0, 6, 12]]
        assert (tracks.space_unit, tracks.time_unit, tracks.interval) == ("micrometer", "minute", 5)
        np.testing.assert_allclose(np.diag(tracks.covariance[1]), [4, 16, 1])

    def test_times_need_the_interval(self, tmp_path):
        axes = [
            Axis(name="t", type="time", unit="second"),
            *(Axis(name=n, type="space", unit="micrometer") for n in "yx"),
        ]
        path = foreign(tmp_path / "a.geff", axes=axes, node_props={"t": [0.0, 30, 60]})
        with pytest.raises(FormatError, match="has times in 'second', not frames.*--interval"):  # noqa: RUF043
            read_geff(path)
        tracks = read_geff(path, hints=Hints(interval=(30.0, "s")))
        assert (tracks.t.tolist(), tracks.interval, tracks.time_unit) == ([0, 1, 2], 30.0, "s")
        with pytest.raises(FormatError, match="no whole number of frames"):
            read_geff(path, hints=Hints(interval=(40.0, "s")))

    def test_polygons_of_other_programs(self, tmp_path):
        rings = np.empty(3, object)
        rings[:] = [
            np.array([[0, 0], [0, 1], [1, 1.0]]),
            np.zeros((0, 2)),
            np.array([[0, 0], [0, 2], [2, 2], [2, 0.0]]),
        ]
        tracks = read_geff(
            foreign(tmp_path / "a.geff", node_props={"polygon": {"values": rings, "missing": None}}, polygon="polygon")
        )
        assert tracks.outlines.spot.tolist() == [0, 2]
        assert tracks.outlines.ring(0).tolist() == [[1.5, 4], [1.5, 5], [2.5, 5]]
        write_geff(tmp_path / "b.geff", tracks)
        same(tracks, read_geff(tmp_path / "b.geff"))

    def test_size_and_unit_that_are_not_said_are_in_the_log(self, tmp_path, caplog):
        axes = [Axis(name="t", type="time"), *(Axis(name=n, type="space") for n in "yx")]
        tracks = read_geff(foreign(tmp_path / "a.geff", axes=axes))
        assert "have no sphere and no ellipsoid" in caplog.text
        assert "does not say the unit of length" in caplog.text
        assert tracks.space_unit == "pixel"

    def test_what_another_program_changed_in_our_file(self, tmp_path, caplog):
        write_geff(tmp_path / "a.geff", example())
        root = zarr.open_group(tmp_path / "a.geff", mode="r+")
        root["nodes/ids"][0] = 99
        root["edges/ids"][:2, 0] = 99
        again = read_geff(tmp_path / "a.geff")
        assert "another program has changed nodes or edges" in caplog.text
        assert again.id[0] == 99
        assert again.label.tolist()[:4] == example().label.tolist()[:4]
        assert [s.name for s in again.tag_sets] == ["Det/ection é", "Empty"]
        assert again.outlines.spot.tolist() == [1, 3]


class TestDamage:
    def test_no_folder(self, tmp_path):
        with pytest.raises(MissingDataError, match="there is no such folder"):
            read_geff(tmp_path / "none.geff")
        assert not is_geff(tmp_path / "none.geff")

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            (".zattrs", b"{"),
            (".zattrs", b"{}"),
            (".zattrs", b'{"geff": {}}'),
            ("nodes/ids/.zarray", None),
            ("nodes/ids/0", b"no chunk"),
            ("nodes/props/x/values/0", b""),
            ("edges/props/Odd/values/.zarray", b"[]"),
            ("howdah/t0_bytes/0", b"damage"),
            ("howdah/a0/.zarray", None),
        ],
    )
    def test_damage_is_a_sentence(self, whole, tmp_path, file, content):
        shutil.copytree(whole, tmp_path / "a.geff")
        target = tmp_path / "a.geff" / file
        assert target.exists()
        target.unlink() if content is None else target.write_bytes(content)
        with pytest.raises(FormatError, match=r"Reading the GEFF .*failed"):
            read_geff(tmp_path / "a.geff")

    def test_absurd_sizes_are_refused(self, whole, tmp_path):
        shutil.copytree(whole, tmp_path / "a.geff")
        for name in (
            "nodes/ids",
            *(f"nodes/props/{p.name}/values" for p in (tmp_path / "a.geff/nodes/props").iterdir() if p.is_dir()),
        ):
            file = tmp_path / "a.geff" / name / ".zarray"
            said = json.loads(file.read_bytes())
            said["shape"][0] = 10**12
            file.write_text(json.dumps(said))
        for mask in (tmp_path / "a.geff/nodes/props").glob("*/missing"):
            shutil.rmtree(mask)
        with pytest.raises(FormatError, match="was refused.*claims the shape"):  # noqa: RUF043
            read_geff(tmp_path / "a.geff")

    @pytest.mark.parametrize("place", [4, 8, 12])
    def test_sizes_in_a_chunk_that_would_end_the_program_are_refused(self, whole, tmp_path, place):
        shutil.copytree(whole, tmp_path / "a.geff")
        chunk = tmp_path / "a.geff" / "nodes" / "props" / "x" / "values" / "0"
        content = bytearray(chunk.read_bytes())
        content[place + 3] = 0x7F
        chunk.write_bytes(content)
        with pytest.raises(FormatError, match="header does not fit"):
            read_geff(tmp_path / "a.geff")

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [({"sphere": "none"}, "names the property 'none'"), ({"ellipsoid": "area"}, "ellipsoids have the shape")],
    )
    def test_contradictions(self, tmp_path, metadata, message):
        path = foreign(tmp_path / "a.geff", node_props={"area": [1.0, 2, 3]}, **metadata)
        with pytest.raises(FormatError, match=message):
            read_geff(path)

    def test_edges_to_nowhere(self, tmp_path):
        with pytest.raises(FormatError, match="1 edges name nodes that are not there, the first joins 4 and 77"):
            read_geff(foreign(tmp_path / "a.geff", edges=((4, 77), (4, 9))))


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    write_geff(tmp_path / "a.geff", tracks)
    same(tracks, read_geff(tmp_path / "a.geff"))
