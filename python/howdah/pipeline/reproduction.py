"""``howdah reproduce``: the tables of a method's paper, as far as public data carry, with one command.

What is run for a data set, with which settings, and what the paper measured, stands in ``published/<method>-<data set>.toml``.
Four kinds are known: "challenge" (learn one sequence of a Cell Tracking Challenge folder, track another, compute DET, TRA and
SEG), "linking" (link the true spots of a project with and without flow, and count false and missed links), "embedtrack"
(:mod:`howdah.pipeline.reproduction_embedtrack`), and "efficientcellseg" (:mod:`howdah.pipeline.reproduction_efficientcellseg`).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io import MissingDataError, Tracks
from bdv_io.ctc import read_ctc
from bdv_io.formats import identify, open_image, read_tracks, write_tracks
from bdv_io.image import Hints, ImageSeries
from bdv_io.safe_write import replacing
from howdah.errors import ConfigError
from howdah.methods.elephant.status import TRACKING, TRACKING_TAGS
from howdah.metrics import score_tracking
from howdah.pipeline.detection import Job, train
from howdah.pipeline.flow import train_flow
from howdah.pipeline.reproduction_efficientcellseg import efficientcellseg_challenge
from howdah.pipeline.reproduction_embedtrack import embedtrack_challenge
from howdah.pipeline.reproduction_scores import challenge_scores
from howdah.pipeline.tracking import link, track
from howdah.progress import Progress, Steps

__all__ = ["Reproduction", "known_reproductions", "reproduce"]

PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]
APPROVED = TRACKING_TAGS[0]


@dataclass(frozen=True)
class Reproduction:
    """What is run for one data set of a paper.

    Attributes:
        name: Name of the data set and of its folder.
        facts: The section ``[reproduction]``: kind, title, the paper's figures, and what the files do not say.
        settings: The other sections: settings of the methods.
    """

    name: str
    facts: Mapping[str, Any]
    settings: Sections


def known_reproductions(method: str) -> dict[str, Reproduction]:
    """Return the data sets of a method's paper that can be run, by name."""
    found = {}
    for file in sorted(files("howdah.pipeline").joinpath("published").iterdir(), key=lambda entry: entry.name):
        stem = file.name.removesuffix(".toml")
        if stem != file.name and stem.startswith(f"{method}-"):
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
            name = stem.removeprefix(f"{method}-")
            found[name] = Reproduction(name, tables.pop("reproduction"), tables)
    return found


def reproduce(
    method: str, data: PathLike, out: PathLike, *, dataset: str | None = None, settings: Sections | None = None
) -> Steps[dict[str, Any]]:
    """Run what a paper ran on the data sets that are there, and put our figures beside the paper's.

    Args:
        method: ``"elephant"``, ``"embedtrack"`` or ``"efficientcellseg"``.
        data: Folder that holds a folder of the data set's name (``Fluo-N3DH-CE/01``, ``01_GT``, ``01_ST``, ...), or that
            folder itself if ``dataset`` is named.
        out: Folder for weights, results and ``scores.json``; results that are there already are not computed again.
        dataset: Only this one.
        settings: Changes to the published settings, by section.

    Returns:
        For each data set the paper's figures and ours.

    Raises:
        ConfigError: Nothing is known of this method or data set. MissingDataError: No data are there.
    """
    known = known_reproductions(method)
    if not known:
        raise ConfigError(f"Nothing of '{method}' can be reproduced yet.")
    if dataset is not None and dataset not in known:
        raise ConfigError(f"There is no data set '{dataset}' of '{method}'. Known are: {', '.join(known)}.")
    chosen = [known[dataset]] if dataset else list(known.values())
    here = [(one, folder) for one in chosen if (folder := _folder(Path(data), one, named=dataset is not None))]
    if not here:
        names = " or ".join(one.name for one in chosen)
        raise MissingDataError(
            f"Reproducing '{method}' failed: {data} holds no folder {names}. Download the data set "
            "(celltrackingchallenge.net, or the address in the paper) and unpack it there."
        )
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for one, folder in here:
        merged = {**one.settings}
        for section, values in (settings or {}).items():
            merged[section] = {**merged.get(section, {}), **values}
        run = RUNS[one.facts["kind"]]
        ours = yield from run(replace(one, settings=merged), folder, target / one.name)
        report[one.name] = {"title": one.facts["title"], "paper": dict(one.facts["figures"]), "ours": ours}
        with replacing(target / "scores.json", keep_previous=False) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return {**report, "scores": str(target / "scores.json")}


def _folder(data: Path, one: Reproduction, *, named: bool) -> Path | None:
    if (data / one.name).is_dir():
        return data / one.name
    return data if named and data.is_dir() else None


def _challenge(one: Reproduction, folder: Path, out: Path) -> Steps[dict[str, Any]]:
    """Learn each sequence, track the others."""
    facts = one.facts
    hints = Hints(voxel_size=tuple(facts["voxel_size"]), unit=facts["unit"])
    sequences = [name for name in facts["sequences"] if (folder / name).is_dir()]
    learned = [name for name in sequences if (folder / f"{name}_GT").is_dir()]
    pairs = [(a, b) for a in learned for b in sequences if a != b] or [(a, a) for a in learned]
    if not pairs:
        raise MissingDataError(
            f"Reproducing {one.name} failed: {folder} holds no sequence with its truth (01 and 01_GT)."
        )
    ours: dict[str, Any] = {}
    for teacher in dict.fromkeys(a for a, _ in pairs):
        where = out / f"learned-{teacher}"
        where.mkdir(parents=True, exist_ok=True)
        job = _teaching(folder, teacher, where, hints)
        detection, flow = where / "detection.safetensors", where / "flow.safetensors"
        if not detection.is_file():
            yield from train(job, detection, settings=one.settings)
        if not flow.is_file():
            yield from train_flow(job, flow, settings=one.settings)
        for pupil in (b for a, b in pairs if a == teacher):
            result = where / f"{pupil}_RES"
            if not result.is_dir():
                movie = Job(folder / pupil, hints=hints)
                yield from track(movie, result, weights=detection, flow=flow, settings=one.settings)
            if (folder / f"{pupil}_GT").is_dir():
                ours[f"{teacher} -> {pupil}"] = challenge_scores(result, folder / f"{pupil}_GT")
                yield Progress("score", 1, 1, values=ours[f"{teacher} -> {pupil}"])
    return ours


def _teaching(folder: Path, name: str, where: Path, hints: Hints) -> Job:
    """Write what a sequence teaches as a project: nuclei as large as the silver truth says, links as the markers say."""
    movie = open_image(folder / name, hints=hints)
    truth = read_ctc(folder / f"{name}_GT", hints=hints, outlines=False)
    if (folder / f"{name}_ST").is_dir():
        truth = _resized(truth, read_ctc(folder / f"{name}_ST", hints=hints, outlines=False))
    taught = Tracks.build(
        truth.t, truth.centre, covariance=truth.covariance, links=truth.links, space_unit=truth.space_unit
    ).with_tag_set(TRACKING, TRACKING_TAGS)
    taught = taught.with_tag(TRACKING, APPROVED, links=np.arange(taught.n_links))
    project = where / "teaching.mastodon"
    write_tracks(project, taught, image=movie)
    return Job(project, image=folder / name, hints=hints)


def _resized(markers: Tracks, masks: Tracks) -> Tracks:
    """Give each marker centre and shape of the mask whose ellipsoid holds it (of several, the one it lies deepest in)."""
    from scipy.spatial import KDTree

    centre, covariance = markers.centre.copy(), markers.covariance.copy()
    for time in np.unique(markers.t):
        rows, there = np.flatnonzero(markers.t == time), np.flatnonzero(masks.t == time)
        if not len(there):
            continue
        _, near = KDTree(masks.centre[there]).query(markers.centre[rows], k=np.arange(1, min(4, len(there)) + 1))
        near = there[near]  # (R, K) masks
        away = markers.centre[rows][:, None] - masks.centre[near]
        depth = np.einsum("rki,rkij,rkj->rk", away, np.linalg.inv(masks.covariance[near]), away)
        best = depth.argmin(axis=1)
        held = depth[np.arange(len(rows)), best] <= 1
        chosen = near[np.arange(len(rows)), best][held]
        centre[rows[held]], covariance[rows[held]] = masks.centre[chosen], masks.covariance[chosen]
    return replace(markers, centre=centre, covariance=covariance)


def _linking(one: Reproduction, folder: Path, out: Path) -> Steps[dict[str, Any]]:
    """Link the spots of a finished project anew, with and without flow, and count what is false and what is missed."""
    out.mkdir(parents=True, exist_ok=True)
    project, movie = _project_of(folder)
    truth = read_tracks(project)
    bare = out / "spots.mastodon"
    kept = Tracks.build(truth.t, truth.centre, covariance=truth.covariance, space_unit=truth.space_unit)
    write_tracks(bare, kept, image=movie)
    taught = out / "teaching.mastodon"
    links = truth.with_tag_set(TRACKING, TRACKING_TAGS).with_tag(TRACKING, APPROVED, links=np.arange(truth.n_links))
    write_tracks(taught, links, image=movie)
    flow = out / "flow.safetensors"
    if not flow.is_file():
        frames = one.facts.get("teaching_frames")
        last = movie.n_frames - 1
        if frames and int(str(frames).split("-")[-1]) > last:
            frames = None  # a shorter movie: all of it teaches
        yield from train_flow(Job(taught, image=movie.path, frames=frames), flow, settings=one.settings)
    radius = float(np.median(np.linalg.det(truth.covariance) ** (1 / 6)))
    ours: dict[str, Any] = {"links": truth.n_links}
    for name, weights in (("without", None), ("with", flow)):
        result = out / f"linked-{name}-flow.mastodon"
        yield from link(Job(bare, image=movie.path), result, flow=weights, settings=one.settings)
        score = score_tracking(truth, read_tracks(result), max_distance=radius).links
        ours |= {f"false_links_{name}": score.false_positives, f"missed_links_{name}": score.false_negatives}
        yield Progress("score", 1, 1, values={k: float(v) for k, v in ours.items()})
    return ours


def _project_of(folder: Path) -> tuple[Path, ImageSeries]:
    """Find the one project in a folder, and its movie."""
    projects = sorted(folder.glob("*.mastodon"))
    movies = [path for path in sorted(folder.iterdir()) if path.suffix in (".xml", ".zarr")]
    movies = [path for path in movies if identify(path).kind == "image"]
    if len(projects) != 1 or len(movies) != 1:
        raise MissingDataError(
            f"Reproducing links needs one .mastodon project and one movie (.xml) in {folder}; found {len(projects)} and "
            f"{len(movies)}."
        )
    return projects[0], open_image(movies[0])


RUNS: dict[str, Callable[[Reproduction, Path, Path], Steps[dict[str, Any]]]] = {
    "challenge": _challenge,
    "linking": _linking,
    "embedtrack": embedtrack_challenge,
    "efficientcellseg": efficientcellseg_challenge,
}
