"""The measures of the Cell Tracking Challenge of two sides that are matched: values, what is not defined, and who agrees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from howdah.errors import ConfigError
from howdah.metrics.biology import (
    branching,
    branching_correctness,
    cell_cycle_accuracy,
    chota,
    complete_tracks,
    track_fractions,
)
from howdah.metrics.challenge import corrections
from howdah.metrics.challenge_cells import Cover
from howdah.metrics.challenge_library import (
    CTC_METRICS,
    TRACCURACY,
    affordable,
    by_ctc_metrics,
    by_traccuracy,
    library_versions,
)
from howdah.pipeline.evaluation_matching import Found
from howdah.pipeline.evaluation_sides import Side

__all__ = ["TOLERANCES", "challenge_facts", "chosen_measures"]

Values = dict[str, float | None]

TOLERANCES = (0, 1, 2, 3)
EACH = tuple(f"({i})" for i in TOLERANCES)
NAMES = (
    "SEG",
    "DET",
    "TRA",
    "LNK",
    "OP_CSB",
    "OP_CTB",
    *(f"OP_CLB{i}" for i in EACH),
    "CT",
    "TF",
    *(f"BC{i}" for i in EACH),
    "CCA",
    *(f"BIO{i}" for i in EACH),
    "CHOTA",
)
LINKED = ("TRA", "LNK", "CT", "TF", "CCA", "CHOTA", *(f"BC{i}" for i in EACH))
SAME = 1e-6  # values of two programs that differ by more are told


def chosen_measures(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the challenge's measures that a user named, ``BC`` standing for all BC(i); all where none is named.

    Raises:
        ConfigError: There is no such measure.
    """
    if not names:
        return NAMES
    upper = [name.strip().upper() for name in names]
    short = {name.split("(")[0] for name in NAMES}
    wrong = [name for name in upper if name not in NAMES and name not in short]
    if wrong:
        raise ConfigError(
            f"There is no measure '{wrong[0]}'. The measures of the challenge are {', '.join(NAMES)}; 'BC' alone stands for all BC(i)."
        )
    return tuple(name for name in NAMES if name in upper or name.split("(")[0] in upper)


def challenge_facts(
    true: Side, found: Side, matched: Found, *, sparse: bool, check: bool, wanted: tuple[str, ...], notes: list[str]
) -> dict[str, Any]:
    """Compute the measures.

    Args:
        true: The truth.
        found: The result.
        matched: Who covers whom.
        sparse: The truth is not complete: all but SEG are not defined.
        check: Ask traccuracy, too.
        wanted: Names, of :func:`chosen_measures`.
        notes: Sentences are added to it.

    Returns:
        ``challenge`` (value or None by name), ``corrections`` (the operations behind DET and TRA), ``without_divisions`` (DET, TRA and LNK
        if the result had none), ``agreement`` (largest difference to the libraries, by name and version).
    """
    cover = matched.cover
    values: Values = dict.fromkeys(NAMES)
    values["SEG"] = _seg(matched, notes)
    why = _impossible(true, found, sparse=sparse)
    if why:
        notes += [*why, *([] if sparse else ["So the measures of the challenge, but SEG, are not defined."])]
        return {"challenge": {name: values[name] for name in wanted}}
    if merges := true.merges + found.merges:
        notes.append(
            f"The challenge knows no merging: of {merges} spots with several parents the first parent counts there."
        )
    notes += [
        f"{sentence} Its measures are computed as it stands." for sentence in true.cells.problems("The truth")[:3]
    ]
    facts: dict[str, Any] = {}
    own = _own(cover)
    facts["agreement"] = _agreement(cover, own, check=check, notes=notes)
    values |= own
    if not len(cover.truth.edges.source):
        values |= dict.fromkeys(LINKED)
        notes.append("The truth has no links, so that of the challenge's measures only DET and SEG are defined.")
    facts["without_divisions"] = _without_divisions(cover, values, notes)
    _combine(values)
    _undefined(values, cover, notes)
    fixes = corrections(cover).to_dict()
    return {"challenge": {name: values[name] for name in wanted}, "corrections": fixes, **facts}


def _seg(matched: Found, notes: list[str]) -> float | None:
    if matched.masks is None:
        notes.append("SEG is not defined: the truth or the result has no masks (markers in TRA are none).")
        return None
    if not matched.masks.n_true:
        notes.append("SEG is not defined: the masks of the truth hold no cell.")
        return None
    return matched.masks.jaccard / matched.masks.n_true


def _impossible(true: Side, found: Side, *, sparse: bool) -> list[str]:
    """Why the challenge's measures are not defined."""
    if sparse:
        return [
            "The measures of the challenge, but SEG, are left out: they take what the truth lacks for wrong, and the truth is sparse."
        ]
    if found.with_table and true.with_table and found.folder is not None and true.folder is not None:
        absent = sorted(true.folder.masks.keys() ^ found.folder.masks.keys())
        if absent:
            who = "the result has no mask" if absent[0] in true.folder.masks else "the truth has no mask"
            return [
                f"The measures of the challenge are not defined: {who} of frame {absent[0]} ({len(absent)} frames in all), and the "
                "official program wants as many masks of both."
            ]
    return found.cells.problems() if found.with_table else ([] if len(found.cells) else found.cells.problems())


def _own(cover: Cover) -> Values:
    fixes = corrections(cover)
    values: Values = {
        "DET": fixes.det,
        "TRA": fixes.tra,
        "LNK": fixes.lnk,
        "CT": complete_tracks(cover),
        "TF": track_fractions(cover),
        "CCA": cell_cycle_accuracy(cover.truth, cover.found),
        "CHOTA": chota(cover),
    }
    for i in TOLERANCES:
        values[f"BC({i})"] = branching_correctness(branching(cover, frame_tolerance=i))
    return values


def _agreement(cover: Cover, own: Values, *, check: bool, notes: list[str]) -> dict[str, float]:
    """Ask the libraries; py-ctcmetrics' value is the one that is reported."""
    agreement: dict[str, float] = {}
    installed = library_versions()
    if CTC_METRICS not in installed:
        notes.append(
            "py-ctcmetrics is not installed: the values are Howdah's own. Install it with: pip install 'howdah[eval]'"
        )
    elif not affordable(cover):
        notes.append(
            "The movie is too large for py-ctcmetrics: the values are Howdah's own, counted by the same rules."
        )
    else:
        theirs, failed = by_ctc_metrics(cover)
        notes += failed
        if theirs:
            agreement[f"{CTC_METRICS} {installed[CTC_METRICS]}"] = _compare(CTC_METRICS, own, theirs, notes)
            own |= {name: value for name, value in theirs.items() if own.get(name) is not None}
    if check and not affordable(cover):
        notes.append("The movie is too large for traccuracy.")
    elif check and len(cover.found):
        theirs = by_traccuracy(cover)
        names: tuple[str, ...] = ("DET", "TRA", "LNK")
        if (cover.number > 2).any():
            names = ("LNK",)
            notes.append(
                "traccuracy was asked about LNK only: it counts one operation where a cell of the result covers three true ones."
            )
        theirs = {name: theirs[name] for name in names if name in theirs}
        agreement[f"{TRACCURACY} {installed[TRACCURACY]}"] = _compare(TRACCURACY, own, theirs, notes)
    return agreement


def _compare(who: str, own: Values, theirs: Mapping[str, float], notes: list[str]) -> float:
    """Return the largest difference, and say where there is one."""
    both = {
        name: abs(value - mine)
        for name, mine in own.items()
        if mine is not None and (value := theirs.get(name)) is not None
    }
    off = [name for name, difference in both.items() if difference > SAME]
    if off:
        shown = ", ".join(f"{name} {own[name]:.6f} and {theirs[name]:.6f}" for name in off)
        notes.append(f"Howdah and {who} do not agree: {shown}. Please report it.")
    return max(both.values(), default=0.0)


def _without_divisions(cover: Cover, values: Values, notes: list[str]) -> dict[str, float | None]:
    """What the result would score if somebody took out its divisions."""
    fixes = corrections(cover, found=cover.found.undivided())
    if values["TRA"] is None or fixes.tra is None:
        return {}
    if fixes.tra > values["TRA"] + 1e-12:
        notes.append(
            f"TRA would be {fixes.tra:.4f} instead of {values['TRA']:.4f} without the divisions of the result, for it weighs a wrong link "
            "more than a missed division is worth. Look at the divisions by themselves."
        )
    return {"DET": fixes.det, "TRA": fixes.tra, "LNK": fixes.lnk}


def _combine(values: Values) -> None:
    """Fill in the measures that are means of others."""
    for name, parts in (("OP_CSB", ("SEG", "DET")), ("OP_CTB", ("SEG", "TRA"))):
        values[name] = _mean([values[part] for part in parts], all_of_them=True)
    for i in EACH:
        biology = [values["CT"], values["TF"], values[f"BC{i}"], values["CCA"]]
        values[f"BIO{i}"] = _mean(biology, all_of_them=False)
        values[f"OP_CLB{i}"] = _mean([values["LNK"], values[f"BIO{i}"]], all_of_them=True)


def _mean(parts: list[float | None], *, all_of_them: bool) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) / len(known) if known and (len(known) == len(parts) or not all_of_them) else None


def _undefined(values: Values, cover: Cover, notes: list[str]) -> None:
    if values["TRA"] is None:
        return
    if values["BC(0)"] is None:
        notes.append(
            "BC(i) is not defined: the truth has no division. BIO(i) is the mean of the others, as in the challenge."
        )
    if values["CCA"] is None:
        notes.append("CCA is not defined: no true cell lives from a division to the next.")
