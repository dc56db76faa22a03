"""Tasks of TAP: the arrow of time, events, and classes of spots."""

from __future__ import annotations

from pydantic import Field

from howdah.pipeline.tap import train_tap
from howdah.pipeline.tap_classify import classify_tap
from howdah.pipeline.tap_dense import EventLesson, learn_events_tap, segment_events_tap
from howdah.pipeline.tap_events import Listing, events_tap
from howdah.pipeline.tap_learn import Lesson, learn_tap
from howdah.pipeline.tap_maps import embed_tap, map_tap
from howdah.pipeline.tap_spots import features_tap
from howdah.service.parameters import InFile, OutFile
from howdah.service.table_fields import Movie, Movies
from howdah.service.tasks import Task

__all__ = ["TAP"]

WEIGHTS = "Weights that `tap.train` wrote, or published ones."
OUT = "The result; its ending chooses the format."
ALSO = "Further results: .mastodon, .xml, .geff, .csv."
COMPARE = "Judge other modes, too: scratch, finetune, pixels, frozen."
CLASSIFIER = "The weights that the learning task wrote."


class Train(Movies):
    """What `tap.train` is told."""

    weights: OutFile | None = Field(default=None, description="Where the weights go.")
    start: InFile | None = Field(default=None, description="Weights to start from: ours, or published ones.")
    pictures: OutFile | None = Field(default=None, description="Folder where curves and maps are drawn.")


class Events(Movie):
    """What `tap.events` is told."""

    weights: InFile = Field(description=WEIGHTS)
    out: OutFile | None = Field(default=None, description=OUT)
    also: list[OutFile] = Field(default=[], description=ALSO)
    map: OutFile | None = Field(default=None, description="Write the map, too: .tif, .ome.tif, .ome.zarr, .xml.")
    top: int = Field(default=100, ge=0, description="So many events, the best; 0: all.")
    apart: bool = Field(default=False, description="Give each event a spot of its own, also where there is one.")


class Map(Movie):
    """What `tap.map` is told."""

    weights: InFile = Field(description=WEIGHTS)
    out: OutFile | None = Field(default=None, description="The image: .tif, .ome.tif, .ome.zarr, .xml.")
    overlay: bool = Field(default=False, description="The movie comes along as first channel.")


class Embed(Movie):
    """What `tap.embed` is told."""

    weights: InFile = Field(description=WEIGHTS)
    out: OutFile | None = Field(default=None, description="The image: .tif, .ome.tif, .ome.zarr, .xml.")


class Features(Movie):
    """What `tap.features` is told."""

    weights: InFile | None = Field(default=None, description="Weights; none: the network in the classifier.")
    classifier: InFile | None = Field(default=None, description="Of divisions: each spot gets its probability.")
    out: OutFile | None = Field(default=None, description=OUT)
    also: list[OutFile] = Field(default=[], description=ALSO)


class Learn(Movies):
    """What `tap.learn` is told."""

    weights: InFile | None = Field(default=None, description="A network that learned from such movies.")
    out: OutFile | None = Field(default=None, description="Where what was learned goes (.safetensors).")
    tags: str | None = Field(default=None, description="The tag set whose tags are the classes.")
    divisions: bool = Field(default=False, description="Learn which spots divide, from the links of the tracks.")
    untagged: str | None = Field(default=None, description="Spots without a tag are of this class; none: unknown.")
    compare: tuple[str, ...] = Field(default=(), description=COMPARE)


class Classify(Movie):
    """What `tap.classify` is told."""

    classifier: InFile = Field(description=CLASSIFIER)
    out: OutFile | None = Field(default=None, description=OUT)
    also: list[OutFile] = Field(default=[], description=ALSO)
    min: float | None = Field(default=None, description="Least probability for a tag; none: the best known.")


class LearnEvents(Movie):
    """What `tap.learn-events` is told."""

    weights: InFile | None = Field(default=None, description="A network that learned from such movies.")
    out: OutFile | None = Field(default=None, description="Where what was learned goes (.safetensors).")
    truth: InFile | None = Field(default=None, description="Where events are marked: label images, ROIs, a project.")
    tags: str | None = Field(default=None, description="Of a project: the tag set that tells events.")
    event: str | None = Field(default=None, description="The tag of the set that is the event.")
    divisions: bool = Field(default=False, description="Of a project: spots that divide are the events.")
    compare: tuple[str, ...] = Field(default=(), description=COMPARE)


class SegmentEvents(Movie):
    """What `tap.segment-events` is told."""

    classifier: InFile = Field(description=CLASSIFIER)
    out: OutFile | None = Field(default=None, description=OUT)
    also: list[OutFile] = Field(default=[], description=ALSO)
    map: OutFile | None = Field(default=None, description="Write the map, too: .tif, .ome.tif, .ome.zarr, .xml.")


def _lesson(p: Learn) -> Lesson:
    return Lesson(tags=p.tags, divisions=p.divisions, untagged=p.untagged, compare=p.compare)


def _event_lesson(p: LearnEvents) -> EventLesson:
    return EventLesson(truth=p.truth, tags=p.tags, event=p.event, divisions=p.divisions, compare=p.compare)


TAP = [
    Task(
        "tap.train",
        "Learn the arrow of time from raw movies; no annotation is needed. A stopped training goes on where it was.",
        Train,
        lambda p: train_tap(p.jobs, p.weights, settings=p.settings, start=p.start, pictures=p.pictures),
        sections=("tap",),
        results={"weights": "tap.safetensors"},
    ),
    Task(
        "tap.events",
        "List where something happens, the surest first: spots with rank, quality and a tag.",
        Events,
        lambda p: events_tap(
            p.job,
            p.out,
            weights=p.weights,
            settings=p.settings,
            also=p.also,
            map_to=p.map,
            listing=Listing(top=p.top, apart=p.apart),
        ),
        sections=("tap",),
        results={"out": "events.mastodon"},
    ),
    Task(
        "tap.map",
        "Write where the network sees the arrow of time, as an image with the calibration of the movie.",
        Map,
        lambda p: map_tap(p.job, p.out, weights=p.weights, settings=p.settings, overlay=p.overlay),
        sections=("tap",),
        results={"out": "arrow.tif"},
    ),
    Task(
        "tap.embed",
        "Write the features of every pixel, one channel a feature.",
        Embed,
        lambda p: embed_tap(p.job, p.out, weights=p.weights, settings=p.settings),
        sections=("tap",),
        results={"out": "features.ome.zarr"},
    ),
    Task(
        "tap.features",
        "Describe each spot by numbers, which Mastodon and TrackMate show: arrow of time, features, divisions.",
        Features,
        lambda p: features_tap(
            p.job, p.out, settings=p.settings, weights=p.weights, classifier=p.classifier, also=p.also
        ),
        sections=("tap",),
        results={"out": "tap.mastodon"},
    ),
    Task(
        "tap.learn",
        "Learn classes of spots from few tags, or divisions from links, and say how good they are.",
        Learn,
        lambda p: learn_tap(p.jobs, p.out, lesson=_lesson(p), settings=p.settings, weights=p.weights),
        sections=("tap_head", "tap"),
        results={"out": "classifier.safetensors"},
    ),
    Task(
        "tap.classify",
        "Tell the class of each spot: probabilities as features, and tags in a set of their own.",
        Classify,
        lambda p: classify_tap(p.job, p.classifier, p.out, settings=p.settings, least=p.min, also=p.also),
        sections=("tap",),
        results={"out": "classified.mastodon"},
    ),
    Task(
        "tap.learn-events",
        "Learn to mark events pixel by pixel, from label images or tagged spots, and say how good that is.",
        LearnEvents,
        lambda p: learn_events_tap(p.job, p.out, lesson=_event_lesson(p), settings=p.settings, weights=p.weights),
        sections=("tap_head", "tap"),
        results={"out": "events.safetensors"},
    ),
    Task(
        "tap.segment-events",
        "Mark the events of a movie with their outlines.",
        SegmentEvents,
        lambda p: segment_events_tap(p.job, p.classifier, p.out, settings=p.settings, also=p.also, map_to=p.map),
        sections=("tap_head", "tap"),
        results={"out": "events.tif"},
    ),
]
