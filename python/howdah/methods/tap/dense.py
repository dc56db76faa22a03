"""Events marked pixel by pixel: a small U-Net on the features of a sample's frames (paper, section 3.4).

It learns from label images, or from tagged spots, whose ellipsoids stand for the event; what nobody looked at is unknown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from howdah.ellipsoids import rasterise
from howdah.errors import DataError
from howdah.methods.tap.classify import Work, header_of
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.crossing import Fold, folds_of
from howdah.methods.tap.examples import Examples
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.learned import settled
from howdah.methods.tap.learner import Learner, posed
from howdah.methods.tap.material import Places, View, cut, steps_of
from howdah.methods.tap.movies import Frames, voxel_of
from howdah.methods.tap.network import reach
from howdah.methods.tap.pooled import Parts, Region
from howdah.methods.tap.predict import Embedder
from howdah.methods.tap.weights import network_part, read_task
from howdah.metrics.classification import precision_recall
from howdah.metrics.segmentation import average_precision
from howdah.nn.checkpoint import State, Weights, save_weights
from howdah.progress import Progress, Steps

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Tensor = torch.Tensor

__all__ = ["KIND", "EventTruth", "events_of", "predict_events", "read_events", "train_events", "truth_of_spots"]

KIND = "events"
PATCHES = 16  # crops that are cut out of each annotated frame
RING = 2.0  # around a tagged spot so far, in half-axes, is background
MOST_PIXELS = 1_000_000  # that a curve is made of
MOST_AT_ONCE = (
    1 << 20
)  # pixels of a tile in prediction; with 32 features of two frames they take 256 MiB, and the head a few times as much
SOFT = 1.0  # pixels added to both sides of the Dice ratio


@dataclass(frozen=True, eq=False)
class EventTruth:
    """Annotated events of some frames.

    Attributes:
        samples: (movie, frame) of each annotated frame.
        read: Gives, by movie and frame, labels (Z, Y, X) of the events, 0 = none, and which pixels are known, or None where all are;
            in pixels of the movie.
    """

    samples: tuple[tuple[int, int], ...]
    read: Callable[[int, int], tuple[npt.NDArray[Any], Bool | None]]


def truth_of_spots(examples: Examples, positive: str, shape: Sequence[int], *, complete: bool = False) -> EventTruth:
    """Make a truth of tagged spots of movies of one size: ellipsoids of one class are events, those of others are not.

    Args:
        examples: Tagged spots.
        positive: The class that is the event.
        shape: (Z, Y, X) of the movies.
        complete: All events of these frames are tagged; else only the spots, and a ring around each, are known.

    Raises:
        DataError: There is no such class.
    """
    if positive not in examples.classes:
        raise DataError(f"Marking events failed: no spot is '{positive}'; classes are {', '.join(examples.classes)}.")
    chosen, size = examples.classes.index(positive), (int(shape[0]), int(shape[1]), int(shape[2]))

    def read(movie: int, t: int) -> tuple[npt.NDArray[Any], Bool | None]:
        rows = np.flatnonzero((examples.movie == movie) & (examples.t == t))
        labels = rasterise(examples.centre[rows], examples.covariance[rows], size)
        known = None
        if not complete:
            known = rasterise(examples.centre[rows], examples.covariance[rows], size, scale=RING) > 0
        events = np.append(0, np.where(examples.label[rows] == chosen, np.arange(1, len(rows) + 1), 0))
        return events[labels], known

    moments = np.unique(np.stack([examples.movie, examples.t], axis=1), axis=0)
    return EventTruth(tuple((int(movie), int(t)) for movie, t in moments), read)


def train_events(
    truth: EventTruth,
    frames: Sequence[Frames],
    *,
    network: Weights | None,
    config: TapConfig,
    head: HeadConfig,
    save_to: Path | None = None,
    compare: Sequence[str] = (),
    judge: bool = True,
) -> Steps[Weights]:
    """Judge by cross-validation, then train on all annotated frames; arguments and errors as in
    :func:`howdah.methods.tap.classify.train_classifier`.

    Returns:
        Weights of kind ``"events"``. The header has, under ``crossed`` and ``compared``, ``f1`` at an IoU of ``head.iou`` (where whole
        frames are known) and ``pixels``: average precision of the pixels and its chance level.
    """
    patches, targets = _patches(truth, frames, network, config, head)
    work = Work(patches, frames, network, config, head.but(head="resnet"), n_classes=0, crop=head.patch)
    verdicts: dict[str, dict[str, Any]] = {}
    if judge:
        try:
            folds = folds_of(_to_cut(patches), n=head.folds, apart=work.view.steps[-1])
        except DataError as error:
            yield Progress("judge", 0, 1, message=f"How good the events are is not known. {error}")
        else:
            for mode in dict.fromkeys([head.mode, *compare]):
                verdicts[mode] = yield from _crossed(work.but(mode), truth, targets, folds)
    state = yield from _learn(work, targets, np.arange(len(patches)))
    own = verdicts.pop(head.mode, {})
    header = {**header_of(work, KIND), "crossed": own, "compared": verdicts}
    header["metrics"] = {key: value for key, value in own.items() if isinstance(value, float)}
    weights = Weights(({**work.network_state, **state},), header)
    if save_to is not None:
        save_weights(save_to, weights)
    return weights


def predict_events(classifier: Weights, frames: Frames, time: int, *, config: TapConfig | None = None) -> F32:
    """Return how likely each pixel (Z, Y, X) of a frame of the movie (not shrunk) is part of an event, float32 0 to 1.

    Raises:
        DataError: The frame, or the later one of its sample, is not there.
    """
    task = classifier.header["task"]
    known = settled(network_part(classifier), config)
    head = HeadConfig.of(task["settings"], source="the header of the weights")
    view = View(known, head, tuple(task["steps"]), tuple(task["crop"]))
    learner = Learner(view, (classifier.header["network"], None), 0)
    gone = [time + step for step in view.steps if time + step not in frames.times]
    if gone:
        raise DataError(f"Marking events in frame {time} failed: frame {gone[0]} of its sample is not there.")
    return _marked(learner, classifier.members[0], Embedder(network_part(classifier), known), frames, time)


def events_of(probability: F32, head: HeadConfig) -> I32:
    """Return labels (Z, Y, X) int32 of the events in a probability map; 0 is none."""
    found, n = ndimage.label(probability >= head.threshold, structure=np.ones((3,) * probability.ndim))
    sizes = np.bincount(found.ravel(), minlength=n + 1)
    kept = sizes >= head.least_size
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(numbers[found])


def read_events(path: str | os.PathLike[str]) -> Weights:
    """Read trained weights of :func:`train_events`.

    Raises:
        WeightsError: The file is missing or damaged, or holds something else.
    """
    return read_task(path, kind=KIND)


def _patches(
    truth: EventTruth, frames: Sequence[Frames], network: Weights | None, config: TapConfig, head: HeadConfig
) -> tuple[Examples, Tensor]:
    """Return crops of the annotated frames, half of them at events, and their targets (N, 2, *S): event, known."""
    known = config if network is None else settled(network, config)
    steps = steps_of(known, head)
    rng = np.random.default_rng([head.seed, 11])
    parts, targets, n_events = [], [], 0
    size = _patch_size(known, head, frames, network)
    for movie, time in truth.samples:
        if any(time + step not in frames[movie].times for step in steps):
            continue
        labels, seen = truth.read(movie, time)
        if labels.shape != frames[movie].movie.shape:
            raise DataError(
                f"Learning events failed: labels of frame {time} have {labels.shape} pixels, the movie {frames[movie].movie.shape}."
            )
        everywhere = np.ones(labels.shape, bool) if seen is None else seen
        n_events += len(np.unique(labels[labels > 0]))
        places = _drawn(labels > 0, everywhere, time, rng)
        if not len(places.t):
            continue  # nothing of this frame is known
        both = np.stack([_shrunk(labels > 0, known.shrink), _shrunk(everywhere, known.shrink)])
        targets.append(cut(_still(both), places, frames[movie], size=size, steps=(0,), shrink=known.shrink)[:, 0])
        parts.append((np.full(len(places.t), movie), places, np.full(len(places.t), int(labels.any()))))
    if not n_events:
        raise DataError(
            f"Learning events failed: {len(truth.samples)} frames are annotated, but none with a later frame holds an event."
        )
    column = {name: np.concatenate([getattr(p, name) for _, p, _ in parts]) for name in ("t", "centre", "covariance")}
    return Examples(
        np.concatenate([movie for movie, _, _ in parts]),
        column["t"],
        column["centre"],
        column["covariance"],
        np.concatenate([label for _, _, label in parts]),
        ("nothing", "event"),
        "events",
    ), torch.cat(targets)


def _to_cut(patches: Examples) -> Examples:
    """Return what blocks of frames are cut by: frames with events, where they are the rarer ones, else all alike."""
    event = patches.label > 0
    rare = np.count_nonzero(event) < np.count_nonzero(~event)
    return patches if rare else replace(patches, label=np.ones_like(patches.label))


def _patch_size(
    config: TapConfig, head: HeadConfig, frames: Sequence[Frames], network: Weights | None
) -> tuple[int, ...]:
    dimensions = len(network.header["network"]["pools"][0]) if network else (config.dimensions or 2)
    if dimensions == 2:
        return (head.patch, head.patch)
    voxel = voxel_of(frames[0].movie, config)
    return (head.patch_depth or max(round(head.patch * voxel[1] / voxel[0]), 4), head.patch, head.patch)


def _drawn(events: Bool, known: Bool, time: int, rng: np.random.Generator) -> Places:
    inner, outer = np.argwhere(events & known), np.argwhere(known & ~events)
    chosen = [part[rng.integers(len(part), size=PATCHES // 2)] for part in (inner, outer) if len(part)]
    centre = np.concatenate(chosen) if chosen else np.empty((0, 3))
    return Places.of(np.full(len(centre), time), centre, np.tile(np.eye(3), (len(centre), 1, 1)))


def _still(image: npt.NDArray[Any]) -> Parts:
    def parts(time: int) -> Iterator[tuple[Region, F32]]:
        whole: Any = tuple(slice(0, n) for n in image.shape[1:])
        yield whole, image.astype(np.float32)

    return parts


def _shrunk(mask: Bool, k: int) -> Bool:
    """Return a mask (Z, Y, X) of pixels at least half of which are set."""
    if k == 1:
        return mask
    z, y, x = mask.shape
    wide = np.pad(mask, ((0, 0), (0, -y % k), (0, -x % k)), mode="edge").astype(np.float32)
    return np.asarray(wide.reshape(z, -(-y // k), k, -(-x // k), k).mean(axis=(2, 4)) >= 0.5)


def _learn(work: Work, targets: Tensor, rows: I64) -> Steps[State]:
    chosen = torch.from_numpy(rows)
    seen, wanted = work.seen(training=False)[chosen], targets[chosen]
    augment = work.view.head.augment

    def loss(logits: Tensor, picked: Tensor, pose: int) -> Tensor:
        target = posed(wanted[picked], pose) if augment else wanted[picked]
        event, known = target.to(logits.device).unbind(1)
        each = functional.binary_cross_entropy_with_logits(logits, event, reduction="none")
        chance = torch.sigmoid(logits) * known
        dice = (2 * (chance * event).sum() + SOFT) / (chance.sum() + (event * known).sum() + SOFT)
        return (each * known).sum() / known.sum().clamp(min=1) + 1 - dice

    return (yield from work.learner.trained(seen, np.ones(len(rows)), loss))


def _crossed(work: Work, truth: EventTruth, targets: Tensor, folds: list[Fold]) -> Steps[dict[str, Any]]:
    """Judge on frames that were not learned from."""
    pixels: list[tuple[Bool, F32]] = []
    true: list[npt.NDArray[Any]] = []
    found: list[npt.NDArray[Any]] = []
    for number, fold in enumerate(folds):
        state = yield from _learn(work, targets, fold.train)
        held = {(int(work.examples.movie[row]), int(work.examples.t[row])) for row in fold.test}
        embedder = Embedder(Weights(({**work.network_state, **state},), header_of(work, KIND)), work.config)
        for movie, time in sorted(held):
            labels, known = truth.read(movie, time)
            probability = _marked(work.learner, state, embedder, work.frames[movie], time)
            chosen = slice(None) if known is None else known
            pixels.append((np.ravel(labels[chosen] > 0), np.ravel(probability[chosen])))
            if known is None:
                true.append(labels)
                found.append(events_of(probability, work.view.head))
        yield Progress(f"judge {work.view.head.mode}", number + 1, len(folds))
    event, chance = (np.concatenate(column) for column in zip(*pixels, strict=True))
    every = -(-len(event) // MOST_PIXELS)
    verdict: dict[str, Any] = {"folds": len(folds), "iou": work.view.head.iou}
    if event[::every].any():
        curve = precision_recall(event[::every], chance[::every])
        verdict |= {
            "pixel_average_precision": round(curve.average_precision, 6),
            "pixel_chance": round(curve.chance, 6),
        }
    if true:
        share = average_precision(true, found, [work.view.head.iou])[work.view.head.iou]
        verdict["f1"] = round(2 * share / (1 + share), 6)  # from TP / (TP + FP + FN)
    return verdict


@torch.no_grad()
def _marked(learner: Learner, state: State, embedder: Embedder, frames: Frames, time: int) -> F32:
    """Return the probability map of a frame in pixels of the movie; tile by tile, each with as much around it as the head sees."""
    view, shape = learner.view, frames.shape
    module: Any = learner.module(state).eval()

    def seen(at: int, region: Region) -> F32:
        if view.head.mode == "pixels":
            return frames.region(at, region)
        return embedder.window(lambda part: frames.region(at, part), shape, region)

    found = np.empty(shape, dtype=np.float32)
    for inside, around in _tiles(shape, learner.form["pools"]):
        x = torch.from_numpy(np.stack([seen(time + step, around) for step in view.steps]))  # (T, F, Z, Y, X)
        x = x.movedim(2, 0) if len(view.crop) == 2 else x[None]
        chance = torch.sigmoid(module["head"](x.to(learner.place.device)).float()).cpu().view(*_lengths(around)).numpy()
        kept = tuple(slice(i.start - a.start, i.stop - a.start) for i, a in zip(inside, around, strict=True))
        found[inside] = chance[kept]
    k, (_, n_y, n_x) = view.config.shrink, frames.movie.shape
    return np.asarray(np.repeat(np.repeat(found, k, axis=1), k, axis=2)[:, :n_y, :n_x])


def _tiles(shape: Sequence[int], pools: Sequence[Sequence[int]]) -> Iterator[tuple[Region, Region]]:
    """Yield regions that cover a frame (Z, Y, X), and what a head with these poolings has to see for them."""
    planar = len(pools[0]) == 2  # planes one by one
    multiple = [1] * planar + [prod(pool[axis] for pool in pools) for axis in range(len(pools[0]))]
    halo = [-(-r // m) * m for r, m in zip([0] * planar + list(reach(pools)), multiple, strict=True)]
    pieces = [shape[0] if planar else 1, 1, 1]
    while True:
        core = [-(-n // (m * k)) * m for n, m, k in zip(shape, multiple, pieces, strict=True)]
        if prod(core) <= MOST_AT_ONCE or core == multiple:
            break
        pieces[int(np.argmax([c if c > m else 0 for c, m in zip(core, multiple, strict=True)]))] += 1
    for start in product(*(range(0, n, c) for n, c in zip(shape, core, strict=True))):
        yield _region(start, core, [0, 0, 0], shape), _region(start, core, halo, shape)


def _region(start: Sequence[int], core: Sequence[int], halo: Sequence[int], shape: Sequence[int]) -> Region:
    z, y, x = (slice(max(s - h, 0), min(s + c + h, n)) for s, c, h, n in zip(start, core, halo, shape, strict=True))
    return z, y, x


def _lengths(region: Region) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in region)
