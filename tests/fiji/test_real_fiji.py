"""Howdah's scripts in a real Fiji (HOWDAH_FIJI): its own main class, its scripting languages, its window under a virtual display."""

import json
import shutil
from pathlib import Path

import pytest
from bridge.in_java import names_of, run_checks
from fiji.fiji_program import copy_with_scripts, run_headless
from pipeline import growing

from bdv_io.formats import write_image
from bdv_io.image import ArrayImage
from howdah.bridge import installation

CHECKS = str(Path(__file__).with_name("checks_real_fiji.py"))
POINTS = "frame,y,x\n0,10,10\n0,50,50\n1,11,10\n1,50,52\n2,12,11\n2,51,53\n"


def test_fiji_lists_every_script_in_its_window():
    """ImageJ's window takes a script's place from its path, not from `menuPath`, and only where the file name has an underscore."""
    folder = installation.scripts_folder() / "scripts"
    for path in folder.rglob("*.py"):
        assert "_" in path.name
        place = path.relative_to(folder).with_suffix("").as_posix().replace("/", ">").replace("_", " ")
        assert f'menuPath="{place}"' in path.read_text(), path


@pytest.fixture(scope="module")
def fiji(real_fiji, tmp_path_factory):
    folder = copy_with_scripts(real_fiji, tmp_path_factory.mktemp("real") / "Fiji.app")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(POINTS)
    return path


@pytest.mark.fiji
def test_self_check(fiji, tmp_path):
    ended = run_headless(fiji, tmp_path, "Self_check.py")
    assert ended.code == 0, ended
    findings = ended.record["result"]["findings"]
    assert [one["what"] for one in findings if not one["ok"]] == []
    assert {"image, 8-bit", "image, 16-bit", "image, 32-bit"} <= {one["what"] for one in findings}
    assert ended.lines[-1].startswith("Howdah: Self check: done (exit code 0)")


@pytest.mark.fiji
def test_a_task_runs_and_its_result_is_there(fiji, table, tmp_path):
    out = tmp_path / "links.csv"
    ended = run_headless(fiji, tmp_path, "Link_points_of_a_table.py", table=table, columns="frame, y, x", out=out)
    assert (ended.code, ended.record["state"]) == (0, "done"), ended
    assert len(out.read_text().splitlines()) == 1 + ended.record["result"]["links"] == 5


@pytest.mark.fiji
@pytest.mark.parametrize(
    ("script", "given", "words"),
    [
        ("Mastodon/Track_nuclei_(Mastodon).py", {}, "Parameter 'project' is missing"),
        (
            "Convert_a_file.py",
            {"source": "/nowhere/a.mastodon", "out": "b.csv"},
            "there is no file /nowhere/a.mastodon",
        ),
        ("Link_points_of_a_table.py", {"tables": "a.csv"}, "There is no parameter 'tables'"),
    ],
)
def test_bad_input_has_a_sentence_and_exit_code_2(fiji, script, given, words, tmp_path):
    ended = run_headless(fiji, tmp_path, script, **given)
    assert (ended.code, ended.record["code"]) == (2, 2), ended
    assert words in ended.record["sentence"]
    assert ended.lines[-1].startswith("Howdah: ")


@pytest.mark.fiji
def test_every_language_calls_howdah(fiji, tmp_path):
    """A script of one's own, in Jython, finds the client; the menu service knows every script."""
    script, found = tmp_path / "own_script.py", tmp_path / "menus.json"
    script.write_text(
        "#@ MenuService menus\n#@ String out\n"
        "import json\nfrom java.lang import System\nfrom howdah_fiji import places\n"
        "def leaves(menu, above):\n"
        "    return [above + [menu.getName()]] if menu.isLeaf() else"
        " [leaf for child in menu.getChildren() for leaf in leaves(child, above + [menu.getName()])]\n"
        "listed = [leaf for leaf in leaves(menus.getMenu(), []) if 'Howdah' in leaf]\n"
        "open(out, 'w').write(json.dumps(listed))\nSystem.exit(5)\n"
    )
    ended = run_headless(fiji, tmp_path, str(script), out=found)
    assert ended.code == 5, ended
    listed = {tuple(leaf[leaf.index("Howdah") :]) for leaf in json.loads(found.read_text())}
    folder = fiji / "scripts" / "Plugins" / "Howdah"
    titles = [path.read_text().split('menuPath="Plugins>', 1)[1].split('"', 1)[0] for path in folder.rglob("*.py")]
    assert listed == {tuple(title.split(">")) for title in titles}


@pytest.fixture(scope="module")
def in_the_window(fiji, virtual_display, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    movie = home / "movie.xml"  # BigDataViewer's form, which Mastodon opens
    write_image(movie, ArrayImage(growing.pixels(), voxel_size=(1.0, 0.5, 0.5), unit="µm", interval=(60.0, "s")))
    growing.project(home, movie)
    return run_checks(CHECKS, "fiji", home, before=(virtual_display, "-a"), fiji=str(fiji), mode="interactive")


@pytest.mark.fiji
@pytest.mark.parametrize("name", [*names_of(CHECKS), "the process ends"])
def test_in_the_window(in_the_window, name):
    assert in_the_window.get(name, f"was not reached: {in_the_window}") == "ok", in_the_window.get(name)
