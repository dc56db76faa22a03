"""Makes ``docs/settings.md`` from the settings themselves: ``python -m methods.settings_page`` in the folder ``tests``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "python"), str(ROOT / "tests")]

from howdah.cli_options import shown  # noqa: E402
from howdah.config import Settings  # noqa: E402
from howdah.pipeline.sections import SECTIONS  # noqa: E402
from howdah.scale.config import ScaleConfig  # noqa: E402

TARGET = ROOT / "docs" / "settings.md"
HEAD = """# Settings

Made by `python -m methods.settings_page` in the folder `tests`, from the settings themselves: each with its unit, its default,
and what it does. "automatic" means that it is decided from the marks and the image; the decided value is in the record beside
the result and in the header of the weights.

Give them as options (`howdah track --threshold 0.4`; underscores become dashes), or in a file for `--config`, one section a
method. Options win over the file.

```toml
[elephant]
threshold = 0.4

[linking]
max_distance = 8.0
```
"""
TITLES = {
    "elephant": "ELEPHANT detection: how nuclei are learned and found",
    "flow": "ELEPHANT flow: how movement is learned and estimated",
    "embedtrack": "EmbedTrack: how outlines and movement are learned, and cells found and tracked",
    "efficientcellseg": "EfficientCellSeg: how outlines are learned from few images, and cells found plane by plane",
    "tap": "TAP: how the arrow of time is learned from raw movies, and events are found",
    "tap_head": "TAP: how classes and events are learned from a few labels",
    "linking": "Linking: how spots become tracks",
    "loop": "The loop: what a cycle does after each save",
    "backtrack": "Back-tracking: how one nucleus is followed",
    "scale": "Scale-out: how work is cut into blocks, and who does them",
}


def text() -> str:
    """Return the page."""
    parts = [HEAD]
    for section, kind in {**SECTIONS, "scale": ScaleConfig}.items():
        parts += [f"## `[{section}]`: {TITLES[section]}\n", _table(kind), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _table(kind: type[Settings]) -> str:
    rows = ["| setting | default | what it does |", "| --- | --- | --- |"]
    for name, field in kind.model_fields.items():
        said = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {shown(field.default)} | {said} |")
    return "\n".join(rows)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
