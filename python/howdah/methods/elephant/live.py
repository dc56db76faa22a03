"""Training that goes on while annotation arrives (paper: interactive training mode)."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bdv_io.tracks import Tracks
from howdah import __version__
from howdah.errors import DataError
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.samples import Affine, Frames, MarkedFrame, Samples
from howdah.methods.elephant.status import Status, spot_status
from howdah.methods.elephant.train import LAST, METHOD, _Run, calibrated, fingerprint, following, sized
from howdah.nn.checkpoint import Weights, save_weights
from howdah.nn.device import Place
from howdah.nn.fit import means, place_to_train
from howdah.progress import Progress

F64 = npt.NDArray[np.float64]
Rows = Mapping[int, F64]
"""Frame -> its marks, sorted rows of centre, covariance and status: equal where nothing has changed."""

__all__ = ["Pace", "live"]

log = logging.getLogger("howdah")

GROWN = 2  # what is left to be decided is decided anew once there are this many times as many marks
WARM_UP = 10  # steps after beginning from weights without the moments of their training
COOL_DOWN = 0.5  # share of a training in which steps become smaller
SMALLEST = 0.05  # size of the last steps, relative to the first
FAVOUR = 4  # a changed mark is this many times as likely to be in the middle of a crop as another one of its frame


@dataclass(frozen=True)
class Pace:
    """How long training goes on, and what it looks at.

    Attributes:
        epochs: Passes after each news; then it pauses until there are further news. None: it goes on for ever.
        seconds: No step is begun later than this after the news (one is always made); None: no limit.
        rehearsal: Frames without news that are seen in a pass, for each frame with news: what was learned before is not
            forgotten. ``inf``: all marked frames, each time (the paper's batch mode).
        save_every_s: Seconds between two savings of the weights.
        ends: End with the first pause, instead of waiting for news.
        poll_s: Seconds between two questions for news while there is nothing to do.
    """

    epochs: int | None = None
    seconds: float | None = None
    rehearsal: float = 1.0
    save_every_s: float = 30.0
    ends: bool = False
    poll_s: float = 0.2


def live(
    frames: Frames,
    news: Callable[[], Tracks | None],
    config: ElephantConfig,
    *,
    affine: Affine,
    pace: Pace | None = None,
    start: Weights | None = None,
    before: Tracks | None = None,
    save_to: Path | None = None,
) -> Generator[Progress, None, Weights]:
    """Train on marks that change while it runs; a generator: each ``next`` is one step, closing it ends the training.

    Before each pass ``news`` is asked. New annotation changes the labels of the frames in which marks were added, moved,
    removed or tagged otherwise; the network and the optimiser's moments go on. A pass sees ``n_crops`` crops of each frame
    with news, most of them around the marks that changed, and as many of other marked frames as :class:`Pace` says.

    Args:
        frames: Reads a frame of the movie, (Z, Y, X), any type; called for marked frames only.
        news: Returns the whole annotation, world coordinates, where it has changed since the last call, else None. The
            first call must return one.
        config: Settings; ``n_epochs`` is not used. What is left open is decided from the first annotation, and again
            when there are twice as many marks.
        affine: 4x4, voxels to world, one for all frames or by frame.
        pace: How long, and what of.
        start: Weights to go on from; of an ensemble the first. Frames are normalised as for them where the settings leave it
            open. From nothing, prior training comes first if it is on.
        before: The annotation that ``start`` has learned: what differs from it in the first annotation are the news.
            None: all of it is new.
        save_to: Where the weights are kept up to date; each version replaces the one before as a whole, so that another
            process may predict with them meanwhile. They are written with each pause and when the generator is closed.

    Returns:
        The weights, if ``pace.ends``.

    Raises:
        DataError: The first annotation has nothing to train on, or the loss broke down; the weights saved are intact.
        ConfigError: Device or settings do not fit. WeightsError: The folder of ``save_to`` is not there.
    """
    place = place_to_train(config.device, precision=config.precision, save_to=save_to)
    first = news()
    if first is None:
        raise DataError("Live training was started without an annotation: the first news must be one.")
    samples = _LiveSamples(frames, first, affine, following(start, config))
    samples.decide()
    if start is not None and before is not None:
        samples.differ_from(_rows_of(before))
    session = _Session(samples, pace or Pace(), start, save_to=save_to, place=place)
    return (yield from session.go_on(news))


@dataclass
class _LiveSamples(Samples):
    """Crops that favour what a person changed last. ``times`` is the plan of a pass: some frames, in turn.

    Attributes:
        marked_times: All frames with marks.
        focus: Those with news.
        changed: Frame -> rows of its marks that are news.
        decided_with: Number of marks that the open settings were decided from.
    """

    asked: ElephantConfig = field(init=False)
    marked_times: list[int] = field(default_factory=list, init=False)
    focus: list[int] = field(default_factory=list, init=False)
    changed: dict[int, F64] = field(default_factory=dict, init=False)
    decided_with: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        order = _order(self.marks)  # the order of spots decides where crops lie
        self.marks, self.status = self.marks.select(order), self.status[order]
        self.asked = self.config
        self.marked_times, self.focus = list(self.times), list(self.times)

    def decide(self) -> None:
        """Decide what the settings leave open, from the marks that there are now."""
        self.config = self.asked
        self.config, self.decided_with = self.resolved(), self.marks.n_spots

    def after(self, tracks: Tracks) -> _LiveSamples:
        """Return the samples of a changed annotation; frames that did not change keep their labels and stay in memory.

        Raises:
            DataError: There is nothing to train on any more, or a frame's marks all lie outside of it.
        """
        fresh = type(self)(self.frames, tracks, self.affine, self.asked)
        fresh.config, fresh.decided_with = self.config, self.decided_with
        if fresh.marks.n_spots >= GROWN * self.decided_with:
            fresh.decide()
        changed = fresh.differ_from(_rows_of(self.marks))
        if fresh.config == self.config:
            same = [time for time in self._kept if time in fresh.marked_times and time not in changed]
            fresh._kept.update((time, self._kept[time]) for time in same)
        for number in changed:
            fresh.marked(number)  # what is wrong with it is found here, before the old samples are given up
        return fresh

    def differ_from(self, known: Rows) -> list[int]:
        """Take what differs from these marks for the news, all of them if nothing does; return the frames that differ."""
        now = _rows_of(self.marks)
        none = np.empty((0, 13))
        differs = [time for time in self.marked_times if not np.array_equal(known.get(time, none), now[time])]
        self.focus = differs or list(self.marked_times)
        self.changed = {time: _new_rows(known.get(time, none), now[time]) for time in differs}
        return differs

    def marked(self, time: int) -> MarkedFrame:
        """Return a marked frame; marks that are news stand in it several times, so that crops lie around them."""
        was_kept = time in self._kept
        frame = super().marked(time)
        rows = self.changed.get(time, np.empty((0, 13)))
        if was_kept or not len(rows):
            return frame
        to_voxel, shape = np.linalg.inv(frame.affine), np.asarray(frame.image.shape)
        voxel = rows[:, :3] @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        inside = ((voxel > -1) & (voxel < shape)).all(axis=1)
        again = np.repeat(np.clip(voxel[inside], 0, shape - 1), FAVOUR - 1, axis=0)
        self._kept[time] = frame = replace(frame, marks=np.concatenate([frame.marks, again]))
        return frame

    def plan(self, number: int, rehearsal: float) -> int:
        """Choose the frames of a pass, those with news and some of the others; return the number of its steps."""
        others = np.setdiff1d(self.marked_times, self.focus)
        wanted = int(min(np.ceil(rehearsal * len(self.focus)), len(others)))
        rng = np.random.default_rng([self.config.seed, 4, number])
        self.times = [*self.focus, *rng.permutation(others)[:wanted].tolist()]
        return -(-self.config.n_crops * len(self.times) // self.config.batch_size)


def _table(tracks: Tracks) -> F64:
    return np.column_stack([tracks.centre, tracks.covariance.reshape(-1, 9), spot_status(tracks)])


def _order(tracks: Tracks) -> npt.NDArray[np.intp]:
    """Rows by frame, place, shape and status."""
    return np.lexsort((*_table(tracks).T[::-1], tracks.t))


def _rows_of(tracks: Tracks) -> dict[int, F64]:
    """The marks of each frame; predictions that nobody looked at are none."""
    marks = tracks.select(spot_status(tracks) != Status.UNLABELLED)
    marks = marks.select(_order(marks))
    times, first = np.unique(marks.t, return_index=True)
    return dict(zip(times.tolist(), np.split(_table(marks), first[1:]), strict=True)) if len(times) else {}


def _new_rows(before: F64, now: F64) -> F64:
    known = {row.tobytes() for row in before}
    fresh: F64 = now[np.array([row.tobytes() not in known for row in now], dtype=bool)]
    return fresh


class _LiveRun(_Run):
    """A step of training whose size is set from outside, relative to the learning rate."""

    factor = 1.0

    def _rate(self, number: int) -> float:
        """The numbers of steps have no end here that a step size could be planned by."""
        return self.config.learning_rate

    def _descend(self, loss: torch.Tensor, rate: float) -> None:
        super()._descend(loss, rate * self.factor)


class _Session:
    """A network that learns, again and again, from samples that change."""

    def __init__(
        self, samples: _LiveSamples, pace: Pace, start: Weights | None, *, save_to: Path | None, place: Place
    ) -> None:
        self.samples, self.pace, self.start, self.save_to = samples, pace, start, save_to
        self.place = place
        self.run = _LiveRun(samples, self.place, start)
        self.warm_up = WARM_UP if start is not None else 0
        self.passes = int(start.header.get("passes", 0)) if start is not None else 0
        self.steps = self.unsaved = 0
        self.size_factor = samples.config.size_factor
        if start is not None and len(start.members) > 1:
            log.warning(
                "The weights to start from are an ensemble of %d networks; the loop trains the first of them only.",
                len(start.members),
            )
        self.saved_at = time.monotonic()
        self.curve: deque[Mapping[str, float]] = deque(maxlen=LAST)

    def go_on(self, news: Callable[[], Tracks | None]) -> Generator[Progress, None, Weights]:
        """Learn, pause, ask for news, for ever or until the first pause."""
        try:
            yield Progress("train", 0, self._total(), message=self.place.sentence)
            yield from self._prior()
            while True:
                yield from self._learn(news)
                if self.pace.ends:
                    self.size_factor = sized(self.weights(), self.samples.config, self.samples).size_factor
                self._save()
                if self.pace.ends:
                    return self.weights()
                while not (yield from self._absorb(news())):
                    time.sleep(self.pace.poll_s)
                    yield Progress("wait", 0, 0)
        except GeneratorExit:
            self._save()
            raise

    def weights(self) -> Weights:
        """The network as it is now, with what is known of it."""
        samples = self.samples
        planned, samples.times = samples.times, samples.marked_times
        data = {
            "marks": samples.marks.n_spots,
            "frames": samples.times,
            "fingerprint": fingerprint(samples, self.start),
        }
        samples.times = planned
        header = {
            "method": METHOD,
            "version": __version__,
            "config": samples.asked.model_dump(mode="json"),
            "resolved": samples.config.but(size_factor=self.size_factor).model_dump(mode="json"),
            "data": data,
            "metrics": means(self.curve),
            "steps": self.steps,
            "passes": self.passes,
            "start": self.start.sha256 if self.start is not None else None,
            "device": str(self.place.device),
            "precision": str(self.place.precision),
            **calibrated(self.start),
        }
        return Weights((self.run.weights(),), header)

    def _total(self) -> int:
        samples, pace = self.samples, self.pace
        return (pace.epochs or 0) * samples.plan(self.passes, pace.rehearsal)

    def _prior(self) -> Generator[Progress, None, None]:
        for number in range(len(self.run.prior)):
            yield self._counted(self.run.step(number), number + 1, len(self.run.prior))
        if self.run.prior:
            self.run.optimiser = self.run._adam()  # the moments of the prior training belong to another loss

    def _learn(self, news: Callable[[], Tracks | None]) -> Generator[Progress, None, None]:
        began, done, epoch = time.monotonic(), 0, 0
        while self.pace.epochs is None or epoch < self.pace.epochs:
            if done and (yield from self._absorb(news())):
                began, done, epoch = time.monotonic(), 0, 0
            steps = self.samples.plan(self.passes, self.pace.rehearsal)
            first = (
                self.passes * self.samples.config.n_crops * len(self.samples.times)
            )  # begins an epoch of the samples
            self.passes, epoch = self.passes + 1, epoch + 1
            for number in range(steps):
                if done and self.pace.seconds is not None and time.monotonic() - began >= self.pace.seconds:
                    return
                self.run.factor = self._factor(epoch - 1 + number / steps, time.monotonic() - began)
                values = self.run._detection_step(first + number)
                done += 1
                yield self._counted(values, done, (self.pace.epochs or 0) * steps)

    def _factor(self, epochs: float, seconds: float) -> float:
        """Size of a step relative to the learning rate: small at first, while the moments of weights that come from a file are
        still unknown, and falling in a straight line over the second half of what is to be done, so that weights settle."""
        shares = [epochs / self.pace.epochs] if self.pace.epochs is not None else []
        shares += [seconds / max(self.pace.seconds, 1e-9)] if self.pace.seconds is not None else []
        left = 1 - max(shares, default=0.0)
        settling = min(left / COOL_DOWN, 1.0)
        return max(settling, SMALLEST) * min((self.steps + 1) / (self.warm_up + 1), 1.0)

    def _counted(self, values: Mapping[str, float], done: int, total: int) -> Progress:
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise DataError(
                f"The training broke down at step {self.steps + 1}: {', '.join(broken)} is no longer a number. Lower the "
                "learning rate, or compute in float32; the weights saved last are intact."
            )
        self.steps, self.unsaved = self.steps + 1, self.unsaved + 1
        self.curve.append(values)
        if time.monotonic() - self.saved_at >= self.pace.save_every_s:
            self._save()
        return Progress("train", done, max(total, done), values=values)

    def _absorb(self, tracks: Tracks | None) -> Generator[Progress, None, bool]:
        """Take in a new annotation; say so. One that teaches nothing leaves everything as it was, but for a sentence."""
        if tracks is None:
            return False
        try:
            self.samples = self.run.samples = self.samples.after(tracks)
        except DataError as error:
            yield Progress("train", 0, 0, message=f"The new annotation is not learned. {error}")
            return False
        self.run.config = self.samples.config
        number, focus = self.samples.marks.n_spots, self.samples.focus
        yield Progress(
            "train", 0, self._total(), message=f"New annotation: {number} marks, news in frames {_few(focus)}."
        )
        return True

    def _save(self) -> None:
        if self.save_to is not None and self.unsaved:
            save_weights(self.save_to, self.weights())
            self.unsaved = 0
        self.saved_at = time.monotonic()


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (" ..." if len(numbers) > 10 else "")
