"""Mastodon projects: round trips, growth, shrinkage, and damage of every kind."""

from __future__ import annotations

import logging
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io import BdvIoError, Feature, FormatError, MissingDataError, Tag, Tracks
from bdv_io.mastodon import is_mastodon, lost_in_mastodon, read_mastodon, write_mastodon
from bdv_io.mastodon.feature_files import read_feature
from bdv_io.mastodon.object_stream import StreamReader, StreamWriter, decode_utf, encode_utf
from bdv_io.mastodon.tag_file import read_tags, write_tags


@pytest.fixture
def embryo() -> Tracks:
    """Five spots, a division 1 -> 2, 3, labels with an emoji, two tag sets, features, a quality.

    0 - 1 < 2
            3      4 alone
    """
    tilted = np.array([[4.0, 0.5, 0.2], [0.5, 9.0, -1.0], [0.2, -1.0, 16.0]])
    tracks = Tracks.build(
        [0, 1, 2, 2, 5],
        np.arange(15.0).reshape(5, 3),
        covariance=np.tile(tilted, (5, 1, 1)),
        links=[[0, 1], [1, 2], [1, 3]],
        label=["root", None, "Zelle ä 🐘", "nul\x00inside", ""],
        quality=[np.nan, 0.25, 0.5, 1.0, np.nan],
        space_unit="µm",
    )
    tracks = tracks.with_tag("Detection", Tag("fn", 0xFF00FFFF), spots=[0, 4]).with_tag(
        "Detection", Tag("tp"), spots=[2]
    )
    tracks = tracks.with_tag("Größe", Tag("klein", 0x80112233), spots=[0], links=[0, 2])
    tracks = tracks.with_feature(Feature("Spot track ID", "", np.array([0, 0, 0, 0, 1], dtype=np.int32)))
    tracks = tracks.with_feature(
        Feature("Link displacement", "Link displacement", np.array([1.5, 2.5, 3.5]), "link", "µm", "LENGTH")
    )
    return tracks.with_feature(Feature("own", "number", np.array([1.0, 2.0, 3.0, 4.0, np.inf]), units="px"))


def written(tracks: Tracks, folder: Path, name: str = "p.mastodon") -> Tracks:
    write_mastodon(folder / name, tracks)
    return read_mastodon(folder / name)


def assert_same(a: Tracks, b: Tracks) -> None:
    assert np.array_equal(a.t, b.t)
    assert np.array_equal(a.centre, b.centre)
    assert np.array_equal(a.covariance, b.covariance)
    assert np.array_equal(a.links, b.links)
    assert np.array_equal(a.quality, b.quality, equal_nan=True)
    assert a.label.tolist() == b.label.tolist()
    assert [t.name for t in a.tag_sets] == [t.name for t in b.tag_sets]
    for mine, theirs in zip(a.tag_sets, b.tag_sets, strict=True):
        assert mine.tags == theirs.tags
        assert np.array_equal(mine.spots, theirs.spots)
        assert np.array_equal(mine.links, theirs.links)


def test_kinds_of_quantity_that_mastodon_does_not_know_become_none(embryo: Tracks, tmp_path: Path) -> None:
    # Mastodon refuses the whole project: "enum constant VOLUME does not exist in class org.mastodon.feature.Dimension"
    odd = embryo.with_feature(Feature("VOLUME", "", np.arange(5.0), units="µm^3", dimension="VOLUME"))
    write_mastodon(tmp_path / "a.mastodon", odd)
    again = read_mastodon(tmp_path / "a.mastodon").feature("VOLUME")
    assert (again.dimension, again.units) == ("NONE", "µm^3")
    assert "Kinds of quantity that Mastodon does not know are left out (VOLUME)." in lost_in_mastodon(odd)


def test_everything_comes_back(embryo: Tracks, tmp_path: Path) -> None:
    again = written(embryo, tmp_path)
    assert is_mastodon(tmp_path / "p.mastodon")
    assert_same(again, embryo)
    assert again.space_unit == "µm"
    names = {(f.name, f.projection): f.values.tolist() for f in again.features}
    assert names["Spot track ID", ""] == [0, 0, 0, 0, 1]
    assert names["Link displacement", "Link displacement"] == [1.5, 2.5, 3.5]
    assert names["own", "number"] == [1.0, 2.0, 3.0, 4.0, np.inf]
    assert_same(written(again, tmp_path, "second.mastodon"), embryo)


def test_a_project_in_a_folder_keeps_the_files_that_lie_beside_its_entries(embryo: Tracks, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    assert not is_mastodon(folder)
    write_mastodon(folder, embryo)
    assert is_mastodon(folder)
    (folder / "movie.h5").write_bytes(b"pixels")
    assert_same(read_mastodon(folder), embryo)
    write_mastodon(folder, embryo.select([0, 1]))
    assert read_mastodon(folder).n_spots == 2
    assert (folder / "movie.h5").read_bytes() == b"pixels"


def test_a_folder_with_other_things_is_not_taken_for_a_project(embryo: Tracks, tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "picture.jpg").write_bytes(b"x")
    with pytest.raises(BdvIoError, match="holds other things than a Mastodon project"):
        write_mastodon(folder, embryo)
    assert [path.name for path in folder.iterdir()] == ["picture.jpg"]


def test_unknown_entries_come_back_byte_for_byte_while_spots_keep_their_index(embryo: Tracks, tmp_path: Path) -> None:
    write_mastodon(tmp_path / "p.mastodon", embryo)
    stream = StreamWriter()
    stream.integer(7)
    unknown = {"features/Of a plugin.raw": stream.getvalue(), "gui.xml": b"<MamutGui/>", "notes/any.bin": b"\x00\x01"}
    add(tmp_path / "p.mastodon", unknown)
    project = read_mastodon(tmp_path / "p.mastodon")
    extra = Tracks.build([1], [[0, 0, 0]], radius=1.0, space_unit="µm")
    write_mastodon(tmp_path / "grown.mastodon", project.concatenate(extra))
    assert entries(tmp_path / "grown.mastodon").items() >= unknown.items()
    write_mastodon(tmp_path / "cut.mastodon", project.select([1, 2]))
    cut = entries(tmp_path / "cut.mastodon")
    assert "features/Of a plugin.raw" not in cut
    assert cut["notes/any.bin"] == b"\x00\x01"


def test_deleting_spots_keeps_everything_else_with_the_right_spot(embryo: Tracks, tmp_path: Path) -> None:
    cut = written(written(embryo, tmp_path).select([3, 1, 4]), tmp_path, "cut.mastodon")
    assert cut.label.tolist() == ["nul\x00inside", None, ""]
    assert cut.links.tolist() == [[1, 0]]
    assert cut.tagged("Detection", "fn").tolist() == [False, False, True]
    assert cut.tagged("Größe", "klein", links=True).tolist() == [True]
    assert cut.quality.tolist()[:2] == [1.0, 0.25]


def test_places_among_siblings_stay_and_new_links_come_last(embryo: Tracks, tmp_path: Path) -> None:
    project = written(embryo, tmp_path)
    assert project.carried.links["place_among_outgoing"].tolist() == [0, 0, 1]
    grown = project.concatenate(Tracks.build([2], [[9, 9, 9]], radius=1.0, space_unit="µm")).with_links([[1, 5]])
    again = written(grown, tmp_path, "grown.mastodon")
    assert again.carried.links["place_among_outgoing"].tolist() == [0, 0, 1, 2]


def test_an_empty_project(tmp_path: Path) -> None:
    again = written(Tracks.empty(), tmp_path)
    assert (again.n_spots, again.n_links, again.tag_sets) == (0, 0, ())


def test_an_image_is_named_relative_to_the_project_taken_as_a_folder(embryo: Tracks, tmp_path: Path) -> None:
    (tmp_path / "movie.xml").write_text("<SpimData/>")
    write_mastodon(tmp_path / "p.mastodon", embryo, image=tmp_path / "movie.xml")
    assert b">../movie.xml<" in entries(tmp_path / "p.mastodon")["project.xml"]
    project = read_mastodon(tmp_path / "p.mastodon")
    assert project.attributes["image"] == str(tmp_path / "movie.xml")
    (tmp_path / "deep").mkdir()
    write_mastodon(tmp_path / "deep" / "q.mastodon", project)
    assert read_mastodon(tmp_path / "deep" / "q.mastodon").attributes["image"] == str(tmp_path / "movie.xml")


def test_an_image_that_moved_is_a_warning(embryo: Tracks, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="bdv_io"):
        logging.getLogger("bdv_io").propagate = True
        write_mastodon(tmp_path / "p.mastodon", embryo, image=tmp_path / "gone.xml")
        project = read_mastodon(tmp_path / "p.mastodon")
    assert project.attributes["image_missing"] == "yes"
    assert str(tmp_path / "gone.xml") in caplog.text


# ---- damage ----------------------------------------------------------------------------------------------------------


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, changed: dict[str, bytes | None]) -> None:
    content: dict[str, bytes | None] = {**entries(path), **changed}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def add(path: Path, more: dict[str, bytes]) -> None:
    rewrite(path, dict(more))


def test_no_zip(tmp_path: Path) -> None:
    (tmp_path / "p.mastodon").write_bytes(b"no zip at all")
    assert not is_mastodon(tmp_path / "p.mastodon")
    with pytest.raises(FormatError, match="it is no zip file"):
        read_mastodon(tmp_path / "p.mastodon")
    with pytest.raises(MissingDataError, match="no such file"):
        read_mastodon(tmp_path / "q.mastodon")


@pytest.mark.parametrize("missing", ["model.raw", "project.xml"])
def test_a_missing_entry(embryo: Tracks, tmp_path: Path, missing: str) -> None:
    write_mastodon(tmp_path / "p.mastodon", embryo)
    rewrite(tmp_path / "p.mastodon", {missing: None})
    with pytest.raises(FormatError, match=f"the entry {missing} is missing"):
        read_mastodon(tmp_path / "p.mastodon")


def test_a_truncated_zip(embryo: Tracks, tmp_path: Path) -> None:
    path = tmp_path / "p.mastodon"
    write_mastodon(path, embryo)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError, match="damaged"):
        read_mastodon(path)


@pytest.mark.parametrize("keep", [0, 3, 4, 5, 20, 300, -1])
def test_a_truncated_model(embryo: Tracks, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "p.mastodon"
    write_mastodon(path, embryo)
    rewrite(path, {"model.raw": entries(path)["model.raw"][:keep]})
    with pytest.raises(FormatError, match=r"model\.raw of .* failed"):
        read_mastodon(path)


def test_a_count_that_is_too_large_allocates_nothing(embryo: Tracks, tmp_path: Path) -> None:
    path = tmp_path / "p.mastodon"
    write_mastodon(path, embryo)
    stream = StreamWriter()
    stream.integer(2**31 - 1)
    rewrite(path, {"model.raw": stream.getvalue()})
    with pytest.raises(FormatError, match="announces 2147483647 entries"):
        read_mastodon(path)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "p.mastodon"
    write_mastodon(path, Tracks.empty())
    stream = StreamWriter()
    stream.integer(0)
    stream.integer(1)
    stream.raw(struct.pack(">4i", 0, 1, 0, 0))
    rewrite(path, {"model.raw": stream.getvalue()})
    with pytest.raises(FormatError, match="link 0 joins spots 0 and 1, but there are 0"):
        read_mastodon(path)


def test_xml_entities_are_not_followed(embryo: Tracks, tmp_path: Path) -> None:
    path = tmp_path / "p.mastodon"
    write_mastodon(path, embryo)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    evil = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret}">]><MamutProject><SpimDataFile>&e;</SpimDataFile></MamutProject>'
    rewrite(path, {"project.xml": evil.encode()})
    assert "secret" not in read_mastodon(path).attributes["image_stored"]


def test_entries_that_point_out_of_the_project_are_refused(embryo: Tracks, tmp_path: Path) -> None:
    path = tmp_path / "p.mastodon"
    write_mastodon(path, embryo)
    add(path, {"../../evil.txt": b"x"})
    with pytest.raises(FormatError, match="points out of the project"):
        read_mastodon(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.mastodon"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("project.xml", b"<MamutProject/>")
        archive.writestr("model.raw", b"\0" * 30_000_000)
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    assert claimed > 900 * path.stat().st_size
    with pytest.raises(FormatError, match=r"failed|refused"):
        read_mastodon(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_give_a_sentence_or_a_reading_never_a_fault(data: st.DataObject) -> None:
    tracks = Tracks.build([0, 1], np.ones((2, 3)), radius=1.0, links=[[0, 1]], label=["a", None])
    tracks = tracks.with_tag("S", Tag("t"), spots=[0]).with_feature(Feature("own", "", np.array([1.0, 2.0])))
    from bdv_io.mastodon.feature_files import write_features
    from bdv_io.mastodon.model_file import read_model, write_model

    blobs = {
        "model": write_model(tracks),
        "tags": write_tags(tracks),
        "feature": write_features(tracks)["TrackMate Spot features"],
    }
    kind = data.draw(st.sampled_from(sorted(blobs)))
    blob = bytearray(blobs[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(blob[: data.draw(st.integers(0, len(blob)))]) if data.draw(st.booleans()) else bytes(blob)
    try:
        if kind == "model":
            read_model(cut, "model.raw")
        elif kind == "tags":
            read_tags(cut, "tags.raw", n_spots=2, n_links=1)
        else:
            read_feature(cut, "TrackMate Spot features", n_spots=2, n_links=1, name="f")
    except BdvIoError:
        pass


# ---- the object stream -----------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_modified_utf8_round_trip(text: str) -> None:
    encoded = encode_utf(text)
    assert b"\x00" not in encoded
    assert all(byte < 0xF0 for byte in encoded), "no character takes four bytes"
    assert decode_utf(encoded) == text


@pytest.mark.parametrize("size", [0, 1, 255, 256, 1023, 1024, 1025, 5000])
def test_primitives_run_on_across_records(size: int) -> None:
    content = bytes(range(256)) * 20
    writer = StreamWriter()
    writer.raw(content[:size])
    stream = writer.getvalue()
    assert bytes(StreamReader(stream, "s").take(size)) == content[:size]
    one_record = b"\xac\xed\x00\x05\x7a" + struct.pack(">i", size) + content[:size]
    assert bytes(StreamReader(one_record, "s").take(size)) == content[:size]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_random_annotations_round_trip(n: int, seed: int) -> None:
    import tempfile

    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 4, n))
    root = rng.normal(size=(n, 3, 3))
    links = np.array([(a, b) for a in range(n) for b in range(n) if t[a] < t[b] and rng.random() < 0.1]).reshape(-1, 2)
    labels = [None if rng.random() < 0.5 else chr(int(rng.integers(1, 0x2FA0))) * 3 for _ in range(n)]
    tracks = Tracks.build(
        t,
        rng.normal(size=(n, 3)) * 1e3,
        covariance=root @ root.transpose(0, 2, 1) + np.eye(3),
        links=links,
        label=labels,
    )
    for name in ("A", "B"):
        for tag in ("x", "y"):
            tracks = tracks.with_tag(name, Tag(tag), spots=rng.random(n) < 0.3, links=rng.random(len(links)) < 0.3)
    with tempfile.TemporaryDirectory() as folder:
        again = written(tracks, Path(folder))
    upper = np.triu_indices(3)
    assert np.array_equal(again.covariance[:, upper[0], upper[1]], tracks.covariance[:, upper[0], upper[1]])
    assert np.array_equal(again.links, tracks.links)
    assert again.label.tolist() == tracks.label.tolist()
    for mine, theirs in zip(again.tag_sets, tracks.tag_sets, strict=True):
        assert np.array_equal(mine.spots, theirs.spots)
        assert np.array_equal(mine.links, theirs.links)
