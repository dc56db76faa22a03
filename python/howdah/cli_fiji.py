"""Commands that put Howdah's scripts into a Fiji. One call each; see :mod:`howdah.bridge.installation`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.bridge import headless, installation
from howdah.cli_options import Json
from howdah.cli_show import BAD_INPUT, console, guarded, show_result

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


@fiji.command()
def run(
    path: Folder,
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="As its menu item is called: 'Batch over a folder'; or a path.")
    ],
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Its parameters; values need no quotes but your shell's."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=1, help="Stop Fiji after so long.")
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Java's heap: 8g.")] = None,
    plain_java: Annotated[
        bool, typer.Option("--plain-java", help="Start Java, not Fiji's launcher, even where there is one.")
    ] = False,
    json: Json = False,
) -> None:
    """Run one of Howdah's scripts in a headless Fiji. The exit code is the script's, and never 0 if it did not run.

    Exit code 0 done, 1 a fault, 2 bad input (also: some movies of a batch failed), 3 a part is missing, 130 stopped.
    """
    ended = headless.Ended(0, "")

    def work() -> None:
        nonlocal ended
        ended = headless.run_script(
            path, script, given or (), timeout=timeout, memory=memory, plain_java=plain_java, to_errors=json
        )

    code = guarded(work, as_json=json) or ended.code
    if json and ended.sentence:
        show_result(ended.record or {"error": ended.sentence}, as_json=True)
    if ended.sentence and not ended.record:
        console.print(f"howdah: {ended.sentence}", markup=False, style="red")
    if code:
        raise typer.Exit(code)


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
