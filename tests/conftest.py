"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real movies with ground truth; tests that need it skip where it is not there."""
    named = os.environ.get("HOWDAH_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip(f"needs the real movies: no folder {folder} (set HOWDAH_DATA to it)")
    return folder
