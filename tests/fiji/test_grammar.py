"""Every script is Jython 2.7 and Python 3 at once, plain ASCII, and no parameter of it can harm later runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "fiji-scripts"
MODULES = sorted((FOLDER / "jars/Lib").rglob("*.py"))
SCRIPTS = sorted((FOLDER / "scripts").rglob("*.py"))
PARAMETER = re.compile(r"^#@ (\w+) \((.*)\) (\w+)$")
TYPES = {"File", "String", "Boolean"}


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) > 20
    assert not [path for path in SCRIPTS if path.name.startswith("_")], "they would be items of the menu"


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name_of)
def test_python_3_reads_it(path: Path) -> None:
    source = path.read_bytes()
    assert source.isascii()
    assert b"coding:" not in source
    tree = ast.parse(source)
    newer = (
        ast.JoinedStr,
        ast.AnnAssign,
        ast.NamedExpr,
        ast.Nonlocal,
        ast.AsyncFunctionDef,
        ast.Starred,
        ast.YieldFrom,
    )
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, newer) and not _in_call(node)] == []


def _in_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Starred)  # f(*list) is Jython's, too; what is not, Jython itself refuses below


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_has_a_place_a_name_and_harmless_parameters(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    shown = path.stem.replace("_", " ")
    folders = path.relative_to(FOLDER / "scripts").parent.parts
    menu = ">".join(part.replace("_", " ") for part in (*folders, path.stem))
    assert lines[0] == f'#@script(label="{shown}", menuPath="{menu}", headless=true)'
    assert f'script.main("{shown}", body' in lines[-1]
    heads = [line for line in lines[1:] if line.startswith("#@")]
    assert "visibility=MESSAGE" in heads[0], "without it SciJava skips a script whose only unset input is a File"
    names = []
    for line in heads[1:]:
        found = PARAMETER.fullmatch(line)
        assert found, line
        kind, said, name = found.groups()
        names.append(name)
        assert kind in TYPES, "numbers are texts, so that a wrong one is seen and not replaced by its default"
        assert "persist=false" in said
        assert "description=" in said
        assert "label=" in said
        assert ("required=false" in said) if kind == "File" else ("value=" in said or "choices=" in said)
    assert names[-1] == "result"
    assert lines[-1].endswith("body, " + ", ".join(f"{name}={name}" for name in names) + ")")
