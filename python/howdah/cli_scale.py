"""The verbs ``howdah scale ...``: the same work as the verbs without ``scale``, in blocks and by many workers."""

from __future__ import annotations

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add ``scale`` to the command line."""
    scale = typer.Typer(
        name="scale",
        help="Movies that outgrow one process: the same verbs in blocks, by many workers; a stopped run goes on.",
        no_args_is_help=True,
    )
    app.add_typer(scale, name="scale")
