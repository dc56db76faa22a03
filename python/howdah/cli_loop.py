"""The verb ``howdah loop``."""

from __future__ import annotations

import inspect
import json as json_text
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah import pipeline
from howdah.cli_hints import with_movie
from howdah.cli_options import with_settings
from howdah.cli_show import console, guarded, run, show_result
from howdah.pipeline.loop import Loop, once
from howdah.pipeline.loop_watch import watch
from howdah.pipeline.sections import SECTIONS
from howdah.progress import Progress, Steps, finish

__all__ = ["add_to"]

# fields of Loop as options: type and default
CHOICES: dict[str, tuple[Any, Any]] = {
    "out": (
        Annotated[
            Path | None,
            typer.Option(
                "--out", "-o", metavar="FILE", help="The result (default: in place; `howdah restore` undoes it)."
            ),
        ],
        None,
    ),
    "weights": (
        Annotated[
            Path | None,
            typer.Option("--weights", "-w", metavar="FILE", help="Weights that are trained on in each cycle."),
        ],
        None,
    ),
    "start": (
        Annotated[
            Path | None, typer.Option("--start", metavar="FILE", help="Weights to begin with (default: from nothing).")
        ],
        None,
    ),
    "predict_frames": (
        Annotated[
            str | None,
            typer.Option("--predict-frames", metavar="0-4,9", help="Frames to predict (default: where you work)."),
        ],
        None,
    ),
    "all_frames": (
        Annotated[bool, typer.Option("--all-frames", help="Learn from all marked frames alike, not mainly from news.")],
        False,
    ),
    "link": (Annotated[bool, typer.Option("--link", help="Also link the spots of the predicted frames.")], False),
    "flow": (
        Annotated[
            Path | None,
            typer.Option("--flow", metavar="FILE", help="Weights of the flow that links follow; links, too."),
        ],
        None,
    ),
}


def _with_choices(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options, and pass them on as one argument ``choices``."""
    types = typing.get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=types[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != "choices"
    ]
    keyword = inspect.Parameter.KEYWORD_ONLY
    extra = [inspect.Parameter(n, keyword, default=d, annotation=kind) for n, (kind, d) in CHOICES.items()]

    def wrapper(**given: Any) -> Any:
        return command(choices={name: given.pop(name) for name in CHOICES}, **given)

    parameters = [*own, *extra]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


@with_settings(SECTIONS, "elephant", "loop", "linking", from_file=("flow",))
@with_movie("image", "setup", "frames")
@_with_choices
def loop(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="The .mastodon project that you work on.")],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    choices: dict[str, Any],
    one: Annotated[bool, typer.Option("--once", help="Do one cycle now, and end.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Time between two looks at the project.", min=0.1)
    ] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print each cycle as one JSON line, and no progress.")] = False,
) -> None:
    """Learn and predict after each save of a project, while you proofread in Mastodon: save, wait, reopen.

    A save that comes while a cycle runs wins: nothing is written over it, and the next cycle begins from it.
    """
    choices["link"] |= choices["flow"] is not None
    what = Loop(pipeline.Job(project, **movie), settings=settings, **choices)

    def work() -> None:
        if one:
            show_result(run(once(what), quiet=json), as_json=json)
        else:
            _run_watch(watch(what, every=every), as_json=json)

    code = guarded(work, as_json=json)
    if code:
        raise typer.Exit(code)


def _run_watch(steps: Steps[dict[str, Any]], *, as_json: bool) -> None:
    if console.is_terminal and not as_json:
        run(steps)
        return

    def tell(step: Progress) -> None:
        if as_json and step.stage == "cycle":
            print(json_text.dumps({"cycle": step.done, **step.values, "message": step.message}), flush=True)
        elif step.message and not as_json:
            print(step.message, flush=True)

    finish(steps, tell)


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(loop)
