"""Classes of spots from a few labels: divisions, cell states (paper, section 3.4), and how sure one can be of them.

A trained classifier is one set of weights: the network, the head, and in the header what they were trained for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah import __version__
from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.crossing import Crossed, crossed, folds_of
from howdah.methods.tap.examples import Examples
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.heads import head_from, parameters_of
from howdah.methods.tap.learned import settled
from howdah.methods.tap.learner import Learner
from howdah.methods.tap.material import Places, View, crop_size, steps_of, usable
from howdah.methods.tap.movies import Frames, voxel_of
from howdah.methods.tap.network import Tap
from howdah.methods.tap.predict import Embedder
from howdah.methods.tap.run import form_for
from howdah.methods.tap.weights import METHOD, network_part, read_task
from howdah.nn.checkpoint import State, Weights, save_weights
from howdah.nn.fit import digest
from howdah.progress import Progress, Steps

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Seen = torch.Tensor

__all__ = ["KIND", "Work", "classes_of", "header_of", "predict_classes", "read_classifier", "train_classifier"]

KIND = "classifier"


def train_classifier(
    examples: Examples,
    frames: Sequence[Frames],
    *,
    network: Weights | None,
    config: TapConfig,
    head: HeadConfig,
    save_to: Path | None = None,
    compare: Sequence[str] = (),
    judge: bool = True,
) -> Steps[Weights]:
    """Judge a classifier by cross-validation, then train it on all examples; a generator, so that it can be watched and cancelled.

    Args:
        examples: Labelled spots of one or more movies.
        frames: The movies, by the numbers in ``examples.movie``, normalised as the network wants it
            (:func:`howdah.methods.tap.learned.settled`).
        network: What was learned without labels. None: only where the head is trained from scratch or sees pixels.
        config: Settings of the network.
        head: Settings of the classifier.
        save_to: Where the weights are written; the former file stays as ``name~1~``. None: nowhere.
        compare: Other values of ``head.mode`` that are judged on the same folds, for example ``["scratch"]``; only the first
            classifier is kept.
        judge: Whether there is a cross-validation at all.

    Returns:
        Weights of kind ``"classifier"``. The header has ``task`` (classes, tag set, pair or frame, head), ``crossed`` (see
        :meth:`howdah.methods.tap.crossing.Crossed.to_dict`), ``compared`` (the same for each other mode), ``data`` and ``metrics``.

    Raises:
        DataError: There is too little to learn from, or no labelled spot lies in the image.
        ConfigError: The settings do not fit together.
    """
    work = Work(examples.checked(), frames, network, config, head)
    if work.sentence:
        yield Progress("describe", 0, 1, message=work.sentence)
    verdicts: dict[str, Crossed] = {}
    if judge:
        try:
            folds = folds_of(work.examples, n=head.folds, apart=work.view.steps[-1])
        except DataError as error:
            yield Progress("judge", 0, 1, message=f"How good the classes are is not known. {error}")
        else:
            for mode in dict.fromkeys([head.mode, *compare]):
                other = work.but(mode)
                learn = other.fold(stage=mode)
                verdicts[mode] = yield from crossed(learn, work.examples, folds, stage=f"judge {mode}")
                yield Progress("judge", len(folds), len(folds), message=_verdict(verdicts[mode], mode))
    state = yield from work.learner.learn(work.seen(training=True), work.examples.label)
    weights = Weights(({**work.network_state, **state},), {**header_of(work, KIND), **_judged(verdicts, head)})
    if save_to is not None:
        save_weights(save_to, weights)
    return weights


def predict_classes(
    classifier: Weights,
    frames: Frames,
    t: npt.ArrayLike,
    centre_px: npt.ArrayLike,
    covariance_px: npt.ArrayLike,
    *,
    config: TapConfig | None = None,
) -> F32:
    """Tell the classes of spots.

    Args:
        classifier: From :func:`train_classifier` or :func:`read_classifier`.
        frames: The movie, normalised as the network wants it.
        t: (N,) frame of each spot.
        centre_px: (N, 3) (z, y, x), pixels of the movie (not shrunk).
        covariance_px: (N, 3, 3), squared pixels of the movie.
        config: Settings, for device and memory. None: those of the weights.

    Returns:
        (N, n_classes) float32 probabilities, in the order of :func:`classes_of`; NaN for spots outside of the image and, where a class
        belongs to a pair, for those whose later frame is not there.

    Raises:
        WeightsError: The weights are no classifier.
    """
    task = _task(classifier, "the classifier")
    known = settled(network_part(classifier), config)
    head = HeadConfig.of(task["settings"], source="the header of the classifier")
    view = View(known, head, tuple(task["steps"]), tuple(task["crop"]))
    learner = Learner(view, (classifier.header["network"], None), len(task["classes"]))
    embedder = Embedder(network_part(classifier), known) if view.frozen else None
    places = Places.of(t, centre_px, covariance_px)
    rows, _ = usable(places, frames, known, view.steps)
    rows = rows[np.argsort(places.t[rows], kind="stable")]  # spots of one frame together: it is described once
    found = np.full((len(places.t), len(task["classes"])), np.nan, dtype=np.float32)
    for part in view.portions(rows, classifier.header["network"]):
        seen = view.of(places.take(part), frames, embedder, training=False)
        found[part] = learner.probabilities(classifier.members[0], seen)
    return found


def read_classifier(path: str | os.PathLike[str]) -> Weights:
    """Read a trained classifier.

    Raises:
        WeightsError: The file is missing or damaged, or holds no classifier.
    """
    weights = read_task(path, kind=KIND)
    _task(weights, str(path))
    return weights


def classes_of(classifier: Weights) -> tuple[str, ...]:
    """Return the names of the classes that a classifier tells apart."""
    return tuple(_task(classifier, "the classifier")["classes"])


class Work:
    """The examples that can be used, and what a classifier sees of them.

    Args:
        examples: Labelled spots.
        frames: The movies.
        network: As for :func:`train_classifier`.
        config: Settings of the network.
        head: Settings of the classifier.
        n_classes: Of the head; 0: pixels of events are marked. None: those of the examples.
        crop: Edge of a crop, pixels, shrunk. None: that of the settings.
    """

    def __init__(
        self,
        examples: Examples,
        frames: Sequence[Frames],
        network: Weights | None,
        config: TapConfig,
        head: HeadConfig,
        *,
        n_classes: int | None = None,
        crop: int | None = None,
    ) -> None:
        if network is None and head.mode in ("frozen", "finetune"):
            raise ConfigError(
                f"Learning classes with mode '{head.mode}' needs a network that has learned from the movie; give its weights, or choose "
                "mode 'scratch'."
            )
        if len(examples) and not 0 <= examples.movie.min() <= examples.movie.max() < len(frames):
            raise DataError(
                f"Learning classes failed: examples name movie {examples.movie.max()}, but there are {len(frames)} movies."
            )
        self.frames, self.head, self.network = frames, head, network
        self.config = config if network is None else settled(network, config)
        self.form: dict[str, Any] = (
            dict(network.header["network"]) if network else form_for([one.movie for one in frames], self.config)
        )
        self.network_state: State = dict(network_part(network).members[0]) if network else Tap(**self.form).state_dict()
        self.embedder = Embedder(network_part(network), self.config) if network else None
        steps = steps_of(self.config, head)
        kept, self.sentence = self._usable(examples, steps)
        self.examples = kept if n_classes == 0 else kept.checked()
        self.n_classes = len(self.examples.classes) if n_classes is None else n_classes
        size = crop_size(
            self.examples.covariance,
            self.config,
            head if crop is None else head.but(crop_size=crop, crop_depth=head.patch_depth),
            dimensions=len(self.form["pools"][0]),
            voxel_size=voxel_of(frames[0].movie, self.config),
        )
        self._seen: dict[bool, Seen] = {}
        self._start(View(self.config, head, steps, size))

    def _start(self, view: View) -> None:
        self.view = view
        state = self.network_state if self.network else None
        self.learner = Learner(view, (self.form, state), self.n_classes)
        self._seen = {}

    def but(self, mode: str) -> Work:
        """Return the same work for another mode of the head."""
        if mode == self.head.mode:
            return self
        other = object.__new__(Work)
        other.__dict__.update(self.__dict__)
        changes: dict[str, Any] = {"mode": mode} | ({"head": "resnet"} if mode == "pixels" else {})
        other.head = self.head.but(**changes)
        if mode == "frozen" and self.network is None:
            raise ConfigError("Comparing with frozen features needs a network; give its weights.")
        other._start(View(self.config, other.head, self.view.steps, self.view.crop))
        return other

    def seen(self, *, training: bool) -> Seen:
        """Return what the classifier sees of all examples."""
        training = training and not self.view.frozen
        if training not in self._seen:
            places = Places(self.examples.t, self.examples.centre, self.examples.covariance)
            parts: list[tuple[I64, Seen]] = []
            for number in np.unique(self.examples.movie).tolist():
                rows = np.flatnonzero(self.examples.movie == number)
                parts.append(
                    (rows, self.view.of(places.take(rows), self.frames[number], self.embedder, training=training))
                )
            order = np.argsort(np.concatenate([rows for rows, _ in parts]))
            self._seen[training] = torch.cat([values for _, values in parts])[torch.from_numpy(order)]
        return self._seen[training]

    def fold(self, *, stage: str) -> Any:
        """Return what learns from some rows and judges others."""

        def learn(train: I64, test: I64) -> Steps[F32]:
            label = self.examples.label[train]
            state = yield from self.learner.learn(self.seen(training=True)[torch.from_numpy(train)], label, stage=stage)
            return self.learner.probabilities(state, self.seen(training=False)[torch.from_numpy(test)])

        return learn

    def _usable(self, examples: Examples, steps: tuple[int, ...]) -> tuple[Examples, str]:
        places, kept, said = Places(examples.t, examples.centre, examples.covariance), [], []
        for number, frames in enumerate(self.frames):
            rows = np.flatnonzero(examples.movie == number)
            good, sentence = usable(places.take(rows), frames, self.config, steps)
            kept.append(rows[good])
            said += [f"{frames.movie.name}: {sentence}"] if sentence else []
        rows = np.sort(np.concatenate(kept))
        if not len(rows):
            raise DataError(
                f"Learning classes failed: none of the {len(examples)} labelled spots can be used. {' '.join(said)} "
                "Check that the spots belong to this movie."
            )
        return examples.take(rows), " ".join(said)


def header_of(work: Work, kind: str) -> dict[str, Any]:
    """Return what the header of weights says of a training, but for how good it is."""
    given: Mapping[str, Any] = work.network.header if work.network else {}
    head, examples = work.head, work.examples
    form: dict[str, Any] = {"kind": "regression"} if work.view.pooled else work.learner.form
    if work.view.pooled:
        n_parameters = int(work.seen(training=False).shape[1] + 1) * len(examples.classes)
    else:
        n_parameters = parameters_of(head_from(form))
    return {
        "method": METHOD,
        "kind": kind,
        "version": __version__,
        "config": dict(given.get("config") or work.config.model_dump(mode="json", exclude_unset=True)),
        "resolved": dict(given.get("resolved") or {}),
        "network": work.form,
        "network_sha256": work.network.sha256 if work.network else None,
        "task": {
            "classes": list(examples.classes),
            "tag_set": examples.name,
            "per": head.per,
            "mode": head.mode,
            "head": form,
            "parameters": n_parameters,
            "steps": list(work.view.steps),
            "crop": list(work.view.crop),
            "settings": head.model_dump(mode="json"),
        },
        "data": {
            "labels": dict(zip(examples.classes, examples.counts.tolist(), strict=True)),
            "movies": [one.movie.name for one in work.frames],
            "frames": len(np.unique(np.stack([examples.movie, examples.t], axis=1), axis=0)),
            "fingerprint": digest([examples.movie, examples.t, examples.centre, examples.covariance, examples.label]),
        },
    }


def _judged(verdicts: Mapping[str, Crossed], head: HeadConfig) -> dict[str, Any]:
    if head.mode not in verdicts:
        return {"metrics": {}}
    own = verdicts[head.mode].to_dict()
    metrics = {"balanced_accuracy": own["balanced_accuracy"]}
    metrics |= {f"average_precision {name}": values["average_precision"] for name, values in own["classes"].items()}
    others = {mode: verdict.to_dict() for mode, verdict in verdicts.items() if mode != head.mode}
    return {"metrics": metrics, "crossed": own, "compared": others}


def _verdict(verdict: Crossed, mode: str) -> str:
    found = verdict.to_dict()
    each = "; ".join(
        f"{name}: average precision {values['average_precision']:.3f} (chance {values['chance']:.3f}, {values['labels']} labels)"
        for name, values in found["classes"].items()
    )
    return (
        f"{mode}, on frames that were not learned from ({found['folds']} folds): balanced accuracy "
        f"{found['balanced_accuracy']:.3f}. {each}."
    )


def _task(weights: Weights, source: str) -> Mapping[str, Any]:
    task = weights.header.get("task")
    needed = ("classes", "steps", "crop", "settings")
    if weights.header.get("kind") != KIND or not isinstance(task, Mapping) or any(key not in task for key in needed):
        raise WeightsError(
            f"Reading {source} failed: it is no trained classifier of TAP (its header names no classes). Train one with tags or divisions."
        )
    return task
