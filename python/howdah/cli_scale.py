"""The verbs ``howdah scale ...``: the same work as the verbs without ``scale``, in blocks and by many workers."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_options import Json
from howdah.cli_show import guarded, show_result
from howdah.scale.config import ScaleConfig

__all__ = ["Scale", "add_to", "with_scale"]

VERBS = ("predict", "segment", "link", "convert")

Restart = Annotated[
    bool, typer.Option("--restart", help="Forget what an earlier run of this target has done, and begin anew.")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Leave the work folder (TARGET.blocks) where it is when all is done.")
]


@dataclass(frozen=True)
class Scale:
    """What all verbs of ``howdah scale`` are told.

    Attributes:
        config: Who does the work, in how large blocks. restart, keep: See :func:`howdah.scale.run.run_plan`.
    """

    config: ScaleConfig
    restart: bool = False
    keep: bool = False


def with_scale() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command ``--restart`` and ``--keep``, and what all verbs of scale are told as one argument ``scale`` (a :class:`Scale`).

    It goes directly on the command, below ``with_settings``, which must use the section ``scale``; the command's own ``settings`` come
    without that section::

        @with_settings(SECTIONS, "elephant", "scale")
        @with_scale()
        def predict(source: Path, settings: dict[str, dict[str, Any]], scale: Scale, json: Json = False) -> None: ...
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        types = typing.get_type_hints(command, include_extras=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        own = [
            parameter.replace(annotation=types[parameter.name], kind=keyword)
            for parameter in inspect.signature(command).parameters.values()
            if parameter.name != "scale"
        ]
        extra = [
            inspect.Parameter(name, keyword, default=False, annotation=kind)
            for name, kind in (("restart", Restart), ("keep", Keep))
        ]

        def wrapper(*, settings: dict[str, dict[str, Any]], restart: bool, keep: bool, **given: Any) -> Any:
            config = ScaleConfig.of(settings.get("scale", {}), source="the section 'scale'")
            others = {name: values for name, values in settings.items() if name != "scale"}
            return command(settings=others, scale=Scale(config, restart, keep), **given)

        parameters = [*own, *extra]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        return wrapper

    return decorate


def add_to(app: typer.Typer) -> None:
    """Add ``scale`` to the command line."""
    scale = typer.Typer(
        name="scale",
        help="Movies that outgrow one process: the same verbs in blocks, by many workers; a stopped run goes on.",
        no_args_is_help=True,
    )
    scale.command("status")(status)
    for verb in VERBS:
        name = f"howdah.cli_scale_{verb}"
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name).add_to(scale)
    app.add_typer(scale, name="scale")


def status(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The result of a run (its work folder lies beside it).")
    ],
    json: Json = False,
) -> None:
    """Say how far a run is, what failed, how long blocks took and how much memory; also while it runs."""
    from howdah.scale.status import status_of

    code = guarded(lambda: show_result(status_of(target), as_json=json), as_json=json)
    if code:
        raise typer.Exit(code)
