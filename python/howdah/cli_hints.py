"""Command-line options that choose a movie, and say what a user knows of it and its file does not say."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_show import guarded
from howdah.pipeline.hints import hints_of

__all__ = ["grouped", "with_movie"]

PANEL = "What a file does not say"
OPTIONS: dict[str, Any] = {
    "axes": Annotated[
        str | None,
        typer.Option("--axes", metavar="TZCYX", help="Axes of the stored array, slowest first.", rich_help_panel=PANEL),
    ],
    "voxel_size": Annotated[
        str | None,
        typer.Option("--voxel-size", metavar="Z,Y,X", help="Edge lengths of a voxel: 2,0.5,0.5", rich_help_panel=PANEL),
    ],
    "unit": Annotated[
        str | None, typer.Option("--unit", metavar="UNIT", help="Unit of length: µm", rich_help_panel=PANEL)
    ],
    "interval": Annotated[
        str | None,
        typer.Option(
            "--interval", metavar="TIME", help="Time between frames with its unit: 30s", rich_help_panel=PANEL
        ),
    ],
}

CHOICES: dict[str, tuple[Any, Any]] = {
    "image": (
        Annotated[Path | None, typer.Option("--image", metavar="FILE", help="The movie, if the project's has moved.")],
        None,
    ),
    "setup": (
        Annotated[int, typer.Option("--setup", metavar="N", help="View setup (channel) to work on, from 0.")],
        0,
    ),
    "frames": (
        Annotated[str | None, typer.Option("--frames", metavar="0-4,9", help="Frames to work on (default: all).")],
        None,
    ),
}


def with_movie(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that choose and describe a movie, and pass them on as one argument ``movie``.

    Args:
        names: Which of ``image``, ``setup``, ``frames`` the command has; ``--axes --voxel-size --unit --interval`` are always
            there, and come as ``movie["hints"]``.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        types = typing.get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=types[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.name != "movie"
        ]

        def wrapper(**given: Any) -> Any:
            typed = {name: given.pop(name) for name in OPTIONS}
            movie = {name: given.pop(name) for name in names}
            code = guarded(lambda: movie.update(hints=hints_of(**typed)), as_json=bool(given.get("json")))
            if code:
                raise typer.Exit(code)
            return command(**given, movie=movie)

        extra = [_parameter(name, *CHOICES[name]) for name in names] + [
            _parameter(n, k, None) for n, k in OPTIONS.items()
        ]
        parameters = [*own, *extra]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        return wrapper

    return decorate


def grouped(
    argument: str, choices: Mapping[str, tuple[Any, Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command options that it receives together, as one table.

    Args:
        argument: Name of the command's argument for them.
        choices: Name of an option -> its type with the ``typer.Option``, and its default.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        types = typing.get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=types[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.name != argument
        ]

        def wrapper(**given: Any) -> Any:
            together = {name: given.pop(name) for name in choices}
            return command(**given, **{argument: together})

        parameters = [*own, *(_parameter(name, kind, default) for name, (kind, default) in choices.items())]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        return wrapper

    return decorate


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
