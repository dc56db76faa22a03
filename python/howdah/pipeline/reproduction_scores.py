"""Scores of the Cell Tracking Challenge, by py-ctcmetrics."""

from __future__ import annotations

from pathlib import Path

from howdah.errors import MissingExtraError

__all__ = ["challenge_scores"]


def challenge_scores(result: Path, truth: Path) -> dict[str, float]:
    """Compute DET, TRA and, where there are masks to compare with, SEG of a result folder, to four digits.

    Raises:
        MissingExtraError: py-ctcmetrics is not installed.
    """
    try:
        from ctc_metrics import evaluate_sequence
    except ModuleNotFoundError:
        raise MissingExtraError(
            "Scoring needs py-ctcmetrics, which is not installed. Install it with: pip install 'howdah[eval]'"
        ) from None
    wanted = ["DET", "TRA", *(["SEG"] if (truth / "SEG").is_dir() else [])]
    found = evaluate_sequence(str(result), str(truth), metrics=wanted, threads=1)
    return {name: round(float(found[name]), 4) for name in wanted if found.get(name) is not None}
