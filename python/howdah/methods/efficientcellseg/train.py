"""Training (paper, sections 3.2 and 3.3): Adam, a step size that falls at plateaus, and the network that does best on a held-out part."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.nn.checkpoint import Weights
from howdah.progress import Progress

__all__ = ["train"]


def train(
    annotation: Annotation,
    config: EfficientCellSegConfig,
    *,
    start: Weights | None = None,
    save_to: Path | None = None,
    resume: bool = True,
) -> Generator[Progress, None, Weights]:
    """Train the network on outlined cells; a generator, so that it can be watched and cancelled.

    Each ``next`` is one step. Closing the generator cancels. ``weights = yield from train(...)`` gets the result.

    Args:
        annotation: Outlined cells of some frames, which may differ in size. Links are not used.
        config: Settings.
        start: Weights to go on from, of the same encoder, decoder and outputs.
        save_to: Where the finished weights are written (the former file stays as ``name~1~``); beside it, while it runs,
            ``name.training`` keeps the state to resume from. None: nothing is written.
        resume: Go on from ``name.training`` where it is there and belongs to the same annotation, settings and start.

    Returns:
        The weights that did best on the held-out part, or the last ones without one: one member, or two with centres "second".

    Raises:
        DataError: There is nothing to train on, or the loss broke down. ConfigError: Device or settings do not fit.
        WeightsError: A state to resume from is damaged, ``start`` does not fit, the encoder's weights cannot be had, or the folder
            of ``save_to`` is not there.
    """
    raise NotImplementedError
    yield
