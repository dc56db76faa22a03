"""The shipped scripts in headless Fiji, against the real backend, and what becomes of every kind of command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from fiji.conftest import RealJava
from pipeline import growing, perfect

from bdv_io.formats import read_tracks

MANY = Path(__file__).with_name("many.py")


class Runs:
    """A list of scripts with their parameters, run in one Java; the result files tell what became of each."""

    def __init__(self, real: RealJava) -> None:
        self.real = real
        self.listed: list[list[str]] = []
        self.output = ""

    def add(self, key: str, script: str, raw: str = "", **parameters: object) -> None:
        """Add a run; ``raw`` is put before the quoted parameters, as typed."""
        typed = [f'{name}="{value}"' for name, value in {**parameters, "result": self.record(key)}.items()]
        self.listed.append([str(self.real.script(script)), ",".join([raw] * bool(raw) + typed)])

    def record(self, key: str) -> Path:
        return self.real.work / "records" / f"{key}.json"

    def go(self) -> None:
        told = {"compile": [str(self.real.fiji / "scripts"), str(self.real.fiji / "jars/Lib")], "runs": self.listed}
        listed = self.real.work / "runs.json"
        listed.write_text(json.dumps(told))
        done = self.real.run("--headless", "--run", str(MANY), f'runs="{listed}"', java=("-Dhowdah.exit=false",))
        self.output = done.stdout + done.stderr
        assert "compiled" in done.stdout, self.output

    def outcome(self, key: str) -> dict[str, Any]:
        path = self.record(key)
        assert path.is_file(), (key, self.output)
        return json.loads(path.read_text())

    def check(self, key: str, *words: str, code: int = 0) -> dict[str, Any]:
        """Assert the exit code and words of the final sentence."""
        found = self.outcome(key)
        assert (found["code"], [word for word in words if word not in found["sentence"]]) == (code, []), (
            found,
            self.output,
        )
        assert Path(found["log"]).read_text().rstrip().endswith(f"({code}): {found['sentence']}")
        return found["result"]


def test_what_becomes_of_each_command_line(real_java: RealJava) -> None:
    """The rows of the table in the README of fiji-scripts; no backend is needed."""
    runs = Runs(real_java)
    (real_java.work / "records").mkdir()
    with_blank = real_java.work / "a b, c=d é.tif"
    tifffile.imwrite(with_blank, np.zeros((4, 5), np.uint8), imagej=True)
    convert, evaluate = "Convert_a_file.py", "Evaluate_against_truth.py"
    runs.add("nothing", convert)
    runs.add("only a file is missing", "Time_arrow/Jump_to_event.py", number="1")
    runs.add("no such file", convert, source="/no/such/file.tif", out="x.csv")
    runs.add("no such folder", convert, source=with_blank, out="/no/such/folder/x.csv")
    runs.add("blanks and signs", convert, source=with_blank)
    runs.add("no number", evaluate, found=with_blank, truth=with_blank, reach="wide")
    runs.add("a negative number", "Time_arrow/Jump_to_event.py", image=with_blank, events=with_blank, number="-1")
    runs.add("single quotes", convert, raw="source='/no/such/single'")
    runs.add("a bad choice", "Backend/Choose_backend.py", backend="telepathy")
    runs.add("settings", "Mastodon/Link_spots.py", project=with_blank, settings="max_distance=3")
    for key, raw in (
        ("unquoted", "source=/tmp/a.tif"),
        ("a word", "source=hello world"),
        ("backslashes", 'source="C:\\Users\\me"'),
    ):
        runs.add(key, convert, raw=raw)
    runs.listed.append([str(real_java.script("No_such_script.py")), ""])
    own = {
        "python error": "1 / 0",
        "java error": "from java.lang import Integer; Integer.parseInt('x')",
        "exit in the middle": "import sys; sys.exit(4)",
        "a closed log": "run._lines.close(); return 'gone on'",  # as Jython closes it when Java is told to end
        "memory": "from java.lang import OutOfMemoryError; raise OutOfMemoryError('Java heap space')",
    }
    for number, (key, line) in enumerate(own.items()):
        script = real_java.script(f"Own_{number}.py")
        script.write_text(
            "#@ String (value='', persist=false) result\n"
            f"from howdah_fiji import script\n\n\ndef body(run):\n    {line}\n\n\nscript.main('Own {number}', body, result=result)\n"
        )
        runs.add(key, script.name)
    runs.go()
    runs.check("nothing", "'source' is missing", "no image is open", 'source="..."', code=2)
    runs.check("only a file is missing", "'image' is missing", code=2)
    runs.check("no such file", "there is no file /no/such/file.tif", code=2)
    runs.check("no such folder", "there is no folder /no/such/folder", code=2)
    runs.check("blanks and signs", "'out' is missing", code=2)
    runs.check("no number", "'reach' must be a number above 0; it is 'wide'", code=2)
    runs.check("a negative number", "is no list of events", code=2)
    runs.check("single quotes", "there is no file /no/such/single", code=2)
    runs.check("a bad choice", "must be auto, service, appose or other; it is 'telepathy'", code=2)
    runs.check("settings", "section.setting=value", code=2)
    runs.check("a closed log", "gone on")
    for key in ("unquoted", "a word", "backslashes"):  # SciJava does not run them: there is no result file
        assert not runs.record(key).exists()
    assert "Invalid escape sequence" in runs.output
    runs.check("python error", "A fault: ZeroDivisionError", code=1)
    runs.check("java error", "A fault: java.lang.NumberFormatException", code=1)
    runs.check("exit in the middle", "A fault: SystemExit: 4", code=1)
    runs.check("memory", "Java's heap is", "Memory & Threads", code=1)
    assert "Traceback" in Path(runs.outcome("python error")["log"]).read_text()


BLUR = """#@ String (value="", persist=false) result
from ij import IJ
from ij.plugin.filter import GaussianBlur
from howdah_fiji import script


def body(run):
    GaussianBlur().blurGaussian(IJ.createImage("x", "16-bit ramp", 600, 600, 1).getProcessor(), 3)
    return "blurred"


script.main("Blur", body, result=result)
"""


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        ('oot="/tmp/x"', 2, "There is no parameter 'oot'; there are"),
        ('"positional"', 2, "has no name: write parameter=value"),
        ('source="SELF",out="OUT",repair="maybe"', 2, "'repair' must be true or false"),
        ("", 0, "blurred"),  # a threaded filter holds Java open for ever unless it is told to exit
    ],
)
def test_headless_java_ends_with_the_exit_code(real_java: RealJava, parameters: str, code: int, words: str) -> None:
    script = real_java.script("Convert_a_file.py" if parameters else "Blur.py")
    if not parameters:
        script.write_text(BLUR)
    typed = parameters.replace("SELF", str(script)).replace("OUT", str(real_java.work / "out.tif"))
    done = real_java.run("--headless", "--run", str(script), *filter(None, [typed]))
    lines = [line for line in done.stdout.splitlines() if line.startswith("Howdah: ")]
    assert (done.returncode, len(lines)) == (code, 1), (done.stdout, done.stderr)
    assert words in lines[0]
    assert f"(exit code {code})" in lines[0]
    [record] = (real_java.home / "fiji-logs").glob("*.json")
    assert json.loads(record.read_text())["code"] == code
    assert lines[0].endswith(f"[{record}]")


def test_the_scripts_against_the_real_backend(real_java: RealJava) -> None:
    """From the start of the backend to its end, in one Java, as a night's batch would."""
    work = real_java.work
    (work / "records").mkdir()
    runs = Runs(real_java)
    cells = perfect.movie(work)
    movie = growing.movie(work, "growing.tif")
    spots = growing.project(work, movie)
    (work / "night").mkdir()
    for name in ("one.tif", "two.tif"):
        growing.movie(work / "night", name)
    (work / "night" / "broken.tif").write_bytes(b"II*\0 no more")
    (work / "points.csv").write_text("Slice,Y,X\n0,1,1\n0,20,20\n1,2,1\n1,21,20\n2,3,1\n")
    runs.add("start", "Backend/Start_backend.py")
    runs.add("check", "Self_check.py")
    runs.add("convert", "Convert_a_file.py", source=cells, out=work / "copy.ome.tif")
    runs.add("colour", "Cells_(2D)/Pseudocolour_(EfficientCellSeg).py", image=movie, neighbours="time")
    runs.add("link", "Mastodon/Link_spots.py", project=spots, out=work / "linked.mastodon")
    runs.add("evaluate", "Evaluate_against_truth.py", found=work / "linked.mastodon", truth=spots)
    runs.add("table", "Link_points_of_a_table.py", table=work / "points.csv")
    runs.add("batch", "Batch_over_a_folder.py", folder=work / "night", task="convert", ending=".ome.tif")
    runs.add("a bad setting", "Mastodon/Link_spots.py", project=spots, settings="linking.max_distance=far")
    runs.add("stop", "Backend/Stop_backend.py")
    runs.go()
    runs.check("start", "the backend answers at http://127.0.0.1:")
    findings = runs.check("check", "checks passed")["findings"]
    assert sum("there and back twice, equal" in finding["found"] for finding in findings) == 3
    runs.check("convert")
    with tifffile.TiffFile(work / "copy.ome.tif") as copy, tifffile.TiffFile(cells) as first:
        np.testing.assert_array_equal(copy.asarray(), first.asarray())
    runs.check("colour")
    assert tifffile.imread(work / "growing-colour.tif").shape == (growing.FRAMES, 3, *growing.SIZE)
    runs.check("link", str(work / "linked.mastodon"))
    assert read_tracks(work / "linked.mastodon").n_spots == read_tracks(spots).n_spots
    runs.check("evaluate", "spots F1 1.000", "links F1 1.000")
    assert (work / "linked-measures.csv").is_file()
    runs.check("table", "3 links between 5 points")
    assert (work / "points-links.csv").read_text().split() == ["source,target", "0,2", "1,3", "2,4"]
    runs.check("batch", "1 of 3 movies failed", "broken.tif", code=2)
    assert sorted(path.name for path in (work / "night/howdah-results").glob("*.ome.tif")) == [
        "one.ome.tif",
        "two.ome.tif",
    ]
    runs.check("a bad setting", "max_distance", code=2)
    runs.check("stop", "the backend is stopped")
    assert not (real_java.home / "service.json").exists()
