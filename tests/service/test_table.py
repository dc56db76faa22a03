"""The table of tasks: it has the verbs of the command line, with their parameters, and can describe itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from pydantic import Field

from howdah.cli import app
from howdah.errors import ConfigError, ServiceError
from howdah.pipeline.sections import SECTIONS
from howdah.service.parameters import (
    Image,
    InArray,
    InFile,
    InTable,
    OutFile,
    Parameters,
    Within,
    files_of,
    input_of,
    placed,
)
from howdah.service.preparing import told
from howdah.service.running import prepare
from howdah.service.table import TASKS

ONLY_ON_THE_COMMAND_LINE = {"reproduce"}
IN_MEMORY = {"check", "link.table"}
SERVICE = {"serve", "fiji", "scale"}  # verbs that are about the service itself, or have workers of their own
NAMED_OTHERWISE = {"from": "source_format", "to": "target_format", "set": "parameters", "version": "version"}
OF_THE_TERMINAL = {"json", "help", "config", "once", "every"}
SETTINGS = {f for kind in SECTIONS.values() for f in kind.model_fields} | {
    f"{name}_{field}" for name, kind in SECTIONS.items() for field in kind.model_fields
}


def verbs(command: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, inner in command.commands.items():
        yield from verbs(inner, f"{name}.{part}" if name else part)


VERBS = dict(verbs())


@pytest.mark.parametrize("name", sorted(set(VERBS) - ONLY_ON_THE_COMMAND_LINE))
def test_a_verb_is_a_task_with_the_same_options(name: str) -> None:
    if name.partition(".")[0] in SERVICE:
        pytest.skip("is about the service")
    assert name in TASKS
    options = {
        option.removeprefix("--").replace("-", "_")
        for known in VERBS[name].params
        if known.param_type_name == "option"
        for option in known.opts
        if option.startswith("--")
    }
    own = {NAMED_OTHERWISE.get(option, option) for option in options - OF_THE_TERMINAL if option not in SETTINGS}
    assert own <= set(TASKS[name].parameters.model_fields)


def test_tasks_have_no_others() -> None:
    assert set(TASKS) <= set(VERBS) | IN_MEMORY


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_describes_itself(name: str) -> None:
    schema = TASKS[name].schema()
    json.dumps(schema)
    assert schema["title"] == name
    assert schema["description"].endswith(".")
    assert all("description" in field for key, field in schema["properties"].items() if key != "settings")
    assert set(schema["properties"]["settings"]["properties"]) == set(TASKS[name].sections) <= set(SECTIONS)


def test_roles_of_files_are_in_the_schema() -> None:
    fields = TASKS["embedtrack.track"].schema()["properties"]
    assert fields["source"]["role"] == "read"
    assert fields["out"]["anyOf"][0]["role"] == "write"
    assert fields["also"]["items"]["role"] == "write"
    assert TASKS["check"].schema()["properties"]["image"] == {
        "type": "string",
        "format": "array",
        "role": "read",
        "title": "Image",
        "description": "An image, with its axes.",
    }


def test_results_that_nobody_named_go_into_the_folder_or_beside_the_source(tmp_path: Path) -> None:
    _, given = prepare("track", {"source": "/data/embryo.mastodon"})
    assert given.out == Path("/data/embryo-tracked.mastodon")  # type: ignore[attr-defined]
    _, given = prepare("track", {"source": "/data/embryo.mastodon"}, folder=tmp_path)
    assert given.out == tmp_path / "embryo-tracked.mastodon"  # type: ignore[attr-defined]
    _, given = prepare("tap.train", {"sources": ["/data/a.tif", "/data/b.tif"]}, folder=tmp_path)
    assert given.weights == tmp_path / "a-tap.safetensors"  # type: ignore[attr-defined]
    _, given = prepare("efficientcellseg.segment", {"source": "/data/a.tif"}, folder=tmp_path)
    assert given.out == tmp_path / "a-cells.tif"  # type: ignore[attr-defined]


def test_settings_are_those_of_the_sections_that_the_task_uses() -> None:
    settings = {"elephant": {"n_epochs": 3}, "embedtrack": {"n_epochs": 2}}
    _, given = prepare("train", {"source": "a.mastodon", "settings": settings})
    assert given.settings == {"elephant": {"n_epochs": 3}}
    with pytest.raises(ConfigError, match=r"'n_epochs' in section 'elephant' of the settings of 'train'"):
        prepare("train", {"source": "a.mastodon", "settings": {"elephant": {"n_epochs": 0}}})


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("", {}, "There is no task ''"),
        ("convert", {"source": "a"}, "Parameter 'out' of 'convert' is missing"),
        ("info", {"source": "a", "image": "b"}, "There is no setting 'image' in the parameters of 'info'"),
        ("info", {"source": 7}, "Setting 'source' in the parameters of 'info'"),
        ("check", {"image": 7}, "expected an image"),
        ("link.table", {"table": {"t": [1], "x": [1, 2]}}, "expected a table"),
    ],
)
def test_what_is_wrong_is_a_sentence(name: str, parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises((ConfigError, ServiceError), match=sentence):
        prepare(name, parameters)


def test_an_image_has_an_axis_a_dimension() -> None:
    assert Image(np.zeros((2, 3)), "yx").axes == "YX"
    with pytest.raises(ConfigError, match="one letter an axis"):
        Image(np.zeros((2, 3)), "ZYX")


class Everything(Parameters):
    one: InFile
    many: list[InFile] = Field(default=[])
    maybe: OutFile | None = None
    image: InArray | None = None
    table: InTable | None = None
    text: str = ""


def test_files_are_found_wherever_they_are(tmp_path: Path) -> None:
    given = Everything.of({"one": "a", "many": ["b", "c"], "maybe": "d", "image": "e", "table": "f", "text": "g"})
    found = [(name, role, str(path)) for name, role, path in files_of(given)]
    assert found == [
        ("one", "read", "a"),
        ("many", "read", "b"),
        ("many", "read", "c"),
        ("maybe", "write", "d"),
        ("image", "read", "e"),
        ("table", "read", "f"),
    ]
    within = Within((tmp_path,), (tmp_path / "w",), tmp_path)
    with pytest.raises(ServiceError, match="'maybe' is d, which lies outside"):
        placed(given, within)
    moved = placed(given.model_copy(update={"maybe": Path("w/d")}), within)
    assert [path for _, _, path in files_of(moved)] == [tmp_path / name for name in ("a", "b", "c", "w/d", "e", "f")]
    assert input_of(Everything) == "one"
    assert input_of(TASKS["check"].parameters) is None


def test_objects_in_memory_pass() -> None:
    image = Image(np.zeros((2, 2)), "YX")
    given = told(TASKS["check"], {"image": image})
    assert given.image is image  # type: ignore[attr-defined]
