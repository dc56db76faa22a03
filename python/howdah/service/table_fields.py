"""Parameters that many tasks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from bdv_io.image import Hints
from howdah.pipeline import Job
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.hints import hints_of
from howdah.progress import Steps
from howdah.service.parameters import InFile, OutFile, Parameters

__all__ = ["Described", "Movie", "Movies", "Outlined", "at_once", "rules_of"]

Numbers = str | tuple[float, float] | tuple[float, float, float]


class Described(Parameters):
    """What a file of a movie does not say."""

    axes: str | None = Field(default=None, description="Axes of the stored array, slowest first: TZCYX.")
    voxel_size: Numbers | None = Field(
        default=None, description='Edge lengths of a voxel, z, y, x: [2, 0.5, 0.5] or "2,0.5,0.5"; in 2D y, x.'
    )
    unit: str | None = Field(default=None, description="Unit of length: µm.")
    interval: str | float | None = Field(
        default=None, description='Time between frames with its unit: "30s"; a number is seconds.'
    )

    @property
    def hints(self) -> Hints:
        """As the pipeline takes it."""
        size, interval = self.voxel_size, self.interval
        return hints_of(
            axes=self.axes,
            voxel_size=size if size is None or isinstance(size, str) else ",".join(map(repr, size)),
            unit=self.unit,
            interval=interval if interval is None or isinstance(interval, str) else f"{interval!r}s",
        )


class OfMovie(Described):
    """Which part of a movie."""

    image: InFile | None = Field(default=None, description="The movie, if the project names none or it has moved.")
    setup: int = Field(default=0, ge=0, description="View setup (channel) to work on, from 0.")
    frames: str | None = Field(default=None, description='Frames to work on: "0-4,9"; none: all.')

    def job_of(self, source: Path) -> Job:
        """As the pipeline takes it."""
        return Job(source, image=self.image, setup=self.setup, frames=self.frames, hints=self.hints)


class Movie(OfMovie):
    """A project that names its movie, or a movie."""

    source: InFile = Field(description="A project (.mastodon, TrackMate .xml ...) that names its movie, or a movie.")

    @property
    def job(self) -> Job:
        """As the pipeline takes it."""
        return self.job_of(self.source)


class Movies(OfMovie):
    """Several projects or movies."""

    sources: list[InFile] = Field(min_length=1, description="Projects that name their movies, or movies.")

    @property
    def jobs(self) -> list[Job]:
        """As the pipeline takes them."""
        return [self.job_of(source) for source in self.sources]


class Outlined(Movie):
    """Cells with outlines as results, in several formats."""

    out: OutFile | None = Field(default=None, description="The result; its ending chooses the format.")
    also: list[OutFile] = Field(default=[], description="Further results: .mastodon, .tif, .xml, 01_RES ...")
    challenge_border: int | None = Field(
        default=None, ge=0, description="Results as 01_RES by the challenge's rules: width of the border in pixels."
    )

    @property
    def rules(self) -> Challenge:
        """As the pipeline takes it."""
        return rules_of(self.challenge_border)


def rules_of(border: int | None) -> Challenge:
    """Return the challenge's rules for a border in pixels; without one none of them."""
    return Challenge() if border is None else Challenge(border=border, fill_empty=True)


def at_once(work: Callable[[], dict[str, Any]]) -> Steps[dict[str, Any]]:
    """Return work without steps as long work."""
    yield from ()
    return work()
