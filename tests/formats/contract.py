"""What every format must do: the contract that the tests of all readers and writers inherit.

A format says in ``keeps`` which aspects of an annotation, or of a movie, come back equal. The contract proves each of them
on content that has it; and of each aspect that a format does not keep it proves that ``lost`` says so in a sentence: nothing
is lost silently. ``docs/formats.md`` is made from the same classes (:mod:`formats.table`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bdv_io.formats import Format, format_named, identify, read_tracks, write_tracks
from bdv_io.image import ArrayImage, ImageSeries
from bdv_io.outlines import Outlines
from bdv_io.tags import UNTAGGED, Feature, Tag
from bdv_io.tracks import Tracks

SHAPE = (12, 40, 48)  # of the movie that the annotations belong to

# ---- annotations: what may be in them, and whether it came back ---------------------------------------------------------


def plain(n_frames: int = 3, interval: float | None = None) -> Tracks:
    """Spheres of radius 3 that touch nobody, two chains with a division; nothing else. Centres sit on voxels."""
    t, centre, links = [], [], []
    for frame in range(n_frames):
        for place in ((5, 8, 8), (5, 8, 36)):
            t.append(frame)
            centre.append(place)
            if frame:
                links.append((len(t) - 3, len(t) - 1))
    t.append(n_frames - 1)
    centre.append((5, 26, 20))
    links.append((len(t) - 4, len(t) - 1)) if n_frames > 1 else None
    return Tracks.build(t, np.array(centre, float), radius=3.0, links=np.array(links).reshape(-1, 2), interval=interval)


def with_ellipsoids(tracks: Tracks) -> Tracks:
    covariance = tracks.covariance.copy()
    covariance[0] = [[4.0, 0.5, 0.25], [0.5, 9.0, -1.0], [0.25, -1.0, 6.5]]
    return replace(tracks, covariance=covariance)


def with_square_outlines(tracks: Tracks) -> Tracks:
    square = np.array([[-1.5, -2.5], [-1.5, 2.5], [2.5, 2.5], [2.5, -2.5]])
    return replace(
        tracks,
        outlines=Outlines.of_polygons([0, 2], [square + tracks.centre[0, 1:], square + tracks.centre[2, 1:]], 5.0),
    )


def with_rings(tracks: Tracks) -> Tracks:
    """A hole in one plane, and a second plane."""
    y, x = tracks.centre[0, 1:]
    unit = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
    big, hole = unit * 3.5 + np.array([y, x]), unit * 1.5 + np.array([y, x])
    return replace(tracks, outlines=Outlines.of_polygons([0, 0, 0], [big, hole, big], [5.0, 5.0, 6.0]))


def _tagged(tracks: Tracks, colour: int) -> Tracks:
    return (
        tracks.with_tag_set("Fate", [Tag("skin", colour), Tag("gut", colour)])
        .with_tag("Fate", Tag("skin", colour), spots=[0, 3])
        .with_tag("Fate", Tag("gut"), spots=[1])
    )


def _feature(tracks: Tracks, values: Any, target: str = "spot", units: str = "", dimension: str = "NONE") -> Tracks:
    n = tracks.n_links if target == "link" else tracks.n_spots
    return tracks.with_feature(
        Feature("LENGTH_A", "", np.resize(np.asarray(values), n), target, units=units, dimension=dimension)  # type: ignore[arg-type]
    )


def _partly(tracks: Tracks) -> Tracks:
    known = np.arange(tracks.n_spots) % 2 == 0
    return tracks.with_feature(Feature("Partly", "", np.where(known, 1.5, 0.0), defined=known))


def _same_features(a: Tracks, b: Tracks, target: str, *, units: bool = False) -> bool:
    for mine in (f for f in a.features if f.target == target):
        theirs = next((f for f in b.features if _words(f) == _words(mine) and f.target == target), None)
        if theirs is None or (units and (mine.units, mine.dimension) != (theirs.units, theirs.dimension)):
            return False
        known = [_known(f) for f in (mine, theirs)]
        if not np.array_equal(known[0], known[1]) or not _equal(mine.values[known[0]], theirs.values[known[0]]):
            return False
    return True


def _known(feature: Feature) -> Any:
    """Where a feature says something; NaN says as little as nothing."""
    known = np.ones(len(feature.values), bool) if feature.defined is None else feature.defined
    return known & ~np.isnan(feature.values) if feature.values.dtype.kind == "f" else known


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))


def _words(feature: Feature) -> str:
    return f"{feature.name} {feature.projection}".strip().replace(" ", "_")


def _same_outlines(a: Tracks, b: Tracks) -> bool:
    """The same polygons of the spots that have some, wherever a ring begins and whichever way it runs."""
    return all(_rings(a, row) == _rings(b, row) for row in np.unique(a.outlines.spot).tolist())


def _rings(tracks: Tracks, row: int) -> list[Any]:
    found = []
    for ring in tracks.outlines.of_spot(row):
        points = tracks.outlines.ring(ring).round(4)
        before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
        points = points[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]  # corners only
        both = [
            [tuple(p) for p in np.roll(way, -first, axis=0).tolist()]
            for way in (points, points[::-1])
            for first in range(len(points))
        ]
        found.append((round(float(tracks.outlines.z[ring]), 6), min(both)))
    return sorted(found)


def _same_tags(a: Tracks, b: Tracks, *, links: bool = False, colours: bool = False) -> bool:
    for mine in a.tag_sets:
        theirs = b.tag_set(mine.name)
        if theirs is None:
            return False
        for tag in mine.tags:
            if not np.array_equal(
                a.tagged(mine.name, tag.name, links=links), b.tagged(mine.name, tag.name, links=links)
            ):
                return False
        if colours and mine.tags != theirs.tags:
            return False
    return True


Make, Same = Callable[[Tracks], Tracks], Callable[[Tracks, Tracks], bool]

ANNOTATION_ASPECTS: dict[str, tuple[Make, Same]] = {
    "centres and frames": (
        lambda a: a,
        lambda a, b: np.array_equal(a.t, b.t) and np.allclose(a.centre, b.centre, rtol=0, atol=1e-9),
    ),
    "links": (lambda a: a, lambda a, b: np.array_equal(a.links, b.links)),
    "radii": (lambda a: a, lambda a, b: np.allclose(a.covariance, b.covariance, rtol=1e-9)),
    "ellipsoids": (with_ellipsoids, lambda a, b: np.allclose(a.covariance, b.covariance, rtol=1e-9)),
    "labels": (
        lambda a: a.relabelled(["one", "zwölf", "細胞", 'a "b", <c> & d', None, "🐘", " x "][: a.n_spots]),
        lambda a, b: a.label.tolist() == b.label.tolist(),
    ),
    "qualities": (
        lambda a: replace(a, quality=np.resize([0.25, np.nan, 1.0], a.n_spots)),
        lambda a, b: np.array_equal(a.quality, b.quality, equal_nan=True),
    ),
    "ids": (
        lambda a: replace(a, id=np.arange(a.n_spots) * 3 + 70_000),
        lambda a, b: np.array_equal(a.id, b.id),
    ),
    "tags on spots": (lambda a: _tagged(a, 0xFF00FFFF), _same_tags),
    "tags on links": (
        lambda a: a.with_tag("Checked", Tag("yes"), links=[0]),
        lambda a, b: _same_tags(a, b, links=True),
    ),
    "colours of tags": (lambda a: _tagged(a, 0x80123456), lambda a, b: _same_tags(a, b, colours=True)),
    "spot features": (
        lambda a: _feature(a, [1.5, -2.25, 1e300, 0.1]),
        lambda a, b: _same_features(a, b, "spot"),
    ),
    "whole-number features": (
        lambda a: _feature(a, np.array([3, -1, 2**31 - 1], np.int32)),
        lambda a, b: _same_features(a, b, "spot"),
    ),
    "features of some spots only": (_partly, lambda a, b: _same_features(a, b, "spot")),
    "link features": (lambda a: _feature(a, [0.5, 2.0], "link"), lambda a, b: _same_features(a, b, "link")),
    "units and kinds of features": (
        lambda a: _feature(a, [1.5, 2.5], units="µm", dimension="LENGTH"),
        lambda a, b: _same_features(a, b, "spot", units=True),
    ),
    "exact names of features": (
        lambda a: a.with_feature(Feature("Mean µ", "channel 1", np.arange(float(a.n_spots)))),
        lambda a, b: {f.key for f in a.features} <= {f.key for f in b.features},
    ),
    "outlines": (with_square_outlines, _same_outlines),
    "holes, parts and slices of outlines": (with_rings, _same_outlines),
    "unit of length": (
        lambda a: replace(a, space_unit="µm"),
        lambda a, b: (a.space_unit or "pixel") == (b.space_unit or "pixel"),
    ),
    "frame interval": (
        lambda a: replace(a, interval=30.5, time_unit="s"),
        lambda a, b: (a.interval, a.time_unit or "frame") == (b.interval, b.time_unit or "frame"),
    ),
}


class AnnotationContract:
    """Inherit, set ``key``, ``name`` and ``keeps``; override ``back`` where a format needs to be told something."""

    key: ClassVar[str]
    name: ClassVar[str]  # of the target file, its ending chooses the format
    keeps: ClassVar[frozenset[str]]
    golden: ClassVar[tuple[str, ...]] = ()  # samples, below the folder of real data
    needs_image: ClassVar[bool] = False
    until_saved: ClassVar[frozenset[str]] = frozenset()  # kept beside, gone once the real program saves the file
    notes: ClassVar[str] = ""

    # -- what a subclass may change --------------------------------------------------------------------------------

    def movie(self, n_frames: int = 3) -> ImageSeries:
        return ArrayImage([np.zeros(SHAPE, np.uint8)] * n_frames)

    def write(self, path: Path, tracks: Tracks, n_frames: int = 3) -> None:
        write_tracks(path, tracks, key=self.key, image=self.movie(n_frames) if self.needs_image else None)

    def read(self, path: Path) -> Tracks:
        return read_tracks(path)

    def written(self, folder: Path) -> Path:
        return folder / self.name

    def in_order(self, tracks: Tracks, like: Tracks) -> Tracks:
        """The spots that were read in the order of those that were written, for formats that sort them."""
        order = np.lexsort((*tracks.centre.T, tracks.t))
        wanted = np.argsort(np.lexsort((*like.centre.T, like.t)))
        sorted_spots = tracks.select(order[wanted]) if tracks.n_spots == like.n_spots else tracks
        keys = {tuple(link): place for place, link in enumerate(like.links.tolist())}
        links = sorted(range(sorted_spots.n_links), key=lambda i: keys.get(tuple(sorted_spots.links[i].tolist()), -1))
        return sorted_spots.select_links(np.array(links, dtype=np.int64))

    def round_trip(self, folder: Path, tracks: Tracks) -> Tracks:
        self.write(self.written(folder), tracks, max(tracks.n_frames, 1))
        return self.read(self.written(folder))

    @property
    def format(self) -> Format:
        return format_named(self.key, "annotation")

    # -- the contract ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("aspect", ANNOTATION_ASPECTS)
    def test_what_is_kept_comes_back_and_what_is_lost_is_said(self, aspect: str, tmp_path: Path) -> None:
        make, same = ANNOTATION_ASPECTS[aspect]
        tracks = make(plain())
        back = self.in_order(self.round_trip(tmp_path, tracks), tracks)
        if aspect in self.keeps:
            assert same(tracks, back), aspect
        else:
            assert self.format.losses(tracks), f"{aspect} is lost without a word"

    def test_the_aspects_it_keeps_exist(self) -> None:
        assert self.keeps <= set(ANNOTATION_ASPECTS)

    def test_nothing_is_called_lost_that_is_not_there(self) -> None:
        kept = plain()
        for aspect in sorted(self.keeps - self.until_saved - {"holes, parts and slices of outlines"}):
            kept = ANNOTATION_ASPECTS[aspect][0](kept)
        assert self.format.losses(kept) == ()

    def test_what_the_real_program_will_drop_is_said(self) -> None:
        for aspect in self.until_saved:
            assert self.format.losses(ANNOTATION_ASPECTS[aspect][0](plain())), aspect

    def test_all_together(self, tmp_path: Path) -> None:
        tracks = plain()
        for aspect, (make, _) in ANNOTATION_ASPECTS.items():
            if aspect in self.keeps and aspect != "holes, parts and slices of outlines":
                tracks = make(tracks)
        back = self.in_order(self.round_trip(tmp_path, tracks), tracks)
        for aspect, (_, same) in ANNOTATION_ASPECTS.items():
            if aspect in self.keeps and aspect not in ("holes, parts and slices of outlines", "radii"):
                assert same(tracks, back), aspect

    def test_the_format_is_found_by_the_content(self, tmp_path: Path) -> None:
        self.write(self.written(tmp_path), plain())
        assert identify(self.written(tmp_path)).key == self.key

    @pytest.mark.parametrize("n_frames", [0, 1])
    def test_no_spot_and_one_frame(self, n_frames: int, tmp_path: Path) -> None:
        tracks = plain(1) if n_frames else Tracks.empty()
        back = self.round_trip(tmp_path, tracks)
        assert (back.n_spots, back.n_links) == (tracks.n_spots, 0)
        back.validate(odd_is_fine=True)

    def test_a_second_round_changes_nothing(self, tmp_path: Path) -> None:
        tracks = plain()
        for aspect in self.keeps - {"holes, parts and slices of outlines"}:
            tracks = ANNOTATION_ASPECTS[aspect][0](tracks)
        once = self.round_trip(tmp_path, tracks)
        (tmp_path / "again").mkdir()
        twice = self.round_trip(tmp_path / "again", once)
        assert_same(once, self.in_order(twice, once), self.keeps)

    def test_many_spots(self, tmp_path: Path) -> None:
        tracks = self.many()
        back = self.in_order(self.round_trip(tmp_path, tracks), tracks)
        assert (back.n_spots, back.n_links) == (tracks.n_spots, tracks.n_links)
        for aspect in ("centres and frames", "links"):
            if aspect in self.keeps:
                assert ANNOTATION_ASPECTS[aspect][1](tracks, back), aspect

    def many(self, n: int = 100_000) -> Tracks:
        random = np.random.default_rng(0)
        t = np.repeat(np.arange(100, dtype=np.int32), n // 100)
        links = np.stack([np.arange(n - n // 100), np.arange(n // 100, n)], axis=1)
        return Tracks.build(t, random.uniform(0, 1000, (n, 3)), radius=2.0, links=links)

    @pytest.mark.real
    def test_samples_of_the_real_programs_survive(self, real_data: Path, tmp_path: Path) -> None:
        if not self.golden:
            pytest.skip("no sample of this format")
        for number, sample in enumerate(self.golden):
            once = self.read(real_data / sample)
            folder = tmp_path / str(number)
            folder.mkdir()
            twice = self.rewritten(folder, once, real_data / sample)
            assert_same(once, self.in_order(twice, once), self.keeps, sample)

    def rewritten(self, folder: Path, tracks: Tracks, source: Path) -> Tracks:
        return self.round_trip(folder, tracks)


def assert_same(a: Tracks, b: Tracks, keeps: frozenset[str], what: str = "") -> None:
    assert (a.n_spots, a.n_links) == (b.n_spots, b.n_links), what
    for aspect in sorted(keeps):
        assert ANNOTATION_ASPECTS[aspect][1](a, b), f"{what}: {aspect}"
    assert UNTAGGED == -1
