"""The plot of an incremental loop: how predictions become better from cycle to cycle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bdv_io.safe_write import replacing

if TYPE_CHECKING:
    from howdah.pipeline.loop_state import Cycle

__all__ = ["draw_cycles"]

RIGHT, WRONG, MISSED, INK = "#1b9e77", "#d95f02", "#7570b3", "#333333"
ROOM = 1.45  # above the bars, for the legend


def draw_cycles(path: str | os.PathLike[str], cycles: Sequence[Cycle], *, title: str = "") -> None:
    """Write a PNG with three panels over the cycles: precision and recall of the predictions as a person judged them, the
    judgements behind them with the number of nuclei, and the time of a cycle.

    Args:
        path: The PNG.
        cycles: The cycles, from the first; what was not judged is left out of the curves.
        title: One line above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 3.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    number = np.array([cycle.cycle for cycle in cycles], dtype=float)
    curves, counts, times = figure.subplots(1, 3)
    for name, colour, marker in (("precision", RIGHT, "o"), ("recall", MISSED, "s")):
        curves.plot(number, _column(cycles, name), color=colour, marker=marker, label=name)
    curves.set_ylim(-0.03, 1.03)
    curves.set_title("predictions, as judged", fontsize=9)

    below = np.zeros(len(cycles))
    for names, colour in ((("validated", "moved"), RIGHT), (("rejected", "deleted"), WRONG), (("missed",), MISSED)):
        height = np.nansum([_column(cycles, name) for name in names], axis=0)
        counts.bar(number, height, bottom=below, color=colour, label=" + ".join(names), width=0.7)
        below = below + height
    nuclei = counts.twinx()
    nuclei.plot(number, _column(cycles, "nuclei"), color=INK, marker=".", label="nuclei in all")
    nuclei.set_ylim(0, ROOM * max(float(np.nanmax(_column(cycles, "nuclei"))), 1))
    nuclei.set_ylabel("nuclei in all (line)", fontsize=8)
    nuclei.tick_params(labelsize=8)
    counts.set_ylim(0, ROOM * max(float(below.max()), 1))
    counts.set_title("what was said of the predictions (bars)", fontsize=9)

    times.bar(number, _column(cycles, "train_s"), color="#8da0cb", label="training", width=0.7)
    times.bar(
        number,
        _column(cycles, "predict_s"),
        bottom=_column(cycles, "train_s"),
        color="#e78ac3",
        label="finding",
        width=0.7,
    )
    seconds = _column(cycles, "train_s") + _column(cycles, "predict_s")
    times.set_ylim(0, ROOM * max(float(seconds.max()), 1e-3))
    times.set_title("seconds a cycle", fontsize=9)
    for axes in (curves, counts, times):
        axes.set_xlabel("cycle", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.4, max(len(cycles), 2) + 0.6)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7, loc="lower right" if axes is curves else "upper left", frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    with replacing(path, keep_previous=False) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _column(cycles: Sequence[Cycle], name: str) -> Any:
    return np.array([np.nan if getattr(cycle, name) is None else getattr(cycle, name) for cycle in cycles], dtype=float)
