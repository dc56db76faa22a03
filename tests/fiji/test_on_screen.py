"""The scripts with ImageJ's windows, on a virtual screen: overlay, ROI Manager, tables, macros, the dialog of an error."""

from __future__ import annotations

from pathlib import Path

ON_SCREEN = Path(__file__).with_name("on_screen.py")
LOOSE = "embedtrack.foreground_threshold=0; embedtrack.min_size=1; embedtrack.test_time=none; embedtrack.device=cpu"
