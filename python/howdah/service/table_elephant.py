"""Tasks of ELEPHANT: nuclei from sparse marks, their flow and their links."""

from __future__ import annotations

from pydantic import Field

from howdah import pipeline
from howdah.pipeline.backtrack import backtrack
from howdah.pipeline.flow import train_flow
from howdah.pipeline.loop import Loop, once
from howdah.service.parameters import InFile, OutFile
from howdah.service.table_fields import Movie
from howdah.service.tasks import Task

__all__ = ["ELEPHANT"]

OUT = "The result; its ending chooses the format."
TRAINED = "Weights that `train` wrote, or published ones."


class Train(Movie):
    """What `train` is told."""

    weights: OutFile | None = Field(default=None, description="Where the weights go.")
    start: InFile | None = Field(default=None, description="Weights to start from.")


class Predict(Movie):
    """What `predict` is told."""

    weights: InFile = Field(description=TRAINED)
    out: OutFile | None = Field(default=None, description=OUT)
    box: str | None = Field(default=None, description='Only in a box: "z,y,x[,edge]", middle and edges, world units.')
    update_status: bool = Field(default=False, description="Also tag your spots by whether they were predicted.")


class Link(Movie):
    """What `link` is told."""

    out: OutFile | None = Field(default=None, description=OUT)
    flow: InFile | None = Field(default=None, description="Weights of the flow: links follow it.")
    divisions: InFile | None = Field(default=None, description="A classifier that says which spots divide.")


class Track(Link):
    """What `track` is told."""

    weights: InFile | None = Field(default=None, description="Trained weights; none: train on the marks first.")


class Calibrate(Movie):
    """What `calibrate` is told."""

    weights: InFile = Field(description=TRAINED)
    out: OutFile | None = Field(default=None, description="Where the calibrated weights go.")


class Once(Movie):
    """What `loop` is told: one cycle."""

    out: OutFile | None = Field(default=None, description="The project with what was found.")
    weights: OutFile | None = Field(default=None, description="Weights that are trained on in each cycle.")
    start: InFile | None = Field(default=None, description="Weights to begin with.")
    predict_frames: str | None = Field(default=None, description="Frames to predict; none: where you work.")
    all_frames: bool = Field(default=False, description="Learn from all marked frames alike, not mainly from news.")
    link: bool = Field(default=False, description="Also link the spots of the predicted frames.")
    flow: InFile | None = Field(default=None, description="Weights of the flow that links follow; links, too.")

    def loop(self) -> Loop:
        """As the pipeline takes it."""
        return Loop(
            self.job,
            settings=self.settings,
            out=self.out,
            weights=self.weights,
            start=self.start,
            predict_frames=self.predict_frames,
            all_frames=self.all_frames,
            link=self.link or self.flow is not None,
            flow=self.flow,
        )


class Backtrack(Movie):
    """What `backtrack` is told."""

    spot: str = Field(description="The spot: its number, its label, or t,z,y,x (world units).")
    out: OutFile | None = Field(default=None, description=OUT)
    weights: InFile | None = Field(default=None, description="A detector, to find nuclei without a spot.")
    flow: InFile | None = Field(default=None, description="A flow network, that says where a nucleus came from.")


ELEPHANT = [
    Task(
        "train",
        "Train a detector on the marked nuclei of a project. A stopped training goes on where it was.",
        Train,
        lambda p: pipeline.train(p.job, p.weights, settings=p.settings, start=p.start),
        sections=("elephant",),
        results={"weights": "weights.safetensors"},
    ),
    Task(
        "train-flow",
        "Train the flow (where was each nucleus one frame earlier) on the links that a person made or approved.",
        Train,
        lambda p: train_flow(p.job, p.weights, settings=p.settings, start=p.start),
        sections=("flow",),
        results={"weights": "flow.safetensors"},
    ),
    Task(
        "predict",
        "Find the nuclei of every frame. What a person marked or validated is not changed.",
        Predict,
        lambda p: pipeline.predict(
            p.job,
            p.out,
            weights=p.weights,
            settings=p.settings,
            where=pipeline.Where(box=p.box, update_status=p.update_status),
        ),
        sections=("elephant",),
        results={"out": "spots.mastodon"},
    ),
    Task(
        "link",
        "Link the spots of a project into tracks. Links that a person made or approved stay.",
        Link,
        lambda p: pipeline.link(p.job, p.out, settings=p.settings, flow=p.flow, divisions=p.divisions),
        sections=("linking", "flow", "tap"),
        results={"out": "linked.mastodon"},
    ),
    Task(
        "track",
        "From a few marked nuclei to the nuclei of every frame, linked into tracks.",
        Track,
        lambda p: pipeline.track(
            p.job, p.out, settings=p.settings, weights=p.weights, flow=p.flow, divisions=p.divisions
        ),
        sections=("elephant", "linking", "flow", "tap"),
        results={"out": "tracked.mastodon"},
    ),
    Task(
        "calibrate",
        "Make the quality of detections the probability that they are nuclei, from what a person judged in a project.",
        Calibrate,
        lambda p: pipeline.calibrate(p.job, p.weights, settings=p.settings, out=p.out),
        sections=("elephant",),
    ),
    Task(
        "loop",
        "One cycle of learning and predicting after a save of the project that you proofread.",
        Once,
        lambda p: once(p.loop()),
        sections=("elephant", "loop", "linking", "flow"),
    ),
    Task(
        "backtrack",
        "Follow one nucleus back in time until it meets a track.",
        Backtrack,
        lambda p: backtrack(p.job, p.out, spot=p.spot, weights=p.weights, flow_weights=p.flow, settings=p.settings),
        sections=("backtrack", "elephant", "flow"),
        results={"out": "followed.mastodon"},
    ),
]
