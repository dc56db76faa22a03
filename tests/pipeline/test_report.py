"""The page of an evaluation: it holds all that it shows, says what it ought to, trusts no text, and stays small and fast."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdv_io import ArrayImage, FormatError, Tracks
from bdv_io.formats import open_image, read_tracks
from howdah.metrics import Matching, match_spots
from howdah.metrics.mistakes import KINDS, Mistakes, find_mistakes
from howdah.pipeline.error_gallery import EACH, shown_first
from howdah.pipeline.report import write_report
from howdah.pipeline.report_curves import Line, chart
from howdah.pipeline.report_page import escaped, number
from howdah.pipeline.report_panes import Panes, SpotsByFrame

VOID = {"meta", "br", "img", "link", "input", "hr"}
COUNTS = {
    "true_positives": 9,
    "false_positives": 1,
    "false_negatives": 2,
    "precision": 0.9,
    "recall": 0.818,
    "f1": 0.857,
}
FACTS: dict[str, Any] = {
    "result": "folder/found.mastodon",
    "truth": "folder/true.mastodon",
    "unit": "µm",
    "matched_within": 3.0,
    "median_error": 0.4,
    "sparse": False,
    "measures": [{"of": name, **COUNTS} for name in ("spots", "links", "divisions")],
    "divisions": [
        {"frame_tolerance": k, "by": "mother", "true_positives": k, "precision": 0.5, "recall": None, "f1": 0.25}
        for k in (0, 1, 2)
    ],
    "challenge": {"SEG": 0.71, "DET": 0.98, "TRA": 0.97, "BC(2)": 0.5, "CCA": None},
    "segmentation": {"SEG": 0.72, "IoU_of_pairs": 0.8, "cells_true": 12},
    "without_divisions": {"DET": 0.98, "TRA": 0.975},
    "corrections": {"AOGM": 17.5, "AOGM_FN": 1},
    "agreement": {"py-ctcmetrics 1.3": 1e-16},
    "matched_by": "centres of spots",
    "calibration": [
        {
            "of": "spots",
            "quality": "quality",
            "n": 15,
            "n_right": 9,
            "auc": 0.8,
            "ece": 0.1,
            "brier": None,
            "bins": [{"quality": q, "right": q**2, "n": 5} for q in (0.1, 0.5, 0.9)],
        }
    ],
    "distances": [{"distance": d, "precision": d / 3, "recall": d / 4} for d in (1.0, 2.0, 3.0)],
    "notes": ["Masks were not compared: the truth has none."],
}


class Structure(HTMLParser):
    """What a page is made of; a tag that is closed wrongly is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def movie(n: int = 6, *, deep: bool = False, seed: int = 0) -> Tracks:
    """Four cells in a row, the first of which divides halfway."""
    z = 10.0 if deep else 0.0
    spots, links, last = [], [], {}
    for t in range(n):
        for cell in range(4):
            parts = (-3.0, 3.0) if cell == 0 and t >= n // 2 else (0.0,)
            for part in parts:
                spots.append((t, (z, 20 + part, 10 + 12 * cell + 0.5 * t)))
                source = last.get((cell, part), last.get((cell, 0.0)))
                if source is not None:
                    links.append((source, len(spots) - 1))
                last[cell, part] = len(spots) - 1
    return Tracks.build([t for t, _ in spots], [place for _, place in spots], radius=4.0, links=links, space_unit="µm")


def wrong(truth: Tracks) -> Tracks:
    """The truth with every kind of error but masks: without three spots and one division, with two spots, a link and a division more."""
    keep = np.ones(truth.n_spots, dtype=bool)
    keep[[3, 10, 11]] = False
    left = truth.select(keep)
    mother = int(left.divisions()[0])
    left = left.select_links(left.links[:, 0] != mother)
    more = Tracks.build([1, 2], truth.centre[[0, 1]] + (0, 12, 3), radius=3.0, space_unit="µm")
    both = left.concatenate(more)
    first = np.flatnonzero(both.t == 0)[1]
    return both.with_links([(first, both.n_spots - 2), (mother, np.flatnonzero(both.t == both.t[mother] + 1)[-1])])


def pixels(n: int = 6, *, deep: bool = False) -> ArrayImage:
    noise = np.random.default_rng(0).integers(0, 900, (n, 8 if deep else 1, 48, 64)).astype(np.uint16)
    return ArrayImage(noise, voxel_size=(4.0, 1.0, 1.0), unit="µm")


def written(
    path: Path, truth: Tracks, found: Tracks, facts: Any = None, **options: Any
) -> tuple[str, Structure, Mistakes]:
    pairs = match_spots(truth, found, max_distance=3.0)
    overlap = np.full(truth.n_spots, 0.9)
    overlap[:2] = 0.2
    mistakes = find_mistakes(truth, found, pairs, overlap=overlap)
    said = FACTS if facts is None else facts
    out = write_report(path / "page.html", said, mistakes, result=found, truth=truth, matching=pairs, **options)
    text = out.read_text(encoding="utf-8")
    return text, Structure(text), mistakes


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Structure, Mistakes]:
    truth = movie()
    return written(tmp_path_factory.mktemp("report"), truth, wrong(truth), image=pixels())


def test_page_needs_nothing_else(flat: tuple[str, Structure, Mistakes]) -> None:
    text, page, _ = flat
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert re.match(r"#[\w-]+$|data:image/png;base64,", value or ""), value
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_page_is_well_formed_and_speaks_to_all(flat: tuple[str, Structure, Mistakes]) -> None:
    _, page, _ = flat
    names = [name for attributes in page.tags if (name := attributes[1].get("id"))]
    assert len(names) == len(set(names))
    used = {(a.get("href") or "")[1:] for tag in ("a", "use") for a in page.all(tag)}
    assert used <= set(names)
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    pictures = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(pictures) > 20
    assert all(a.get("aria-label") for a in pictures)
    assert len(page.all("caption")) == len(page.all("table")) > 6
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_page_says_what_was_measured(flat: tuple[str, Structure, Mistakes]) -> None:
    _, page, mistakes = flat
    assert set(mistakes.counts()) == set(KINDS)
    assert all(mistakes.counts().values())
    for word in (
        *(
            "found.mastodon",
            "true.mastodon",
            "0.857",
            "DET",
            "0.980",
            "BC",
            "Branching correctness",
            "0.9750",
            "IoU of pairs",
        ),
        *(
            "Masks were not compared: the truth has none.",
            "3.000 µm",
            "complete",
            "frame tolerance",
            "py-ctcmetrics 1.3",
            "Brier",
            "AOGM_FN",
        ),
        *(
            "Cells over time",
            "F1 of each frame",
            "Spots by distance",
            "Can qualities be trusted?",
            "Frames whose errors cost most",
        ),
    ):
        assert word in page.text, word
    for kind in KINDS:
        assert kind.replace(" ", "-") in [a.get("id") for a in page.all("h3")]
    assert len([a for a in page.all("figure") if a.get("class") == "card"]) == sum(
        min(EACH, count) for count in mistakes.counts().values()
    )


def test_divisions_stand_apart_at_every_tolerance(flat: tuple[str, Structure, Mistakes]) -> None:
    text, _, _ = flat
    table = text[text.index("Divisions, by how many frames") :]
    rows = re.findall(r'<th scope="row">(\d)</th><td>mother</td><td>(\d)</td>', table[: table.index("</table>")])
    assert rows == [("0", "0"), ("1", "1"), ("2", "2")]


def test_texts_are_no_markup(tmp_path: Path) -> None:
    bad = "\"><script>alert(1)</script><img src='x' onerror=alert(1)>\u202e\x00"
    truth = movie()
    facts = {
        **FACTS,
        "result": bad,
        "truth": bad,
        "unit": bad,
        "notes": [bad],
        "challenge": {bad: 0.5},
        "measures": [{"of": bad, "f1": 0.5}],
    }
    named = truth.relabelled([bad] * truth.n_spots)
    _, page, _ = written(tmp_path, named, wrong(named), facts)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert not [a for _, a in page.tags if "onerror" in a]
    assert "\u202e" not in page.text
    assert "alert(1)" in page.text


def test_no_image_no_error_no_measure(tmp_path: Path) -> None:
    truth = movie()
    pairs = match_spots(truth, truth, max_distance=1.0)
    none = find_mistakes(truth, truth, pairs)
    out = write_report(tmp_path / "page.html", {}, none, result=truth, truth=truth, matching=pairs)
    page = Structure(out.read_text(encoding="utf-8"))
    assert "No error was found." in page.text
    text, page, _ = written(tmp_path, truth, wrong(truth))
    assert "data:image" not in text.split("</style>")[1]
    assert len(page.all("ellipse")) > 50


def test_an_empty_result(tmp_path: Path) -> None:
    truth = movie()
    _, page, mistakes = written(tmp_path, truth, truth.select([]), image=pixels())
    assert f"Missed spots: {truth.n_spots}" in page.text
    assert mistakes.counts()["spot false"] == 0


def test_a_sparse_truth_calls_no_spot_false(tmp_path: Path) -> None:
    truth = movie()
    text, page, _ = written(tmp_path, truth, wrong(truth), {**FACTS, "sparse": True})
    assert '<th scope="row">spots</th><td>9</td><td>1</td><td>2</td><td>–</td><td>0.818</td><td>–</td>' in text
    assert "Spots, recall" in page.text
    assert "where it is silent nothing is wrong" in page.text
    assert "spots, recall: from" in text


def test_two_units_are_not_drawn_into_one_picture(tmp_path: Path) -> None:
    truth = movie()
    found = replace(truth, space_unit="pixel")
    rows = np.arange(10)
    pairs = Matching(rows, rows, np.full(10, np.nan), truth.n_spots, truth.n_spots)
    mistakes = find_mistakes(truth, found, pairs)
    out = write_report(tmp_path / "page.html", FACTS, mistakes, result=found, truth=truth, matching=pairs)
    page = Structure(out.read_text(encoding="utf-8"))
    assert "No pictures: the truth is in µm, the result in pixel." in page.text
    assert not page.all("figure")[4:]


def test_a_poor_mask_says_how_poor(flat: tuple[str, Structure, Mistakes]) -> None:
    text, _, _ = flat
    assert text.count("<dt>overlap (IoU)</dt><dd>0.20</dd>") == 2


def test_frames_without_an_image_are_said(tmp_path: Path) -> None:
    truth = movie()
    text, _, _ = written(tmp_path, truth, wrong(truth), image=pixels(2))
    assert text.count("no image of this frame") > 4


def test_a_damaged_block_costs_one_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Damaged(ArrayImage):
        def read(self, frame: int, *args: Any, **options: Any) -> Any:
            if frame == 2:
                raise FormatError("A chunk is broken.")
            return super().read(frame, *args, **options)

    truth = movie()
    noise = np.zeros((6, 1, 48, 64), np.uint8)
    text, _, _ = written(tmp_path, truth, wrong(truth), image=Damaged(noise, unit="µm"))
    assert "this frame cannot be read" in text
    assert "A chunk is broken." in caplog.text


def test_crops_only_are_read(tmp_path: Path) -> None:
    regions = []

    class Watched(ArrayImage):
        def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Any = None) -> Any:
            regions.append(np.prod([part.stop - part.start for part in region]))
            return super().read(frame, setup, level, region=region)

    truth = movie()
    image = Watched(np.zeros((6, 1, 600, 600), np.uint16), unit="µm")
    written(tmp_path, truth, wrong(truth), image=image)
    assert regions
    assert max(regions) < 100 * 100


def test_volumes_are_shown_in_two_slices(tmp_path: Path) -> None:
    truth = movie(deep=True)
    text, page, _ = written(tmp_path, truth, wrong(truth), image=pixels(deep=True))
    assert "xz slice" in page.text
    assert len(text) < 1_000_000


def test_many_errors_make_no_large_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 12_000
    truth = Tracks.build(rng.integers(0, 50, n), rng.uniform(0, 500, (n, 3)), radius=4.0, space_unit="µm")
    found = Tracks.build(rng.integers(0, 50, n), rng.uniform(0, 500, (n, 3)), radius=4.0, space_unit="µm")
    image = ArrayImage(rng.integers(0, 60_000, (2, 20, 500, 500)).astype(np.uint16), unit="µm")
    begun = time.perf_counter()
    text, page, mistakes = written(tmp_path, truth, found, image=image)
    assert time.perf_counter() - begun < 20
    assert len(mistakes) > 20_000
    assert len(text) < 5_000_000
    assert len([a for a in page.all("figure") if a.get("class") == "card"]) <= EACH * len(KINDS)


def test_the_worst_are_shown_spread_over_time() -> None:
    n = 600
    severity = np.where(np.arange(n) < 100, 1.0, 0.2)
    frame = np.where(np.arange(n) < 90, 0, np.arange(n))
    none = np.full(n, -1)
    mistakes = Mistakes(np.zeros(n, np.int64), frame, np.zeros((n, 3)), none, none, severity)
    chosen = shown_first(mistakes)
    assert len(chosen) == EACH
    assert (chosen.severity == 1).all()
    assert Counter(chosen.frame.tolist())[0] == 1
    assert len(shown_first(mistakes.take([3, 4]))) == 2


def test_a_slice_shows_the_section_of_a_ball() -> None:
    ball = Tracks.build([0], [(10.0, 24.0, 32.0)], radius=5.0)
    image = ArrayImage(np.zeros((1, 20, 64, 64), np.uint8))
    panes = Panes(image, 0, flat=False)
    drawn = panes.cut(0, np.array([13.0, 24.0, 32.0]), 10.0).outlines(ball, np.array([0]), "t")
    assert re.findall(r'[cr][xy]="([\d.]+)"', drawn) == ["50.0", "50.0", "20.0", "20.0"]  # √(5² − 3²) of 10 is 20 of 50
    beyond = panes.cut(0, np.array([17.0, 24.0, 32.0]), 10.0)
    assert beyond.outlines(ball, np.array([0]), "t") == ""
    assert "away" in beyond.outlines(ball, np.array([0]), "t", always=True)
    assert not len(beyond.near(SpotsByFrame(ball))) or beyond.near(SpotsByFrame(ball)).tolist() == [0]


def test_a_tilted_ellipsoid_is_cut_where_it_is() -> None:
    covariance = np.array([[[9.0, 0.0, 6.0], [0.0, 4.0, 0.0], [6.0, 0.0, 8.0]]])
    tilted = Tracks.build([0], [(10.0, 24.0, 32.0)], covariance=covariance)
    panes = Panes(ArrayImage(np.zeros((1, 20, 64, 64), np.uint8)), 0, flat=False)
    drawn = panes.cut(0, np.array([11.0, 24.0, 32.0]), 10.0).outlines(tilted, np.array([0]), "t")
    x, y, long, short = (float(v) for v in re.findall(r'[cr][xy]="([\d.]+)"', drawn))
    # by hand: x moves by 6/9 a unit of z; the section shrinks by 1 − 1/9, and its covariance in x is 8 − 36/9
    np.testing.assert_allclose((x, y), (50 + 5 * 6 / 9, 50), atol=0.05)
    np.testing.assert_allclose((long, short), (10 * np.sqrt(8 / 9), 10 * np.sqrt(8 / 9)), atol=0.06)


def test_a_crop_at_the_border_stays_in_the_image() -> None:
    panes = Panes(ArrayImage(np.zeros((1, 1, 64, 64), np.uint8)), 0, flat=True)
    pane = panes.cut(0, np.array([0.0, 1.0, 62.0]), 10.0)
    down, right = pane.places(np.array([[0.0, 1.0, 62.0]]))[0]
    assert 15 < down < 50 < right < 85


def test_curves_are_thinned_and_keep_their_gaps() -> None:
    x = np.arange(5000.0)
    y = np.where((x > 2000) & (x < 3000), np.nan, 0.5)
    drawn = chart("A", "B", [Line("one", x, y, 0)], axes=("x", "y"))
    path = re.findall(r'class="line c0 k0" d="(M\d[^"]*)"', drawn)[-1]
    assert path.count("M") == 2
    assert path.count("L") < 300
    assert chart("A", "B", [Line("one", x, np.full(5000, np.nan), 0)], axes=("x", "y")) == ""


def test_numbers_are_those_of_people() -> None:
    assert [number(v) for v in (None, float("nan"), 0.98765, 12345, True, 1234.5)] == [
        *("–", "–", "0.988", "12\u202f345", "yes", "1\u202f234")
    ]
    assert escaped("a" * 999).endswith("…")


def test_points_without_a_size_are_drawn(tmp_path: Path) -> None:
    truth = movie()
    points = replace(truth, covariance=np.zeros_like(truth.covariance))
    odd = replace(wrong(truth), covariance=np.full((wrong(truth).n_spots, 3, 3), np.nan))
    text, _, _ = written(tmp_path, points, odd)
    assert "nan" not in text.replace("finance", "").lower().split("<main>")[1]
    written(tmp_path, points, odd, image=pixels())


@pytest.mark.real
def test_a_real_volume(real_data: Path, tmp_path: Path) -> None:
    truth = read_tracks(real_data / "tgmm-3d" / "tgmm-mini.mastodon")
    found = truth.select(np.arange(truth.n_spots) % 20 > 0)
    image = open_image(real_data / "tgmm-3d" / "datasethdf5.xml")
    text, page, _ = written(tmp_path, truth, found, image=image)
    image.close()
    assert len(text) < 1_000_000
    assert text.count("data:image/png") > 20
    assert "29 × 101 × 151 voxels" in page.text
