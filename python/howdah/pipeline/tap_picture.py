"""Pictures of TAP: how a training goes, where the network sees the arrow of time, and how good a classifier is."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.safe_write import replacing
from howdah.metrics.classification import Curve

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]

__all__ = ["Panel", "draw_attribution", "draw_curves", "draw_precision_recall"]

TRAINING, HELD_OUT, INK = "#7570b3", "#1b9e77", "#333333"
COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
CURVES = (
    ("cross-entropy", "loss", "validation"),
    ("share of right orders", "accuracy", "validation_accuracy"),
    ("decorrelation", "decorrelation", "validation_decorrelation"),
    ("step size", "rate", ""),
)
COIN = {"cross-entropy": np.log(2), "share of right orders": 0.5}  # what tossing a coin reaches, of two frames


class Panel(NamedTuple):
    """A frame to show: its number, it and the later one (Z, Y, X) as the network sees them, the map (Z, Y, X), and the frame's score."""

    time: int
    earlier: F32
    later: F32
    map: F32
    score: float


def draw_curves(path: PathLike, curve: Sequence[Mapping[str, float]], *, frames: int = 2, title: str = "") -> None:
    """Write a PNG of the curves of a training: loss, accuracy, decorrelation and step size over the passes.

    Args:
        path: The PNG.
        curve: The numbers of each pass, from the first; what is not there is left out.
        frames: Frames of a sample; with two, the line of a coin that is tossed is drawn.
        title: One line above.
    """
    figure = _figure(12, 3.2)
    passes = np.arange(1, len(curve) + 1)
    for axes, (name, mine, held_out) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        for key, colour, label in ((mine, TRAINING, "training"), (held_out, HELD_OUT, "held out")):
            values = np.array([one.get(key, np.nan) for one in curve], dtype=float)
            if np.isfinite(values).any():
                axes.plot(
                    passes, values, color=colour, marker="o" if len(curve) < 30 else "", markersize=3, label=label
                )
        if name in COIN and frames == 2:
            axes.axhline(COIN[name], color=INK, linewidth=0.8, linestyle=":", label="a coin")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("pass", fontsize=8)
        axes.set_xlim(0.5, max(len(curve), 2) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, frameon=False)
    _write(figure, path, title)


def draw_attribution(path: PathLike, panels: Sequence[Panel], *, title: str = "") -> None:
    """Write a PNG with a row for each panel: a frame, the later one, and the frame with the map over it.

    Volumes are shown as maximum projections along z. All maps have one scale of colours.

    Args:
        path: The PNG.
        panels: Frames (Z, Y, X) as the network sees them, their maps (Z, Y, X), and scores.
        title: One line above.
    """
    signed = any(float(panel.map.min()) < 0 for panel in panels)
    most = max((float(np.percentile(np.abs(panel.map), 99.9)) for panel in panels), default=1.0) or 1.0
    shape = panels[0].earlier.shape[1:] if panels else (1, 1)
    height = 3.1 * shape[0] / max(shape[1], 1) + 0.3
    figure = _figure(9.6, height * max(len(panels), 1) + 0.4)
    grid = figure.subplots(max(len(panels), 1), 3, squeeze=False)
    for row, (time, earlier, later, values, score) in zip(grid, panels, strict=False):
        for axes, pixels, name in ((row[0], earlier, f"frame {time}"), (row[1], later, "later")):
            axes.imshow(pixels.max(axis=0), cmap="gray", vmin=0, vmax=1)
            axes.set_title(name, fontsize=8)
        row[2].imshow(earlier.max(axis=0), cmap="gray", vmin=0, vmax=1.4)
        flat = _projected(values)
        strength = np.clip(np.abs(flat) / most, 0, 1)
        row[2].imshow(
            flat, cmap="coolwarm" if signed else "inferno", vmin=-most if signed else 0, vmax=most, alpha=strength
        )
        row[2].set_title(f"arrow of time; order {'known' if score > 0 else 'mistaken'} ({score:+.2f})", fontsize=8)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    _write(figure, path, title)


def draw_precision_recall(
    path: PathLike, curves: Mapping[str, Curve], *, thresholds: Mapping[str, float] | None = None, title: str = ""
) -> None:
    """Write a PNG of precision over recall.

    Args:
        path: The PNG.
        curves: Name -> curve; the line of chance is that of each.
        thresholds: Name -> the threshold that is used, shown as a dot.
        title: One line above.
    """
    figure = _figure(4.8, 4.4)
    axes = figure.subplots()
    for (name, curve), colour in zip(curves.items(), COLOURS * (1 + len(curves)), strict=False):
        recall, precision = np.append(0.0, curve.recall), np.append(curve.precision[0], curve.precision)
        axes.step(recall, precision, where="pre", color=colour, label=f"{name}: AP {curve.average_precision:.2f}")
        threshold = (thresholds or {}).get(name)
        if threshold is not None:
            at = max(int((curve.threshold >= threshold).sum()) - 1, 0)
            axes.plot(curve.recall[at], curve.precision[at], "o", color=colour, markersize=5)
    for chance in sorted({round(curve.chance, 3) for curve in curves.values()}):
        axes.axhline(chance, color=INK, linewidth=0.8, linestyle=":", label=f"chance: {chance:.2g}")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("recall", fontsize=8)
    axes.set_ylabel("precision", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    _write(figure, path, title)


def _projected(values: F32) -> F32:
    """Return the strongest value along z, with its sign."""
    most = np.abs(values).argmax(axis=0)
    found: F32 = np.take_along_axis(values, most[None], axis=0)[0]
    return found


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Any, path: PathLike, title: str) -> None:
    if title:
        figure.suptitle(title, fontsize=10)
    with replacing(path, keep_previous=False) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in letters that the font lacks: boxes do
        figure.savefig(temporary, format="png", dpi=110)
