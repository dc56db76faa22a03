"""Howdah's scripts in a Fiji folder: nothing that a person changed is lost, and nothing of ours stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from howdah.bridge import installation
from howdah.cli import app
from howdah.errors import BridgeError

SCRIPT = "scripts/Plugins/Howdah/Self_check.py"
CLIENT = "jars/Lib/howdah_fiji"


@pytest.fixture
def fiji(tmp_path: Path) -> Path:
    """The layout of a Fiji: empty jars of the right names; nothing here runs them."""
    folder = tmp_path / "Fiji.app"
    for name in ("jars/ij-1.54p.jar", "jars/jython-slim-2.7.4.jar", "plugins/mastodon.jar"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_install_and_remove_leave_the_fiji_as_it_was(fiji: Path) -> None:
    before, folders = files_in(fiji), {path for path in fiji.rglob("*") if path.is_dir()}
    done = installation.install(fiji)
    assert (fiji / SCRIPT).is_file()
    assert (fiji / CLIENT / "__init__.py").is_file()
    assert done["kept"] == []
    assert not any("ruff" in name or "__pycache__" in name for name in files_in(fiji))
    (fiji / CLIENT / "script$py.class").write_bytes(b"compiled by Jython")
    assert installation.remove(fiji)["kept"] == []
    assert files_in(fiji) == before
    left = {path.relative_to(fiji).as_posix() for path in fiji.rglob("*") if path.is_dir() and path not in folders}
    assert left <= {"scripts", "scripts/Plugins", "jars/Lib"}


def test_a_changed_script_is_kept(fiji: Path) -> None:
    installation.install(fiji)
    (fiji / SCRIPT).write_text("# mine")
    done = installation.install(fiji)
    assert [Path(name).read_text() for name in done["kept"]] == ["# mine"]
    assert "script.main" in (fiji / SCRIPT).read_text()
    (fiji / SCRIPT).write_text("# mine, again")
    assert "was changed" in " ".join(installation.check(fiji)["problems"])
    installation.install(fiji)
    (fiji / SCRIPT).write_text("# last")
    assert installation.remove(fiji)["kept"] == [str(fiji / SCRIPT)]
    assert (fiji / SCRIPT).read_text() == "# last"
    texts = sorted(path.read_text() for path in fiji.rglob("*.mine*"))
    assert texts == ["# mine", "# mine, again"]


def test_a_file_of_ours_that_was_there_before_is_not_overwritten(fiji: Path) -> None:
    (fiji / SCRIPT).parent.mkdir(parents=True)
    (fiji / SCRIPT).write_text("# somebody's own")
    kept = installation.install(fiji)["kept"]
    assert [Path(name).read_text() for name in kept] == ["# somebody's own"]


def test_an_update_takes_away_what_is_no_more(fiji: Path) -> None:
    installation.install(fiji)
    record = fiji / CLIENT / "installed.json"
    known = json.loads(record.read_text())
    (fiji / "scripts/Plugins/Howdah/Old.py").write_bytes(b"old")
    (fiji / "outside.py").write_bytes(b"old")
    known["files"]["scripts/Plugins/Howdah/Old.py"] = known["files"]["../outside.py"] = installation._sha(b"old")
    (fiji.parent / "outside.py").write_bytes(b"old")
    record.write_text(json.dumps(known))
    assert installation.install(fiji)["removed"] == ["scripts/Plugins/Howdah/Old.py"]
    assert (fiji.parent / "outside.py").is_file()


@pytest.mark.parametrize(
    "python", ["/usr/bin/python3", "C:\\Users\\Zoë 😀\\venv\\Scripts\\python.exe", "/a b/#py=thon:!"]
)
def test_the_python_of_the_backend_is_written_as_java_reads_it(fiji: Path, python: str) -> None:
    installation.install(fiji, python=python)
    text = (fiji / CLIENT / "backend.properties").read_bytes()
    assert text.isascii()
    assert installation.check(fiji)["python"] == python


def test_check_names_each_problem(fiji: Path) -> None:
    assert "not installed" in installation.check(fiji)["problems"][0]
    installation.install(fiji)
    assert installation.check(fiji)["problems"] == []
    (fiji / SCRIPT).unlink()
    (fiji / "jars/jython-slim-2.7.4.jar").unlink()
    problems = installation.check(fiji)["problems"]
    assert [word in " ".join(problems) for word in ("jython", "Self_check.py is missing")] == [True, True]
    with pytest.raises(BridgeError, match="no jars/jython"):
        installation.install(fiji)


def test_other_layouts_and_other_folders(fiji: Path, tmp_path: Path) -> None:
    assert installation.find_fiji(tmp_path).folder == fiji
    assert installation.find_fiji(fiji / "jars").folder == fiji
    (fiji / "Contents" / "MacOS").mkdir(parents=True)
    assert installation.find_fiji(fiji / "Contents").folder == fiji
    with pytest.raises(BridgeError, match="no folder"):
        installation.find_fiji(tmp_path / "nowhere")
    empty = tmp_path / "deep" / "below" / "empty"
    empty.mkdir(parents=True)
    with pytest.raises(BridgeError, match="is no Fiji"):
        installation.find_fiji(empty)
    with pytest.raises(BridgeError, match="were not installed"):
        installation.remove(fiji)


def test_a_damaged_record_is_as_none(fiji: Path) -> None:
    installation.install(fiji)
    (fiji / CLIENT / "installed.json").write_text("{")
    assert installation.install(fiji)["kept"] == []
    assert installation.check(fiji)["problems"] == []


def test_the_tree_of_an_update_site(tmp_path: Path) -> None:
    done = installation.update_site(tmp_path / "site")
    names = files_in(tmp_path / "site")
    assert len(names) == done["written"]
    assert {name.split("/")[0] for name in names} == {"scripts", "jars"}
    with pytest.raises(BridgeError, match="something in it"):
        installation.update_site(tmp_path / "site")


def test_the_commands(fiji: Path, tmp_path: Path) -> None:
    run = CliRunner()
    assert run.invoke(app, ["fiji", "check", str(fiji)]).exit_code == 2
    done = run.invoke(app, ["fiji", "install", str(fiji), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["fiji"] == str(fiji)
    assert run.invoke(app, ["fiji", "check", str(fiji)]).exit_code == 0
    assert run.invoke(app, ["fiji", "remove", str(fiji)]).exit_code == 0
    assert run.invoke(app, ["fiji", "update-site", str(tmp_path / "site")]).exit_code == 0
    assert run.invoke(app, ["fiji", "install", str(tmp_path / "gone")]).exit_code == 2
