"""A feature that says which spots divide: what it changes, and that nothing changes without it."""

from __future__ import annotations

import numpy as np
import pytest
from linking.drawn import movie, pairs

from bdv_io.tags import Feature
from bdv_io.tracks import Tracks
from howdah.errors import ConfigError, DataError
from howdah.linking import LinkingConfig, link_spots
from howdah.linking.evidence import MOST_AGAINST, MOST_EVIDENCE, division_evidence, farther

WITH = LinkingConfig(max_distance=5, division_feature="TAP division")
SOLVERS = ["pairwise", "global"]


def told(tracks: Tracks, *, name="TAP division", projection="", rest=0.02, defined=None, **likely: float) -> Tracks:
    """The movie with a probability for the spots that are named, and ``rest`` for all others."""
    values = [likely.get(str(label), rest) for label in tracks.label]
    return tracks.with_feature(Feature(name, projection, np.array(values, dtype=np.float64), defined=defined))


def crowd(seed: int) -> Tracks:
    rng = np.random.default_rng(seed)
    return Tracks.build(np.repeat(np.arange(5), 30), rng.uniform(0, 20, (150, 3)), radius=rng.uniform(0.5, 2, 150))


class TestWithoutItNothingChanges:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("values", [np.full(150, 0.3), np.full(150, np.nan)], ids=["all alike", "unknown"])
    def test_bit_for_bit(self, solver, values):
        for seed in range(3):
            before, config = crowd(seed), LinkingConfig(solver=solver, frame_gap=2)
            once = link_spots(before, config)
            told_all = before.with_feature(Feature("p", "", values))
            again = link_spots(told_all, config.but(division_feature="p"))
            assert np.array_equal(once.links, again.links)
            assert np.array_equal(once.features[-1].values, again.features[-1].values)

    def test_weight_0(self):
        tracks = crowd(3)
        values = np.random.default_rng(0).uniform(size=tracks.n_spots)
        known = tracks.with_feature(Feature("p", "", values))
        config = WITH.but(division_feature="p", division_weight=0.0, division_distance=1e-3)
        assert np.array_equal(link_spots(known, config).links, link_spots(known, config.but(division_feature="")).links)


@pytest.mark.parametrize("solver", SOLVERS)
class TestWhatItChanges:
    def test_a_likely_mother_divides_where_it_would_go_on(self, solver):
        frames = ("...a....", "...A...B")
        config = WITH.but(solver=solver)
        assert pairs(link_spots(told(movie(*frames)), config)) == {"aA"}
        assert pairs(link_spots(told(movie(*frames), a=0.9), config)) == {"aA", "aB"}

    def test_an_unlikely_mother_goes_on_where_it_would_divide(self, solver):
        # c and its like divide, so a is less likely than most
        frames = ("...a...................c...", "..A...B...............C...D")
        config = WITH.but(solver=solver)
        assert len(link_spots(movie(*frames), config.but(division_feature="")).divisions()) == 2
        got = link_spots(told(movie(*frames), rest=0.5, a=1e-5, c=0.99), config)
        assert got.label[got.divisions()].tolist() == ["c"]

    def test_a_likely_mother_reaches_farther(self, solver):
        frames = (".......a.......", "A.............B")
        config = WITH.but(solver=solver)
        assert link_spots(told(movie(*frames)), config).n_links == 0
        assert pairs(link_spots(told(movie(*frames), a=0.99), config)) == {"aA", "aB"}

    def test_a_likely_mother_without_a_second_daughter_takes_none_from_its_neighbour(self, solver):
        frames = ("...a.....b", "..A......B")
        assert pairs(link_spots(told(movie(*frames), a=0.99), WITH.but(solver=solver))) == {"aA", "bB"}

    def test_a_link_that_a_person_made_is_the_first_of_two(self, solver):
        frames = ("...a....", "...A...B")
        config = WITH.but(solver=solver)
        assert pairs(link_spots(told(movie(*frames, links=["aA"]), a=0.9), config)) == {"aA", "aB"}
        assert pairs(link_spots(told(movie(*frames, links=["aA"]), a=1e-4, rest=0.2), config)) == {"aA"}


class TestEvidence:
    def test_is_log_odds_against_the_mean(self):
        found = division_evidence(told(movie("abcd"), a=0.5, b=0.1, c=0.1, d=0.1), "TAP division")
        prior = np.log(0.2 / 0.8)
        assert found == pytest.approx([-prior, *[np.log(1 / 9) - prior] * 3])

    def test_is_bounded(self):
        found = division_evidence(told(movie("a" + "bcdefghijk"), rest=0.0, a=1.0), "TAP division")
        assert found[0] == MOST_EVIDENCE
        assert found[1] == -MOST_AGAINST
        assert farther(found).max() == 2.0
        assert farther(found).min() == 1.0

    def test_what_is_not_known_or_not_defined_says_nothing(self):
        known = np.array([True, True, False])
        tracks = told(movie("abc"), a=float("nan"), b=0.3, c=7.0, defined=known)
        assert division_evidence(tracks, "TAP division").tolist() == [0.0, 0.0, 0.0]

    @pytest.mark.parametrize(
        ("name", "projection"),
        [("TAP division", ""), ("TAP_division", ""), ("TrackMate Spot features", "TAP division"), ("TAP", "division")],
    )
    def test_it_is_found_under_the_names_that_the_formats_give_it(self, name, projection):
        tracks = told(movie("ab"), name=name, projection=projection, a=0.9)
        assert division_evidence(tracks, "TAP division")[0] > 0

    def test_a_projection_is_named_where_there_are_several(self):
        tracks = told(told(movie("ab"), name="TAP", projection="division", a=0.9), name="TAP", projection="death")
        assert division_evidence(tracks, "TAP: division")[0] > 0
        with pytest.raises(DataError, match=r"no feature of this name.*'TAP: division', 'TAP: death'"):
            division_evidence(tracks, "TAP")

    def test_features_of_links_do_not_count(self):
        tracks = movie("a", "A", links=["aA"]).with_feature(Feature("p", "", np.zeros(1), target="link"))
        with pytest.raises(DataError, match=r"no feature of this name.*They have: none"):
            division_evidence(tracks, "p")

    def test_values_that_are_no_probabilities(self):
        with pytest.raises(DataError, match=r"spot 0 has the value 3, and 1 of 2 are no probabilities"):
            division_evidence(told(movie("ab"), a=3.0), "TAP division")


class TestSettings:
    def test_the_rules_of_the_paper_have_no_place_for_it(self):
        with pytest.raises(ConfigError, match="nearest follows the paper's rules"):
            LinkingConfig.of({"solver": "nearest", "division_feature": "p"})

    def test_no_divisions_no_feature(self):
        with pytest.raises(ConfigError, match="forbids divisions"):
            LinkingConfig.of({"max_children": 1, "division_feature": "p"})


def test_the_quality_of_a_division_follows_the_evidence():
    frames = ("...a....", "..A...B.")
    config = WITH.but(division_penalty=0.5)
    low, high = (link_spots(told(movie(*frames), a=p), config) for p in (0.02, 0.5))
    assert pairs(low) == pairs(high) == {"aA", "aB"}
    assert (high.features[-1].values > low.features[-1].values).all()
