"""The step size: up and down once in two passes, with lower and lower peaks (paper, section 3.3: cyclic)."""

from __future__ import annotations

from howdah.methods.tap.config import TapConfig

__all__ = ["step_size"]

PEAK = 10.0  # highest step size, in multiples of the smallest
FADING = 0.9  # each peak in multiples of the former one


def step_size(step: int, steps_per_epoch: int, config: TapConfig) -> float:
    """Return the step size of a step; it follows from its number alone, so that a resumed training takes the same steps.

    Args:
        step: From 0.
        steps_per_epoch: Steps in a pass, which is half a cycle.
        config: Settings ``learning_rate`` and ``schedule``.
    """
    low = config.learning_rate
    if config.schedule == "constant":
        return PEAK * low
    cycle, at = divmod(step, 2 * steps_per_epoch)
    height = 1 - abs(at / steps_per_epoch - 1)
    return low + (PEAK - 1) * low * height * FADING ** (cycle + 1)
