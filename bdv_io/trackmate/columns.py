"""Attributes of spots and edges as columns: numbers where they are numbers, texts where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError
from bdv_io.tags import Feature
from bdv_io.trackmate.declarations import Declaration
from bdv_io.tracks import LABEL_DTYPE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["INNER", "Batch", "Columns", "batches"]

INNER = "<inner>"  # the name of the column of what stands inside an element; no attribute can have it
TEXTS = frozenset({"name", INNER})


class Batch(NamedTuple):
    """Elements that have the same attributes in the same order.

    Attributes:
        rows: (n,) int64, place of each element within the blocks that came with it; None for 0 ... n-1.
        keys: Names of the attributes.
        values: For each attribute the n texts.
        n: Number of elements.
    """

    rows: I64 | None
    keys: tuple[str, ...]
    values: Sequence[Sequence[str | None]]
    n: int


def batches(elements: Iterable[tuple[tuple[str, ...], Sequence[str]]]) -> Iterator[Batch]:
    """Sort elements, each given as names and texts of its attributes, into batches."""
    groups: dict[tuple[str, ...], tuple[list[int], list[Sequence[str]]]] = {}
    for row, (keys, texts) in enumerate(elements):
        rows, values = groups.setdefault(keys, ([], []))
        rows.append(row)
        values.append(texts)
    for keys, (rows, values) in groups.items():
        yield Batch(np.array(rows, dtype=np.int64), keys, list(zip(*values, strict=True)), len(rows))


class Columns:
    """Columns that grow by batches; NaN or None where an element lacks the attribute."""

    def __init__(self, what: str, file: Path) -> None:
        self.what, self.file = what, file
        self.rows = 0
        self.parts: dict[str, list[tuple[I64, Any]]] = {}
        self.known: dict[str, tuple[F64, Bool]] = {}
        self.lenient = False  # NaN, or -1 for whole numbers, instead of an error

    def add(self, block: Iterable[Batch]) -> int:
        """Append the elements of one block, and return how many they were."""
        added = 0
        for batch in block:
            own = np.arange(batch.n) if batch.rows is None else batch.rows
            for key, texts in zip(batch.keys, batch.values, strict=True):
                self.parts.setdefault(key, []).append((own + self.rows, _numbers(key, texts)))
            added += batch.n
        self.rows += added
        return added

    def is_text(self, key: str) -> bool:
        """Whether an element has something else than a number there."""
        return any(not isinstance(values, np.ndarray) for _, values in self.parts.get(key, ()))

    def texts(self, key: str) -> Any:
        """(N,) texts, None where an element lacks the attribute."""
        texts = np.full(self.rows, None, dtype=object)
        for rows, values in self.parts.get(key, ()):
            texts[rows] = [_plain(v) for v in values.tolist()] if isinstance(values, np.ndarray) else values
        return np.array(texts.tolist(), dtype=LABEL_DTYPE)

    def numbers(self, key: str) -> tuple[F64, Bool]:
        """(N,) float64, NaN where an element lacks the attribute, and whether it has it.

        Raises:
            FormatError: An element has something else than a number there.
        """
        if key in self.known:
            return self.known[key]
        values, defined = np.full(self.rows, np.nan), np.zeros(self.rows, dtype=bool)
        for rows, part in self.parts.get(key, ()):
            if not isinstance(part, np.ndarray):
                self._refuse(key, rows, part)
            values[rows], defined[rows] = part, True
        self.known[key] = values, defined
        self.parts[key] = [(np.flatnonzero(defined), values[defined])] if not defined.all() else self.parts.get(key, [])
        return values, defined

    def _refuse(self, key: str, rows: I64, texts: Sequence[str]) -> None:
        for row, text in zip(rows.tolist(), texts, strict=True):
            try:
                float(text)
            except ValueError:
                raise FormatError(
                    f"Reading {self.file} failed: attribute {key} of {self.what} number {row + 1} is '{text[:80]}'; "
                    "expected a number."
                ) from None

    def needed(self, key: str) -> F64:
        """The column of an attribute that every element must have, as finite numbers."""
        values, _ = self.numbers(key)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad) and not self.lenient:
            raise FormatError(
                f"Reading {self.file} failed: {self.what} number {bad[0] + 1} has no finite {key}, and {len(bad)} in all lack it. "
                "`howdah convert --repair` mends what can be mended."
            )
        return values

    def whole(self, key: str) -> I64:
        """A needed column of whole numbers; ``1.0`` counts as one."""
        values = self.needed(key)
        with np.errstate(invalid="ignore"):
            wrong = ~((values == np.floor(values)) & (np.abs(values) < 2.0**53))
        if self.lenient:
            return np.where(wrong, -1, values).astype(np.int64)
        bad = np.flatnonzero(wrong)
        if len(bad):
            raise FormatError(
                f"Reading {self.file} failed: {key} of {self.what} number {bad[0] + 1} is {values[bad[0]]}; expected a whole number."
            )
        return values.astype(np.int64)

    def optional(self, key: str, default: float) -> F64:
        """The column of an attribute, ``default`` where an element lacks it."""
        values, defined = self.numbers(key)
        return np.where(defined, values, default)

    def feature(self, declared: Declaration, target: Any) -> Feature:
        """The feature of a declared attribute; whole numbers where the declaration says so and the values are."""
        values, defined = self.numbers(declared.key)
        seen = values[defined]
        if declared.isint and (np.isfinite(seen) & (seen == np.floor(seen)) & (np.abs(seen) < 2.0**53)).all():
            values = np.where(defined, values, 0).astype(np.int64)
        whole = None if defined.all() else defined
        return Feature(declared.key, "", values, target, dimension=declared.dimension, defined=whole)


def _numbers(key: str, texts: Sequence[str | None]) -> Any:
    """The numbers of a column, or its texts where one of them is none."""
    if key in TEXTS:
        return texts
    try:
        return np.fromiter(map(float, texts), np.float64, len(texts))  # type: ignore[arg-type]
    except ValueError:
        return texts


def _plain(value: float) -> str:
    return repr(value).removesuffix(".0")
