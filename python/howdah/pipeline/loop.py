"""The incremental loop (paper: interactive mode): a person saves, the machine learns, predicts and merges; she reopens.

The result takes the place of the project, so that Mastodon reopens it, unless she has saved again meanwhile: then her new
save is left alone and is what the next cycle starts from. Two copies, of the project as it was read and as it was written,
tell the next cycle what she said about the predictions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from bdv_io import BusyError, Tracks
from bdv_io.formats import identify, write_tracks
from bdv_io.safe_write import replacing
from howdah.config import Settings
from howdah.errors import DataError
from howdah.linking import LinkingConfig
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.judge import Review, judge, present, still_refused, with_refused
from howdah.methods.elephant.merge import merge, replaceable
from howdah.methods.elephant.status import Status, spot_status
from howdah.pipeline.detection import Job, _marks, _needs_torch, detector_of
from howdah.pipeline.flow import estimate_of
from howdah.pipeline.loop_picture import draw_cycles
from howdah.pipeline.loop_state import (
    Cycle,
    Files,
    State,
    copy_file,
    digest,
    read_version,
    refuse_other_projects,
    write_table,
)
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.sources import Source, check_target, parse_frames
from howdah.pipeline.tracking import linked_anew
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods import Spots
    from howdah.nn.checkpoint import Weights

__all__ = ["Loop", "LoopConfig", "cycle", "once"]

Sections = Mapping[str, Mapping[str, Any]]
ATTEMPTS = 3
SECONDS = 40.0


class LoopConfig(Settings):
    """How a cycle of the incremental loop divides its time, and what it makes of a person's work."""

    epochs: int = Field(
        8,
        ge=1,
        le=100_000,
        description="Passes over the frames with news in a cycle that goes on from weights (n_epochs wins where it is "
        "set). The first training has as many as n_epochs says.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="No training step is begun later than this in a cycle; seconds. Automatic: 40 where it goes on from weights; "
        "the first training, from nothing, is not cut short.",
    )
    rehearsal: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Marked frames without news that a pass looks at, for each frame with news, so that nothing is forgotten.",
    )
    ahead: int = Field(
        2, ge=0, le=10_000, description="Frames after one with news that are predicted, too; a number of frames."
    )
    most_frames: int = Field(
        6,
        ge=1,
        le=1_000_000,
        description="Most frames that are predicted in a cycle unless they are chosen; those with most news come first.",
    )
    update_status: bool = Field(
        True,
        description="Tag a person's spots in the predicted frames by whether they were predicted: tp or fn, fp or tn, fb or tb. "
        "Decides their weight in the next training.",
    )
    refuse_deleted: bool = Field(
        True,
        description="A prediction that a person deletes is learned as a wrong one, and does not come back in that place.",
    )


@dataclass(frozen=True)
class Loop:
    """An incremental loop on a project.

    Attributes:
        job: The project; ``frames`` limits the marks that are learned from.
        out: Where the merged project goes; None: in place, the former version is kept as ``name~1~``.
        weights: Weights that are trained further in each cycle; None: beside the project, ``name-loop.safetensors``.
        start: Weights to start from where there are none of the loop yet.
        predict_frames: Frames to predict, ``"0-4,9"``; None: those a person works on.
        all_frames: Learn from all marked frames alike (the paper's batch mode), instead of favouring those with news.
        link: Also link the spots of the predicted frames and their neighbours.
        flow: Weights of the flow network, ours or published, that links follow; with ``link`` only.
        settings: ``{"elephant": {...}, "loop": {...}, "linking": {...}, "flow": {...}}``.
    """

    job: Job
    out: str | os.PathLike[str] | None = None
    weights: str | os.PathLike[str] | None = None
    start: str | os.PathLike[str] | None = None
    predict_frames: str | None = None
    all_frames: bool = False
    link: bool = False
    flow: str | os.PathLike[str] | None = None
    settings: Sections = field(default_factory=dict)

    @property
    def config(self) -> LoopConfig:
        """Settings of the loop."""
        return LoopConfig.of(self.settings.get("loop", {}))

    @property
    def files(self) -> Files:
        """Where everything lies."""
        return Files.of(self.job.source, out=self.out, weights=self.weights)


def once(loop: Loop) -> Steps[dict[str, Any]]:
    """Do one cycle; if the project is saved again meanwhile, begin it anew from there.

    Returns:
        The facts of the cycle (see :class:`Cycle`), and the files.

    Raises:
        BusyError: The project was saved again and again. What was saved is as it was saved.
        DataError: There is nothing to train on. BdvIoError, ConfigError, WeightsError: As the sentence says.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return (yield from cycle(loop))
        except BusyError as error:
            yield Progress("cycle", 0, 0, message=f"Beginning anew. {error}")
    return (yield from cycle(loop))


def cycle(loop: Loop) -> Steps[dict[str, Any]]:
    """Read the project, learn what is new, predict, merge, write. Stopped at any moment, it leaves all files whole.

    Raises:
        BusyError: The project was saved again while this ran; nothing was written but weights.
        DataError, BdvIoError, ConfigError, WeightsError: As the sentence says; the project is as it was.
    """
    began = time.perf_counter()
    files = loop.files
    refuse_other_projects(files.project, identify(files.project).key)
    source, frames = loop.job.open()
    check_target(files.out, source, in_place=True)
    check_target(files.weights, source, ending=".safetensors")
    state = State.load(files.state)
    look = _Look.at(source, files, state)
    named = {name: Path(file) for name, file in (("start", loop.start), ("flow", loop.flow)) if file is not None}
    inputs = {**source.inputs, **named}
    estimate = estimate_of(source, loop.flow, loop.settings) if loop.link and loop.flow is not None else None
    with recorded(files.out, "loop", inputs=inputs, settings=loop.settings) as record:
        trained = yield from _learn(loop, look, frames)
        record.facts |= {"weights": fingerprint(files.weights), "losses": dict(trained.header["metrics"])}
        train_s = time.perf_counter() - began
        chosen = _chosen(loop, look)
        found, distance, device = yield from _predict(loop, look, chosen)
        record.facts["device"] = device
        merged, kept = _merged(loop, look, found, distance)
        if loop.link:
            beside = {other for frame in found for other in (frame - 1, frame, frame + 1)}
            config = LinkingConfig.of(loop.settings.get("linking", {}))
            near = sorted(beside & set(range(source.image.n_frames)))
            merged = yield from linked_anew(merged, config, near, estimate=estimate)
        seconds = time.perf_counter() - began
        row = Cycle(
            cycle=len(look.cycles) + 1,
            ended=datetime.now(tz=UTC).isoformat(timespec="seconds"),
            frames=tuple(sorted(found)),
            nuclei=int(_nuclei(look.tracks).sum()),
            found=_share_found(merged, sorted(found)) if loop.config.update_status else None,
            predictions=merged.n_spots - kept,
            steps=int(trained.header["steps"]),
            loss=float(trained.header["metrics"].get("loss", np.nan)),
            train_s=round(train_s, 2),
            predict_s=round(seconds - train_s, 2),
            total_s=round(seconds, 2),
        )
        _land(files, look, merged, State((*look.cycles, row), look.number + 1, look.digest, "", kept, look.refused))
        record.facts |= {"cycle": row.cycle, "spots": merged.n_spots}
    write_table(files.table, (*look.cycles, row))
    draw_cycles(files.plot, (*look.cycles, row), title=files.project.name)
    return _facts(files, look, row)


@dataclass(frozen=True, eq=False)
class _Look:
    """A project as a cycle found it, and what has happened to it since the one before.

    Attributes:
        tracks: The annotation, with what a person moved tagged as hers.
        before: What was learned before, None if nothing was. cycles: The cycles so far, judged.
        changes: Frame -> number of news. digest: Of the file. number: Of the last cycle's versions.
    """

    source: Source
    tracks: Tracks
    before: Tracks | None
    refused: Tracks
    cycles: tuple[Cycle, ...]
    changes: Mapping[int, int]
    digest: str
    number: int

    @classmethod
    def at(cls, source: Source, files: Files, state: State) -> _Look:
        copy_file(files.project, files.fresh)
        _refuse_if_saved_again(source.tracks, files)  # else the copy is another version than was read
        now = digest(files.fresh)
        written, read = read_version(files.written(state.number)), read_version(files.read(state.number))
        if written is None or read is None or not state.cycles:
            cycles, refused = state.cycles, _in_unit(state.refused, source)
            return cls(source, source.tracks, None, refused, cycles, {}, now, state.number)
        undone = files.in_place and now == state.read and now != state.written
        reopened = not undone and (now == state.written or _is_from(written, state.kept, read, source.tracks))
        base = written if reopened else read  # she went on in the window that was open, and saved
        cycles, refused = state.cycles, _in_unit(state.refused, source)
        review: Review = judge(base, source.tracks)
        if reopened and review.changes:
            said = review.judgement
            facts = {name: getattr(said, name) for name in JUDGED}
            cycles = (*cycles[:-1], replace(cycles[-1], **facts))
        elif undone:
            cycles = cycles[:-1]  # the last cycle was undone, or killed before its result stood there
        grown = still_refused(refused.concatenate(review.refused), review.tracks)
        before = with_refused(base, refused)
        return cls(source, review.tracks, before, grown, cycles, review.changes, now, state.number)


JUDGED = ("validated", "moved", "rejected", "deleted", "untouched", "missed", "precision", "recall")


def _is_from(written: Tracks, kept: int, read: Tracks, now: Tracks) -> bool:
    """Whether a project was made from what the loop wrote, and not from what it had read: it has some of the predictions that
    were new then. Where there were none, that is taken for granted."""
    fresh = written.select(np.arange(min(kept, written.n_spots), written.n_spots))
    fresh = fresh.select(~present(fresh, read))
    return not fresh.n_spots or bool(present(fresh, now).any())


def _in_unit(refused: Tracks, source: Source) -> Tracks:
    return replace(refused, space_unit=source.tracks.space_unit)


def _nuclei(tracks: Tracks) -> Any:
    return np.isin(spot_status(tracks), [Status.TP, Status.FN])


def _share_found(merged: Tracks, frames: list[int]) -> float | None:
    """Share of a person's nuclei in these frames that were predicted, by their tags."""
    here = spot_status(merged)[np.isin(merged.t, frames)]
    nuclei = np.isin(here, [Status.TP, Status.FN])
    return round(float((here[nuclei] == Status.TP).mean()), 4) if nuclei.any() else None


def _learn(loop: Loop, look: _Look, frames: list[int]) -> Steps[Weights]:
    """Train on the marks, from the loop's last weights; stop, with the weights saved, when the project is saved again."""
    with _needs_torch():
        from howdah.methods.elephant.live import Pace, live
        from howdah.methods.elephant.predict import read_weights

    files, image, setup = loop.files, look.source.image, look.source.setup
    refused = look.refused if loop.config.refuse_deleted else Tracks.empty(space_unit=look.tracks.space_unit)
    refused = refused.select(np.isin(refused.t, frames) & (refused.t < image.n_frames))
    marks = with_refused(_marks(replace(look.source, tracks=look.tracks), frames), refused)
    given = dict(loop.settings.get("elephant", {}))
    config = ElephantConfig.of(given)
    first = files.weights if files.weights.is_file() else loop.start
    epochs = config.n_epochs if first is None or "n_epochs" in given else loop.config.epochs
    rehearsal = np.inf if loop.all_frames else loop.config.rehearsal
    before = look.before.select(np.isin(look.before.t, frames)) if look.before is not None else None
    seconds = loop.config.seconds or (None if first is None else SECONDS)
    queue = iter((marks,))
    steps = live(
        look.source.reader(config.temporal_mean),
        lambda: next(queue, None),
        config,
        affine=lambda frame: image.affine(frame, setup),
        pace=Pace(epochs, seconds=seconds, rehearsal=rehearsal, ends=True),
        start=None if first is None else read_weights(first),
        before=before,
        save_to=files.weights,
    )
    last = _times(files.project)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            yield step
            if _times(files.project) != last:
                last = _times(files.project)
                _refuse_if_saved_again(look.source.tracks, files)
        except (GeneratorExit, BusyError):
            steps.close()
            raise


def _times(file: Path) -> tuple[int, int] | None:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


def _refuse_if_saved_again(tracks: Tracks, files: Files) -> None:
    if tracks.origin is not None and files.project.exists():
        try:
            tracks.origin.check(files.project)
        except BusyError:
            raise BusyError(
                f"{files.project} was saved again while a cycle was at work. The new save stays as it is; what was predicted from the "
                "one before is given up."
            ) from None


def _chosen(loop: Loop, look: _Look) -> list[int]:
    """The frames to predict: those that are asked for, else those with most news and the next few."""
    n, config = look.source.image.n_frames, loop.config
    if loop.predict_frames is not None:
        return parse_frames(loop.predict_frames, n)
    news = {frame: count for frame, count in look.changes.items() if frame < n}
    last = [frame for frame in look.cycles[-1].frames if frame < n] if look.cycles else []
    if not news and last:
        return last
    if not news:
        frames, counts = np.unique(look.tracks.t[_nuclei(look.tracks)], return_counts=True)
        news = dict(zip(frames.tolist(), counts.tolist(), strict=True))
    chosen: dict[int, None] = {}
    for frame in sorted(news, key=lambda frame: (-news[frame], -frame)):
        chosen |= dict.fromkeys(range(frame, min(frame + config.ahead + 1, n)))
    return sorted(list(chosen)[: config.most_frames])


def _predict(loop: Loop, look: _Look, frames: list[int]) -> Steps[tuple[dict[int, Spots], float, str]]:
    """Find the nuclei of some frames; return them by frame, the suppression distance, and the device."""
    image, setup = look.source.image, look.source.setup
    detector = detector_of(loop.files.weights, loop.settings)
    read = look.source.reader(detector.config.temporal_mean)
    found: dict[int, Spots] = {}
    yield Progress("detect", 0, len(frames))
    for number, frame in enumerate(frames):
        if not image.is_missing(frame, setup):
            found[frame] = detector.predict_spots(read(frame), image.affine(frame, setup))
        yield Progress("detect", number + 1, len(frames), values={"nuclei": float(len(found.get(frame, ())))})
        _refuse_if_saved_again(look.source.tracks, loop.files)
    if not found:
        raise DataError(f"Nothing was predicted in {loop.files.project}: the frames {frames} are missing in its movie.")
    return found, detector.config.suppression_distance or 0.0, str(detector.place.device)


def _merged(loop: Loop, look: _Look, found: Mapping[int, Spots], distance: float) -> tuple[Tracks, int]:
    """Merge; return the annotation, and how many of its spots were there before."""
    tracks = look.tracks
    merged = merge(
        tracks,
        found,
        suppression_distance=distance,
        update_status=loop.config.update_status,
        refused=look.refused if loop.config.refuse_deleted else None,
    )
    gone = replaceable(tracks) & np.isin(tracks.t, list(found))
    return merged, tracks.n_spots - int(gone.sum())


def _land(files: Files, look: _Look, merged: Tracks, state: State) -> None:
    """Put everything in its place: the copies, the state, and at last the project, unless it has been saved again.

    Killed before the project is replaced, the state speaks of a cycle whose result is not there: the next one sees that the
    project is still the one that was read, and repeats it.
    """
    copy_file(files.fresh, files.read(state.number))
    files.fresh.unlink()
    try:
        write_tracks(files.fresh, replace(merged, origin=None), image=look.source.image)
        _refuse_if_saved_again(look.source.tracks, files)
        copy_file(files.fresh, files.written(state.number))
        replace(state, written=digest(files.fresh)).save(files.state)
        with replacing(files.out, verify=lambda _: _refuse_if_saved_again(look.source.tracks, files)) as temporary:
            os.replace(files.fresh, temporary)
    finally:
        files.fresh.unlink(missing_ok=True)
    files.forget(look.number)


def _facts(files: Files, look: _Look, row: Cycle) -> dict[str, Any]:
    last = look.cycles[-1] if look.cycles else None
    judged = {name: getattr(last, name) for name in JUDGED} if last is not None and last.validated is not None else {}
    return {
        "out": str(files.out),
        "cycle": row.cycle,
        "frames": list(row.frames),
        "nuclei": row.nuclei,
        "found": row.found,
        "predictions": row.predictions,
        "steps": row.steps,
        "loss": row.loss,
        "train_s": row.train_s,
        "predict_s": row.predict_s,
        "total_s": row.total_s,
        "last_predictions": judged,
        "weights": str(files.weights),
        "table": str(files.table),
        "plot": str(files.plot),
    }
