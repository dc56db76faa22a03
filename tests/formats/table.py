"""Makes ``docs/formats.md`` from the contract that every format passes: ``python -m formats.table`` in the folder ``tests``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "python"), str(ROOT / "tests")]

from formats import test_contract_annotations as annotations  # noqa: E402
from formats import test_contract_images as images  # noqa: E402
from formats.contract import ANNOTATION_ASPECTS, AnnotationContract  # noqa: E402
from formats.contract_images import IMAGE_ASPECTS, ImageContract  # noqa: E402

from bdv_io.formats import FORMATS  # noqa: E402

TARGET = ROOT / "docs" / "formats.md"
HEAD = """# Formats, and what each of them keeps

Made by `python -m formats.table` in the folder `tests`, from the contract tests that every format passes
(`tests/formats/contract.py`, `tests/formats/contract_images.py`): a table that promises too much does not pass.

- **yes**: written by Howdah and read again, it comes back equal.
- **beside**: Howdah reads it back, but the program that the format belongs to does not know it, and drops it when it saves the file.
- **said**: the format cannot hold it; `howdah convert` says so in a sentence, or refuses. Nothing is lost silently.

Files are recognised by their content. The ending of a target chooses its format, or `--to KEY` does.
"""


def text() -> str:
    """Return the page."""
    return "\n".join(
        [
            HEAD,
            "## All formats\n",
            _known(),
            "\n## Annotations\n",
            _table(ANNOTATION_ASPECTS, _contracts(annotations, AnnotationContract)),
            "\nMasks (Cell Tracking Challenge, label images, ROI sets) hold areas of pixels: a spot without an outline is painted as its",
            "ellipsoid and comes back with the outline of what was painted.\n",
            "## Images\n",
            _table(IMAGE_ASPECTS, _contracts(images, ImageContract)),
            "",
        ]
    )


def _contracts(module: Any, base: Any) -> list[Any]:
    found = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, base) and hasattr(c, "key")]
    return [c for c in found if c.__module__ == module.__name__]


def _known() -> str:
    rows = ["| key | format | holds | read | written | endings |", "| --- | --- | --- | --- | --- | --- |"]
    for f in FORMATS:
        endings = ", ".join(f"`{suffix}`" for suffix in f.suffixes)
        rows.append(
            f"| `{f.key}` | {f.name} | {f.kind} | {'yes' if f.read else ''} | {'yes' if f.write else ''} | {endings} |"
        )
    return "\n".join(rows)


def _table(aspects: Any, contracts: list[Any]) -> str:
    heads = [c.__name__.removeprefix("Test") for c in contracts]
    rows = [f"| | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for aspect in aspects:
        cells = []
        for c in contracts:
            beside = aspect in getattr(c, "until_saved", frozenset())
            cells.append("beside" if beside else "yes" if aspect in c.keeps else "said")
        rows.append(f"| {aspect} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
