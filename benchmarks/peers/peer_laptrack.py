"""LapTrack (BSD-3): linear assignment from frame to frame, divisions and gaps by a second assignment."""

import importlib
from importlib.metadata import version

from timed import measured


def link(given):
    import numpy as np
    import pandas as pd

    tool = importlib.import_module("laptrack")
    spots = np.load(given["file"])
    table = pd.DataFrame({"frame": spots["t"], **dict(zip("zyx", spots["centre"].T, strict=True))})
    reach = given["max_distance"] ** 2
    tracker = tool.LapTrack(
        cutoff=reach,
        splitting_cutoff=reach,
        gap_closing_cutoff=reach if given["gap"] > 1 else False,
        gap_closing_max_frame_count=max(given["gap"] - 1, 1),
    )
    return lambda: tracker.predict_dataframe(table, coordinate_cols=list("zyx"), frame_col="frame")


measured({"link": link}, lambda: version("laptrack"))
