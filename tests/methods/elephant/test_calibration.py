import numpy as np
import pytest
from scipy.special import expit

from howdah.errors import DataError, WeightsError
from howdah.methods.elephant.calibration import DEFAULT, FEATURES, Calibration, features, reliability


def judged(n, weights, seed=0):
    rng = np.random.default_rng(seed)
    seen = features(rng.uniform(0.5, 0.99, n), rng.uniform(0.6, 1, n), rng.lognormal(0, 0.3, n), usual=1.0)
    return seen, rng.random(n) < expit(seen @ np.array(weights))


def test_features_are_odds_and_relative_size():
    seen = features(np.array([0.5]), np.array([0.9]), np.array([np.e]), usual=1.0)
    assert seen[0] == pytest.approx([1, 0, np.log(9), 1, 1])
    assert features(np.array([0.5]), np.array([1.0]), np.array([5.0]), usual=None)[0, 3:].tolist() == [0, 0]
    assert np.isfinite(features(np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.array([1e9, 1e-9]), usual=1.0)).all()


def test_much_judgement_finds_the_truth():
    truth = (-1.0, 1.5, 0.3, -0.5, -2.0)
    seen, right = judged(20_000, truth)
    quality = DEFAULT.refined(seen, right).quality(seen)
    assert np.abs(quality - expit(seen @ np.array(truth))).mean() < 0.02
    assert reliability(quality, right)["ece"] < 0.02


def test_little_judgement_stays_near_the_prior():
    seen, _ = judged(3, (0.0,) * 5)
    after = DEFAULT.refined(seen, np.array([True, True, True])).quality(seen)
    assert (after >= DEFAULT.quality(seen) - 1e-9).all()
    assert (after < 1).all()
    many, _ = judged(100, (0.0,) * 5)
    refined = DEFAULT.refined(many, np.ones(100, bool))
    assert (refined.quality(many) > DEFAULT.quality(many)).mean() > 0.9


def test_order_does_not_matter():
    seen, right = judged(50, (0.0, 1, 0, 0, 0))
    one = DEFAULT.refined(seen, right).weights
    assert DEFAULT.refined(seen[::-1], right[::-1]).weights == pytest.approx(one, rel=1e-6)


def test_a_header_keeps_it():
    kept = Calibration((0.5, -1.0, 2.0, 0.0, 1.0), 12)
    assert Calibration.from_header({"calibration": kept.to_header()}) == kept
    assert Calibration.from_header({}) is None


@pytest.mark.parametrize(
    "entry", [3, {}, {"weights": [1, 2]}, {"features": list(FEATURES), "weights": [1, 2, 3, 4, "5"]}, {"weights": None}]
)
def test_a_damaged_header_is_a_sentence(entry):
    with pytest.raises(WeightsError, match="'calibration' shall hold 5 numbers"):
        Calibration.from_header({"calibration": entry})


def test_no_judgement_is_a_sentence():
    with pytest.raises(DataError, match="no detection was judged"):
        DEFAULT.refined(np.empty((0, 5)), np.empty(0, bool))


def test_reliability_counts():
    curve = reliability(np.array([0.05, 0.15, 0.95, 1.0]), np.array([False, True, True, True]))
    assert [(b["n"], b["share"]) for b in curve["bins"]] == [(1, 0), (1, 1), (2, 1)]
    assert curve["ece"] == pytest.approx((0.05 + 0.85 + 2 * 0.025) / 4)
    assert curve["brier"] == pytest.approx((0.05**2 + 0.85**2 + 0.05**2) / 4)
    assert np.isnan(reliability(np.empty(0), np.empty(0, bool))["ece"])
