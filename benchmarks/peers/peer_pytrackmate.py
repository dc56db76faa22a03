"""pytrackmate (BSD-3): the spots of shown tracks, as a table."""

import warnings
from importlib.metadata import version

from timed import measured


def read(given):
    warnings.simplefilter("ignore")
    load = __import__("pytrackmate").trackmate_peak_import
    return lambda: load(given["file"], get_tracks=True)


measured({"read": read}, lambda: version("pytrackmate"))
