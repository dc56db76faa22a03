"""Command-line options that are the fields of a method's settings, and the settings that they and a file give."""

from __future__ import annotations

import inspect
import tomllib
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from howdah.cli_show import guarded
from howdah.config import Settings, read_toml
from howdah.pipeline.challenge_rules import Challenge
from howdah.scale.config import ScaleConfig

__all__ = ["Border", "Json", "rules_of", "settings_in", "with_settings"]

CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE.toml", help=escape("Settings file with one section a method, e.g. [elephant].")
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line, and no progress bars.")]
Border = Annotated[
    int | None,
    typer.Option(
        "--challenge-border",
        metavar="PIXELS",
        help="Results as 01_RES by the challenge's rules: cells wholly in a border so wide are left out, empty frames get the "
        "cells of the nearest one.",
        min=0,
    ),
]


def settings_in(file: Path | None, known: Mapping[str, type[Settings]]) -> dict[str, dict[str, Any]]:
    """Return what a settings file says in the sections of a command (see :func:`howdah.config.read_toml`); nothing without a file.

    The file may have a section ``scale``, whose keys are checked, too: one file serves every command.
    """
    found = {} if file is None else read_toml(file, {**known, "scale": ScaleConfig})
    return {name: values for name, values in found.items() if name in known}


def rules_of(border: int | None) -> Challenge:
    """Return the challenge's rules for a border in pixels; without one none of them."""
    return Challenge() if border is None else Challenge(border=border, fill_empty=True)


def with_settings(
    known: Mapping[str, type[Settings]], *used: str, from_file: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one option for each field of the settings that it uses, and ``--config``.

    Args:
        known: Section of a settings file -> its settings; a file may hold sections that this command does not use.
        used: The sections that the command uses.
        from_file: Sections that it uses too, but only as the file has them: their settings are no options (two networks have
            settings of the same names).

    The section ``scale`` is known to all: one file serves every command.

    A setting whose name the command has for something else gets that of its section in front: ``--tap-frames``.

    The command receives ``settings``: section -> the values that the user set, checked but not completed with defaults
    (a weights file may bring its own). Options win over the file.
    """

    known = {**known, "scale": ScaleConfig}
    sections = {name: known[name] for name in used}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        hints = typing.get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in inspect.signature(command).parameters.values()
            if parameter.name != "settings"
        ]
        extra, places = _options(sections, taken={parameter.name for parameter in own})

        def wrapper(**given: Any) -> Any:
            file, as_json = given.pop("config"), bool(given.get("json"))
            values: dict[str, dict[str, Any]] = {name: {} for name in (*sections, *from_file)}
            if file is not None:
                read: dict[str, dict[str, Any]] = {}
                _exit_if(guarded(lambda: read.update(read_toml(file, known)), as_json=as_json))
                values.update({name: read[name] for name in values if name in read})
            for option, (section, field) in places.items():
                text = given.pop(option)
                if text is not None:
                    values[section][field] = _value(known[section], field, text)
            source = f"{file} and the options" if file else "the options"
            _exit_if(guarded(lambda: [known[name].of(values[name], source=source) for name in values], as_json=as_json))
            return command(**given, settings=values)

        parameters = [*own, *extra]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        return wrapper

    return decorate


def _exit_if(code: int) -> None:
    if code:
        raise typer.Exit(code)


def _options(
    sections: Mapping[str, type[Settings]], *, taken: Collection[str]
) -> tuple[list[inspect.Parameter], dict[str, tuple[str, str]]]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("config", keyword, default=None, annotation=CONFIG)]
    places: dict[str, tuple[str, str]] = {}
    for section, kind in sections.items():
        for name, field in kind.model_fields.items():
            key = f"{section}_{name}" if name in taken else name
            option = typer.Option(
                f"--{key.replace('_', '-')}",
                metavar="VALUE",
                help=escape(f"{field.description or ''} (default: {shown(field.default)})"),
                rich_help_panel=f"Settings of {section}",
                show_default=False,
            )
            parameters.append(inspect.Parameter(key, keyword, default=None, annotation=Annotated[str | None, option]))
            places[key] = (section, name)
    return parameters, places


def shown(default: Any) -> str:
    """Return a default value as a user would type it."""
    if default is None:
        return "automatic"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return str(default)


def _value(kind: type[Settings], field: str, text: str) -> Any:
    """Turn what was typed for a field into a value: a word that the field knows stays, a list may have one element."""
    known = kind.model_fields[field]
    if text in typing.get_args(known.annotation):
        return text
    value = _parsed(text)
    return [value] if known.default == () and not isinstance(value, list) else value


def _parsed(text: str) -> Any:
    """Turn what was typed into a value: a number, true or false, a list (``16,64,64``), ``automatic``, or the text."""
    if text in ("automatic", "auto", "none"):
        return None if text != "auto" else text
    if "," in text and not text.startswith("["):
        return [_parsed(part.strip()) for part in text.split(",")]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
