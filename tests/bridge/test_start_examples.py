"""The examples for CPython run: with the real ImageJ of Maven Central where that is enough, else in a real Fiji (HOWDAH_FIJI)."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
from bridge.in_java import REPOSITORY, run_python
from bridge.test_start import DEAD

EXAMPLES = REPOSITORY / "fiji-scripts" / "python"
NOTEBOOKS = sorted((REPOSITORY / "fiji-scripts" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[str]:
    return [
        "".join(cell["source"])
        for cell in json.loads(notebook.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_stripped(notebook):
    content = json.loads(notebook.read_text("utf-8"))
    assert notebook.stat().st_size < 10_000
    for cell in content["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    for source in cells(notebook):
        ast.parse(source)


def test_every_example_is_in_the_readme():
    text = (EXAMPLES / "README.md").read_text("utf-8")
    names = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(names) >= 4
    assert [name for name in names if name not in text] == []


def test_numpy_to_imagej_and_back_with_imagej_alone(java_classpath, tmp_path):
    done = run_python([str(EXAMPLES / "numpy_to_imagej_and_back.py"), "--imagej", java_classpath], tmp_path, **DEAD)
    assert done.returncode == 0, done.stderr
    assert "ImageJ 1.54p\n(T, C, Z, Y, X) = (3, 1, " in done.stdout


def test_the_notebook_of_numpy_runs_with_imagej_alone(java_classpath, tmp_path):
    """Its cells as a script; `start()` gives ImageJ alone, not Fiji."""
    script = tmp_path / "cells.py"
    first = f"import howdah.bridge\nhowdah.bridge.start = lambda: howdah.bridge.start_imagej({java_classpath!r})\n"
    script.write_text(first + "\n".join(cells(NOTEBOOKS[0])), "utf-8")
    done = run_python([str(script)], tmp_path, **DEAD)
    assert done.returncode == 0, done.stderr


def test_the_notebook_of_tracks_runs_without_fiji(tmp_path):
    script = tmp_path / "cells.py"
    script.write_text("\n".join(cells(NOTEBOOKS[1])), "utf-8")
    done = run_python([str(script)], tmp_path, TMPDIR=str(tmp_path), **DEAD)
    assert done.returncode == 0, done.stderr


@pytest.mark.fiji
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_fiji(real_fiji, tmp_path, notebook):
    script = tmp_path / "cells.py"
    script.write_text("\n".join(cells(notebook)), "utf-8")
    done = run_python([str(script)], tmp_path, HOWDAH_FIJI=str(real_fiji), TMPDIR=str(tmp_path), **DEAD)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def project(tmp_path):
    from bdv_io.formats import open_image, write_image, write_tracks
    from howdah.synthetic import embryo

    movie = embryo(n_frames=4, seed=2)
    write_image(tmp_path / "embryo.xml", movie.image())
    truth = movie.truth
    half = truth.select_links(list(range(truth.n_links // 2)))
    write_tracks(tmp_path / "embryo.mastodon", half, image=open_image(tmp_path / "embryo.xml"))
    return tmp_path / "embryo.mastodon"


@pytest.mark.fiji
def test_short_tracks_in_mastodon(real_fiji, project):
    from bdv_io.formats import read_tracks

    arguments = [str(EXAMPLES / "short_tracks_in_mastodon.py"), str(project), "--frames", "3", "--fiji", str(real_fiji)]
    done = run_python(arguments, project.parent, **DEAD)
    assert done.returncode == 0, done.stderr[-3000:]
    tagged = read_tracks(project.with_name("embryo-reviewed.mastodon")).tagged("Review", "short track")
    assert 0 < tagged.sum() < len(tagged)


@pytest.mark.fiji
def test_movie_in_bigdataviewer(real_fiji, virtual_display, project):
    arguments = [
        str(EXAMPLES / "movie_in_bigdataviewer.py"),
        str(project.with_name("embryo.xml")),
        "--fiji",
        str(real_fiji),
    ]
    done = run_python([*arguments, "--seconds", "1"], project.parent, before=(virtual_display, "-a"), **DEAD)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sources: 2 time points: 4" in done.stdout


@pytest.mark.fiji
def test_the_python_mode_script_runs_with_what_fiji_hands_it(real_fiji, tmp_path):
    """Fiji's Python mode runs a script by `exec` with its `#@` inputs as variables; here that is done by hand."""
    shutil.copy(EXAMPLES / "python_mode_count_cells.py", tmp_path / "script.py")
    code = f"""
import sys, imagej, scyjava
scyjava.config.endpoints.clear()
scyjava.config.set_java_constraints(fetch="auto")
ij = imagej.init({os.fspath(real_fiji)!r}, mode="headless")
import numpy as np
from howdah.bridge.images import to_imageplus
array = np.zeros((60, 60), np.uint16); array[10:20, 10:20] = 900; array[40:50, 30:45] = 900
names = {{"context": ij.context(), "image": to_imageplus(array, title="two")}}
exec(open("script.py").read(), names)
assert names["cells"] == 2 and names["labels"].getBitDepth() == 8 and names["labels"].getStatistics().max == 2
sys.exit(4)
"""
    done = run_python(["-c", code], tmp_path, **DEAD)
    assert done.returncode == 4, done.stderr[-3000:]
    assert "2 cells in two" in done.stdout
