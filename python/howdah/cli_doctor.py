"""``howdah doctor``: what is there, what is missing, and the way out. One call; see :mod:`howdah.doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from howdah import doctor
from howdah.cli_options import Json
from howdah.cli_show import BAD_INPUT, show_result

__all__ = ["add_to"]

Fiji = Annotated[
    Path | None,
    typer.Option(
        "--fiji", metavar="FOLDER", help="Look into this Fiji, too (default: the one that HOWDAH_FIJI names)."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command("doctor")
    def examine(fiji: Fiji = None, json: Json = False) -> None:
        """Say what is installed and what is missing, for the methods, for Fiji and for the service, and the way out.

        The answer is plain text that can be pasted into a forum. Exit code 2 if the Fiji that --fiji names cannot be used.
        """
        report = doctor.examine(fiji)
        if json:
            show_result(report, as_json=True)
        else:
            typer.echo(doctor.as_text(report))
        if fiji is not None and any(
            row["group"] == doctor.FIJI and row["state"] == doctor.WRONG for row in report["findings"]
        ):
            raise typer.Exit(BAD_INPUT)
