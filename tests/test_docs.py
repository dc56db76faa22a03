"""What the docs print is there: commands and their options, Python, files, links, pictures, scripts, tasks."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from howdah.cli import app

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "fiji-scripts"
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *SCRIPTS.rglob("README.md"),
    ]
)
LARGEST_PICTURE = 500_000
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SCRIPT = re.compile(r"scripts/Plugins/Howdah/[\w()/.+-]+?\.py")
EXAMPLE = re.compile(r"\b(?:python|notebooks)/(\w+\.(?:py|ipynb))")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The code blocks of a page in these languages."""
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `howdah ...` that a page prints, in blocks and in sentences, without comments and what the shell does with it."""
    lines = [line for block in blocks(page, "", "sh", "ini") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *INLINE.findall(page.read_text(encoding="utf-8"))]:
        found = re.match(r"(?:[A-Z_]+=\S+ |ExecStart=\S*/)*howdah ([^|&>]*)", line.strip())
        if found:
            yield shlex.split(found[1], comments=True)


@cache
def top() -> TyperGroup:
    """The command line."""
    found = get_command(app)
    assert isinstance(found, TyperGroup)
    return found


def command_of(words: list[str]) -> tuple[str, TyperCommand | TyperGroup, list[str]]:
    """The command that the words name, and the words that are left."""
    command: TyperCommand | TyperGroup = top()
    name, left = "howdah", list(words)
    while isinstance(command, TyperGroup) and left and re.fullmatch(r"[a-z][a-z-]*,?", left[0]):
        verb = left.pop(0).rstrip(",")
        assert verb in command.commands, f"there is no command '{name} {verb}'"
        command, name = command.commands[verb], f"{name} {verb}"
    return name, command, left


def unknown_options(command: TyperCommand | TyperGroup, words: list[str]) -> list[str]:
    """The options among the words that the command does not have; a word after an option that takes a value is none."""
    known = {"--help": True}
    for parameter in command.params:
        flag = isinstance(parameter, TyperOption) and parameter.is_flag
        known |= dict.fromkeys(parameter.opts + parameter.secondary_opts, flag)
    found, before = [], ""
    for word in words:
        option = word.partition("=")[0]
        if known.get(before, True) and re.match(r"--?[a-zA-Z]", word) and option not in known:
            found.append(option)
        before = word
    return found


def test_there_is_something_to_check() -> None:
    assert len(PAGES) > 10
    assert sum(len(list(commands(page))) for page in PAGES) > 100
    assert sum(len(list(blocks(page, "python"))) for page in PAGES) > 5


@each_page
def test_every_command_and_option_is_there(page: Path) -> None:
    for words in commands(page):
        name, command, left = command_of(words)
        assert unknown_options(command, left) == [], f"{name}: {words}"


def test_an_option_that_is_not_there_is_seen() -> None:
    name, command, left = command_of(["fiji", "install", "/path/to/Fiji", "--python", "-x", "--pythn", "--json"])
    assert (name, unknown_options(command, left)) == ("howdah fiji install", ["--pythn"])


def test_the_readme_has_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## All commands")[2].partition("\n## ")[0]
    missing = [name for name in top().commands if f"howdah {name}" not in table]
    assert missing == []


@each_page
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@each_page
def test_every_other_block_can_be_read(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)
    for block in blocks(page, "json"):
        json.loads(block)


@each_page
def test_every_link_and_picture_is_there(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / unquote(name)).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert ROOT in file.parents
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_picture_is_used_and_small() -> None:
    used = {Path(target).name for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))}
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.name in used, picture.name
        assert picture.stat().st_size < LARGEST_PICTURE, picture.name


@each_page
def test_every_script_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in set(SCRIPT.findall(text)) - {"scripts/Plugins/Howdah/Some_name.py"}:
        assert (SCRIPTS / name).is_file(), name
    for name in EXAMPLE.findall(text):
        assert list(SCRIPTS.glob(f"*/{name}")), name


def test_the_table_of_scripts_is_whole() -> None:
    """docs/fiji.md lists every item of the menu, under the name that it has there."""
    text = (ROOT / "docs" / "fiji.md").read_text(encoding="utf-8")
    for script in (SCRIPTS / "scripts").rglob("*.py"):
        assert f"| {script.stem.replace('_', ' ')} |" in text, script.name


def test_every_measure_is_explained() -> None:
    """docs/evaluate.md has each measure of the challenge in its table, with (i) for those that have a tolerance."""
    from howdah.pipeline.evaluation_challenge import NAMES

    text = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    known = {name.strip() for row in rows for name in row.split(",")}
    assert {re.sub(r"\(\d\)", "(i)", name) for name in NAMES} <= known


def test_every_tag_of_an_evaluation_is_explained() -> None:
    from howdah.pipeline.error_tags import TAGS

    text = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8").partition("## The errors in Mastodon")[2]
    assert [tag.name for tag in TAGS if tag.name not in text] == []


def test_the_plan_of_a_large_movie_has_its_place() -> None:
    """docs/scale.md has the marks between which the table of benchmarks/scale_plan.py goes, once each and in order."""
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").partition("## A movie of four terabytes")[2]
    assert re.findall("<!-- (.*?) -->", text) == ["plan", "end of plan"]


def test_extras_are_those_of_the_package() -> None:
    """What pip is told to install, in pages and in environment.yml, are extras of pyproject.toml; README says what each is for."""
    extras = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    files = [*PAGES, ROOT / "environment.yml"]
    asked = {
        name.strip()
        for file in files
        for found in re.findall(r"(?:-e ['\"]?\.|howdah)\[([\w, ]+)\]", file.read_text(encoding="utf-8"))
        for name in found.split(",")
    }
    assert asked <= extras
    install = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Install")[2].partition("\n## ")[0]
    assert [name for name in sorted(extras - {"dev", "all"}) if not re.search(rf"[`\[,]{name}[`\],]", install)] == []


@each_page
def test_every_task_that_is_asked_for_is_there(page: Path) -> None:
    from howdah.service.table import TASKS

    text = page.read_text(encoding="utf-8")
    asked = re.findall(r'"?task"?[=:] ?\\?"([a-z.-]+)\\?"', text) + re.findall(r"howdah batch ([a-z.-]+) ", text)
    asked += re.findall(r'\.(?:run|submit|do)\("([a-z.-]+)"', text)
    assert [name for name in asked if name not in TASKS] == []
