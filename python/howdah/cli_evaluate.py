"""The verb ``howdah evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import grouped, with_movie
from howdah.cli_options import Json
from howdah.cli_show import run_verb
from howdah.pipeline.evaluation import Judging, listed
from howdah.pipeline.evaluation import evaluate as compare
from howdah.progress import Steps

__all__ = ["add_to", "in_short"]


class Match(StrEnum):
    """How cells are matched for the measures of the challenge."""

    AUTO = "auto"
    MASKS = "masks"
    CENTRES = "centres"


FILES: dict[str, tuple[Any, Any]] = {
    "out": (
        Annotated[
            Path | None,
            typer.Option("--out", "-o", metavar="FILE", help="Write the measures: .csv, or .json with everything."),
        ],
        None,
    ),
    "report": (
        Annotated[
            Path | None,
            typer.Option("--report", metavar="FILE.html", help="Write a page with tables, curves, the worst mistakes."),
        ],
        None,
    ),
    "tagged": (
        Annotated[
            Path | None,
            typer.Option("--tagged", metavar="FILE", help="Write the result with its mistakes as tags and features."),
        ],
        None,
    ),
}
JUDGING: dict[str, tuple[Any, Any]] = {
    "reach": (
        Annotated[
            float | None,
            typer.Option(
                "--reach", metavar="LENGTH", help="How far a spot may be off (default: the median true radius)."
            ),
        ],
        None,
    ),
    "frame_tolerance": (
        Annotated[
            int,
            typer.Option("--frame-tolerance", metavar="N", help="Frames that a division may be early or late.", min=0),
        ],
        0,
    ),
    "sparse": (
        Annotated[
            bool, typer.Option("--sparse", help="The truth holds some cells only; where it is silent nothing is wrong.")
        ],
        False,
    ),
    "measures": (
        Annotated[
            str | None,
            typer.Option("--measures", metavar="NAMES", help="Of the challenge's measures these: SEG,TRA,BC."),
        ],
        None,
    ),
    "quality": (
        Annotated[
            str | None,
            typer.Option("--quality", metavar="NAMES", help="Features of spots or links to test as qualities, too."),
        ],
        None,
    ),
    "match": (
        Annotated[
            Match, typer.Option("--match", help="Match cells by masks where one side has some (auto), or always so.")
        ],
        Match.AUTO,
    ),
    "check": (
        Annotated[bool, typer.Option("--check", help="Ask traccuracy, too, whether it gets the same numbers.")],
        False,
    ),
}


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(evaluate)


@with_movie()
@grouped("judging", JUDGING)
@grouped("files", FILES)
def evaluate(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="What is judged: an annotation, a label image, a folder 01_RES.")
    ],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="The truth: the same, or a folder 01_GT.")],
    movie: dict[str, Any],
    judging: dict[str, Any],
    files: dict[str, Any],
    json: Json = False,
) -> None:
    """Compare a result with the truth: spots, links, divisions, masks, and the measures of the Cell Tracking Challenge."""
    names = {name: listed(judging[name]) for name in ("measures", "quality")}
    how = Judging(**{**judging, **names, "match": judging["match"].value}, hints=movie["hints"])

    def steps() -> Steps[Mapping[str, Any]]:
        facts = yield from compare(result, truth, how, **files)
        return facts if json else in_short(facts)

    run_verb(steps, as_json=json)


def in_short(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what fits on a screen: the rest is in the files."""
    shown: dict[str, Any] = {key: facts[key] for key in ("out", "report", "tagged") if key in facts}
    shown["matched by"] = facts["matched_by"]
    known = {name: value for name, value in facts["challenge"].items() if value is not None}
    alike = _alike(known)
    if alike:
        shown["challenge"] = {name: round(value, 4) for name, value in alike.items()}
    if "segmentation" in facts:
        shown["masks"] = {name: value for name, value in facts["segmentation"].items() if value is not None}
    if "matched_within" in facts:
        shown["reach"] = f"{facts['matched_within']:.4g} {facts['unit']}"
        shown["median error"] = facts["median_error"]
    wrong = {kind: n for kind, n in facts["mistakes"].items() if n}
    shown["mistakes"] = wrong or "none"
    if facts.get("agreement"):
        shown["differs from"] = {name: float(f"{most:.1g}") for name, most in facts["agreement"].items()}
    if facts["notes"]:
        shown["notes"] = facts["notes"]
    rows = [*facts.get("measures", ())]
    for row in facts.get("divisions", ()):
        late = row["frame_tolerance"]
        rows.append(
            {
                "of": f"divisions ±{late}, {row['by']}",
                **{key: row[key] for key in row if key not in ("frame_tolerance", "by")},
            }
        )
    if rows:
        names = {"of": "of", "precision": "precision", "recall": "recall", "f1": "F1", "true_positives": "right"}
        names |= {"false_positives": "false", "false_negatives": "missed", "unknown": "unknown"}
        unknown = any(row["unknown"] for row in rows)
        shown["measures"] = [
            {name: row[key] for key, name in names.items() if key != "unknown" or unknown} for row in rows
        ]
    if facts["calibration"]:
        shown["calibration"] = [
            {key: row[key] for key in ("of", "quality", "n", "ece", "brier", "auc")} for row in facts["calibration"]
        ]
    return shown


def _alike(values: Mapping[str, float]) -> dict[str, float]:
    """Say measures that are the same for every tolerance once, as BC(0-3)."""
    shown: dict[str, float] = {}
    groups: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        groups.setdefault(name.split("(")[0], {})[name] = value
    for short, group in groups.items():
        if len(group) > 1 and len(set(group.values())) == 1:
            shown[f"{short}(0-{len(group) - 1})"] = next(iter(group.values()))
        else:
            shown |= group
    return shown
