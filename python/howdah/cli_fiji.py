"""Commands that put Howdah's scripts into a Fiji. One call each; see :mod:`howdah.bridge.installation`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.bridge import installation
from howdah.cli_options import Json
from howdah.cli_show import BAD_INPUT, guarded, show_result

__all__ = ["add_to"]

fiji = typer.Typer(
    name="fiji",
    help="Put Howdah's scripts into a Fiji (Plugins > Howdah), look after them, take them away.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[
    Path, typer.Argument(metavar="FIJI", help="The folder of Fiji, which contains 'jars' and 'plugins'.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(fiji)


@fiji.command()
def install(
    path: Folder,
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="FILE", help="The Python that runs the backend (default: this one)."),
    ] = None,
    json: Json = False,
) -> None:
    """Put Howdah's scripts into a Fiji, or bring them up to date. Files that you changed are kept as NAME.mine."""
    _shown(lambda: installation.install(path, python=python), as_json=json)


@fiji.command()
def remove(path: Folder, json: Json = False) -> None:
    """Take Howdah's scripts away again. Files that you changed stay."""
    _shown(lambda: installation.remove(path), as_json=json)


@fiji.command()
def check(path: Folder, json: Json = False) -> None:
    """Say whether Howdah's scripts are in a Fiji, whole and up to date. Exit code 2 if something is wrong."""
    facts = _shown(lambda: installation.check(path), as_json=json)
    if facts["problems"]:
        raise typer.Exit(BAD_INPUT)


@fiji.command()
def update_site(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the tree.")], json: Json = False
) -> None:
    """Write the tree that Fiji's updater uploads to an update site."""
    _shown(lambda: installation.update_site(folder), as_json=json)


def _shown(work: Callable[[], dict[str, Any]], *, as_json: bool) -> dict[str, Any]:
    """Do something, show what it returned, and return it; leave with the exit code of an error."""
    done: dict[str, Any] = {}

    def both() -> None:
        done.update(work())
        show_result(done, as_json=as_json)

    code = guarded(both, as_json=as_json)
    if code:
        raise typer.Exit(code)
    return done
