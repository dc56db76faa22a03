"""What users run: where files, methods and linking meet. Every function takes and writes files that Fiji opens.

Long work is a generator of :class:`howdah.progress.Progress` that returns its result; ``finish`` runs it to the end::

    from howdah.pipeline import Job, finish, track
    result = finish(track(Job("embryo.mastodon"), "tracked.mastodon", settings={}), print)
"""

from howdah.pipeline.calibrate import calibrate
from howdah.pipeline.catalogue import catalogue
from howdah.pipeline.conversion import Conversion, compare, convert, join, restore
from howdah.pipeline.demonstration import demo
from howdah.pipeline.detection import Job, Where, predict, train
from howdah.pipeline.efficientcellseg import segment_efficientcellseg, train_efficientcellseg
from howdah.pipeline.embedtrack import track_embedtrack, train_embedtrack
from howdah.pipeline.facts import describe, known_formats
from howdah.pipeline.health import examine
from howdah.pipeline.picture import draw_result
from howdah.pipeline.reproduction import reproduce
from howdah.pipeline.sources import default_target, open_source
from howdah.pipeline.tracking import link, track
from howdah.progress import finish

__all__ = [
    "Conversion",
    "Job",
    "Where",
    "calibrate",
    "catalogue",
    "compare",
    "convert",
    "default_target",
    "demo",
    "describe",
    "draw_result",
    "examine",
    "finish",
    "join",
    "known_formats",
    "link",
    "open_source",
    "predict",
    "reproduce",
    "restore",
    "segment_efficientcellseg",
    "track",
    "track_embedtrack",
    "train",
    "train_efficientcellseg",
    "train_embedtrack",
]
