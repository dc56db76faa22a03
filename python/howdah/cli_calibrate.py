"""The command line: ``howdah calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah import pipeline
from howdah.cli_hints import with_movie
from howdah.cli_options import with_settings
from howdah.cli_show import guarded, run, show_result
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command ``calibrate``."""

    @app.command()
    @with_settings(SECTIONS, "elephant")
    @with_movie("image", "setup", "frames")
    def calibrate(
        source: Annotated[
            Path,
            typer.Argument(metavar="SOURCE", help="A project in which a person judged predictions (tags tp, fp ...)."),
        ],
        settings: dict[str, dict[str, Any]],
        movie: dict[str, Any],
        weights: Annotated[
            Path, typer.Option("--weights", "-w", metavar="FILE", help="Weights that `train` wrote, or published ones.")
        ],
        out: Annotated[
            Path | None,
            typer.Option(
                "--out", "-o", metavar="FILE", help="Where they go (default: into the same file; FILE~1~ is kept)."
            ),
        ] = None,
        json: Annotated[
            bool, typer.Option("--json", help="Print the result as one JSON line, and no progress bars.")
        ] = False,
    ) -> None:
        """Make the quality of detections the probability that they are nuclei, from what a person judged in a project."""
        job = pipeline.Job(source, **movie)

        def work() -> None:
            steps = pipeline.calibrate(job, weights, settings=settings, out=out)
            show_result(run(steps, quiet=json), as_json=json)

        code = guarded(work, as_json=json)
        if code:
            raise typer.Exit(code)
