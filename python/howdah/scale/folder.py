"""The work folder of a run: ``<target>.blocks/`` with the manifest and one file a block."""

from __future__ import annotations

from pathlib import Path

from howdah.scale.plan import Result

__all__ = ["DamagedBlock", "read_result", "work_folder", "write_result"]


def work_folder(target: Path) -> Path:
    """Return where the blocks of a target lie: ``name.blocks`` beside it."""
    return target.with_name(f"{target.name}.blocks")


class DamagedBlock(Exception):
    """A block's file is missing, cut short, or not what was written (placeholder: the owner puts it into the error tree)."""


def write_result(folder: Path, key: str, result: Result) -> str:
    """Write a block's file (temporary file, fsync, rename) and return its checksum."""
    raise NotImplementedError


def read_result(folder: Path, key: str, checksum: str | None = None) -> Result:
    """Return a block's result, checked.

    Raises:
        DamagedBlock: The file is missing or damaged.
    """
    raise NotImplementedError
