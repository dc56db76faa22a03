"""Values of given ranks among more numbers than memory holds: exact, by counting their bits, sixteen at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pieces = Callable[[], Iterable[Array]]

__all__ = ["median_of", "percentiles_of", "values_at"]

BITS = 16
ENDS = 500  # ranks within a 500th of an end are found in one pass, by keeping what lies beyond them


def values_at(pieces: Pieces, ranks: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return the numbers that would stand at some places of the sorted whole.

    Args:
        pieces: Gives the numbers in pieces of any shape, the same each time it is called: once for each sixteen bits of a number.
        ranks: Places in the sorted whole, from 0.
        dtype: Type of all pieces: whole numbers, or finite floating-point numbers, of up to 64 bits.

    Memory: 2 MB, and three times that of a piece.
    """
    width = 8 * dtype.itemsize
    known = [0] * len(ranks)  # the leading bits of each answer
    left = [int(rank) for rank in ranks]
    shift = width
    while shift > 0:
        digits = min(BITS, shift)
        shift -= digits
        prefixes = sorted(set(known))
        counts = {prefix: np.zeros(1 << digits, dtype=np.int64) for prefix in prefixes}
        for piece in pieces():
            keys = _keys(np.ascontiguousarray(piece).reshape(-1))
            low = (keys >> keys.dtype.type(shift)) if shift else keys
            for prefix in prefixes:
                here = low if shift + digits == width else low[(low >> low.dtype.type(digits)) == prefix]
                counts[prefix] += np.bincount(
                    (here & low.dtype.type((1 << digits) - 1)).astype(np.int64), minlength=1 << digits
                )
        for number, prefix in enumerate(known):
            below = np.cumsum(counts[prefix])
            digit = int(np.searchsorted(below, left[number], side="right"))
            left[number] -= int(below[digit - 1]) if digit else 0
            known[number] = (prefix << digits) | digit
    return _numbers(np.array(known, dtype=f"u{dtype.itemsize}"), dtype)


def percentiles_of(pieces: Pieces, percent: tuple[float, float], n: int, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return two percentiles of ``n`` numbers, bit for bit those of ``np.percentile`` (linear)."""
    places = (n - 1) * (np.asarray(percent, dtype=np.float64) / 100)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, n - 1)
    ranks = [*below.tolist(), *above.tolist()]
    from_end = max(min(rank, n - 1 - rank) for rank in ranks)
    one_pass = dtype.itemsize > 2 and from_end <= max(n // ENDS, 8)
    found = _at_the_ends(pieces, ranks, n) if one_pass else values_at(pieces, ranks, dtype)
    first, second = (_between(found[i], found[2 + i], share) for i, share in enumerate((places - below).tolist()))
    return first, second


def median_of(pieces: Pieces, n: int, dtype: np.dtype[Any]) -> Any:
    """Return the median of ``n`` numbers, as ``np.median`` does."""
    return np.median(values_at(pieces, [(n - 1) // 2, n // 2], dtype))


def _at_the_ends(pieces: Pieces, ranks: Sequence[int], n: int) -> Array:
    """The values of ranks near the ends; pieces are gone through once."""
    n_low = max((rank + 1 for rank in ranks if 2 * rank < n), default=0)
    n_high = max((n - rank for rank in ranks if 2 * rank >= n), default=0)
    low: Array | None = None
    high: Array | None = None
    for piece in pieces():
        flat = np.ascontiguousarray(piece).reshape(-1)
        if n_low:
            low = flat if low is None else np.concatenate([low, flat])
            low = np.partition(low, n_low)[:n_low] if len(low) > n_low else low
        if n_high:
            high = flat if high is None else np.concatenate([high, flat])
            high = np.partition(high, len(high) - n_high)[-n_high:] if len(high) > n_high else high
    first, last = (np.sort(part) if part is not None else np.empty(0) for part in (low, high))
    return np.array(
        [first[rank] if 2 * rank < n else last[rank - (n - n_high)] for rank in ranks],
        dtype=(first if low is not None else last).dtype,
    )


def _between(below: Any, above: Any, share: float) -> Any:
    """Interpolate as numpy does: from the nearer end."""
    step = above - below
    return above - step * np.float64(1 - share) if share >= 0.5 else below + step * np.float64(share)


def _keys(values: Array) -> Array:
    """Unsigned whole numbers in the same order."""
    width = 8 * values.dtype.itemsize
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    top = unsigned.type(1 << (width - 1))
    if values.dtype.kind == "f":
        bits = (values + values.dtype.type(0)).view(unsigned)  # -0.0 becomes 0.0
        keys: Array = np.where(bits & top, ~bits, bits | top)
        return keys
    keys = values.view(unsigned)
    return keys ^ top if values.dtype.kind == "i" else keys


def _numbers(keys: Array, dtype: np.dtype[Any]) -> Array:
    """The numbers whose keys these are."""
    top = keys.dtype.type(1 << (8 * dtype.itemsize - 1))
    if dtype.kind == "f":
        return np.where(keys & top, keys ^ top, ~keys).view(dtype)
    return (keys ^ top if dtype.kind == "i" else keys).view(dtype)
