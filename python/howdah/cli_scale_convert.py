"""The verb ``howdah scale convert``: a movie to OME-Zarr by many workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bdv_io.image import WriteOptions
from howdah.cli_hints import with_movie
from howdah.cli_options import Json, with_settings
from howdah.cli_scale import Scale, with_scale
from howdah.cli_show import run_verb
from howdah.pipeline import Conversion
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]


def add_to(scale: typer.Typer) -> None:
    """Add ``convert`` to ``howdah scale``."""
    scale.command()(convert)


@with_settings(SECTIONS, "scale")
@with_scale()
@with_movie()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A movie: a file or a folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The target: .ome.zarr")],
    settings: dict[str, dict[str, Any]],
    scale: Scale,
    movie: dict[str, Any],
    compression: Annotated[
        int, typer.Option("--compression", metavar="0-9", help="How hard the image is compressed.", min=0, max=9)
    ] = 4,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Read all chunks again at the end, and compare their checksums (else their sizes)."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Write a movie as OME-Zarr in blocks: the files of `howdah convert`. A stopped run goes on where it was."""
    from howdah.scale.convert import scale_convert

    how = Conversion(options=WriteOptions(compression=compression), **movie)
    given: dict[str, Any] = {"config": scale.config, "restart": scale.restart, "keep": scale.keep, "check": check}
    run_verb(lambda: scale_convert(source, out, how, **given), as_json=json)
