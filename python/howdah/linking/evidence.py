"""What a feature of the spots says of divisions, as log-odds.

A classifier gives each spot the probability p that it divides before the next frame. What counts is how much likelier that is
than for any spot: the evidence is logit(p) - logit(prior), where the prior is the mean of all p, which of calibrated
probabilities is the share of spots that divide. It is bounded, because no classifier is ever sure, and 0 where p is not known. The bound
against is tighter: a classifier that has learned from few mothers does not know all that a mother can look like.

A division costs ``division_weight`` less for each unit of it, and daughters of a likely mother may lie farther away. Neither the
cost of the midpoint nor that of a single link depends on it: where a daughter was not found, the mother goes on with one link.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bdv_io.tags import Feature
from bdv_io.tracks import Tracks
from howdah.errors import DataError

F64 = npt.NDArray[np.float64]

__all__ = ["MOST_AGAINST", "MOST_EVIDENCE", "division_evidence", "farther", "plain_name"]

MOST_EVIDENCE, MOST_AGAINST = 5.0, 1.5
PRIOR = (1e-4, 0.5)
NEVER = 1e-6


def division_evidence(tracks: Tracks, name: str) -> F64:
    """Return the (N,) log-odds that each spot divides before the next frame, against the prior; 0 where nothing is known.

    Args:
        tracks: Spots with their features.
        name: The feature, values 0 to 1: its name, or ``name: projection`` where it has several; empty for none.

    Raises:
        DataError: There is no such spot feature, or a value is no probability.
    """
    if not name:
        return np.zeros(tracks.n_spots)
    feature = _named(tracks, name)
    values = np.asarray(feature.values, dtype=np.float64)
    known = np.isfinite(values) if feature.defined is None else np.isfinite(values) & feature.defined
    wrong = np.flatnonzero(known & ((values < 0) | (values > 1)))
    if len(wrong):
        raise DataError(
            f"Linking with the division feature '{name}' failed: spot {tracks.id[wrong[0]]} has the value {values[wrong[0]]:.6g}, "
            f"and {len(wrong)} of {tracks.n_spots} are no probabilities. Name a feature with values from 0 to 1."
        )
    if not known.any():
        return np.zeros(tracks.n_spots)
    prior = float(np.clip(values[known].mean(), *PRIOR))
    evidence = np.clip(_logit(np.where(known, values, prior)) - _logit(prior), -MOST_AGAINST, MOST_EVIDENCE)
    found: F64 = np.where(known, evidence, 0.0)
    return found


def farther(evidence: F64) -> F64:
    """Return (P,) how many times ``division_distance`` the daughters of each mother may be away: 1, up to 2 with full evidence."""
    found: F64 = 1 + np.clip(evidence / MOST_EVIDENCE, 0.0, 1.0)
    return found


def _logit(probability: npt.ArrayLike) -> F64:
    bounded = np.clip(probability, NEVER, 1 - NEVER)
    found: F64 = np.log(bounded) - np.log1p(-bounded)
    return found


def _named(tracks: Tracks, name: str) -> Feature:
    """The spot feature of this name: an exact one, else one that only spaces and signs tell from it.

    TrackMate has no spaces in names, and Mastodon keeps what it does not know as a projection of one of its own features.
    """
    spots = [feature for feature in tracks.features if feature.target == "spot"]
    ways: tuple[Callable[[Feature], bool], ...] = (
        lambda f: f.name == name and not f.projection,
        lambda f: f"{f.name}: {f.projection}" == name,
        lambda f: plain_name(f"{f.name} {f.projection}") == plain_name(name),
        lambda f: plain_name(f.projection) == plain_name(name),
    )
    found = next((feature for way in ways for feature in spots if way(feature)), None)
    if found is not None:
        return found
    there = ", ".join(f"'{f.name}: {f.projection}'" if f.projection else f"'{f.name}'" for f in spots)
    raise DataError(
        f"Linking with the division feature '{name}' failed: the spots have no feature of this name. They have: "
        f"{there or 'none'}. Name one of them, or give the classifier that computes it: --divisions FILE."
    )


def plain_name(name: str) -> str:
    """Return a name as far as every format keeps it: TrackMate has no spaces, and other programs other cases."""
    return re.sub(r"[\W_]+", "_", name).strip("_").casefold()
