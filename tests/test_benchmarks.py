"""The suite of benchmarks: its runner on toys, its peers, its tables and the page that is made of them. Nothing here looks at a time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import end_to_end
from benchmarks.suite import page, peers, table
from benchmarks.suite.case import GROUPS, MODULES, Case, Work, all_cases, case
from benchmarks.suite.machine import machine
from benchmarks.suite.measure import How, growth, measure, row_of
from benchmarks.suite.reasons import REASONS, reason_of

TOYS = ("tests.toy_benchmarks",)
PEER = """
import json, sys
asked = json.load(sys.stdin)
said = {"version": "1"} if asked["job"] == "version" else {"wall_s": 0.5, "cpu_s": 0.4, "peak_mb": 3.0, "given": asked["given"]}
print("talk of the peer")
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("bench")
    how = How(quick=True, folder=folder, modules=TOYS, most_s=60)
    found = {row["name"]: row for row in measure(all_cases(TOYS).values(), how)}
    assert not list(folder.iterdir()), "files of a measurement are left"
    return found


def test_a_case_is_measured_at_two_sizes_in_quick_runs(rows: dict[str, dict]) -> None:
    row = rows["toy: sum"]
    assert [size["amount"] for size in row["sizes"]] == [1_000, 10_000]
    assert all(size["wall_s"] > 0 and size["turns"] >= 3 and size["spread"] >= 0 for size in row["sizes"])
    last = row["sizes"][-1]
    assert row["per_second"] == pytest.approx(10_000 / last["wall_s"])
    assert row["over_limit"] == pytest.approx(last["wall_s"] / last["limit_s"])
    assert math.isfinite(row["growth"])


def test_a_peer_that_is_absent_gives_no_figure(rows: dict[str, dict]) -> None:
    assert rows["toy: sum"]["over_peer"] is None
    assert rows["toy: sum"]["peer_says"] == "not installed"


def test_a_wrong_result_is_no_figure(rows: dict[str, dict]) -> None:
    good, bad = rows["toy: wrong"]["sizes"]
    assert good["peer_s"] > 0
    assert bad == {"size": 20, "failed": "The result is wrong: too large for this toy"}
    assert "the next failed: The result is wrong" in table.row_text(rows["toy: wrong"])


def test_a_peer_runs_in_its_own_python_or_with_its_folder_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path)
    (tmp_path / "peer_some_tool.py").write_text(PEER)
    with pytest.raises(peers.Absent, match="some-tool"):
        peers.command_of("some-tool", tmp_path)
    (tmp_path / "some-tool").mkdir()
    command, environment = peers.command_of("some-tool", tmp_path)
    assert environment["PYTHONPATH"] == str(tmp_path / "some-tool")
    assert Path(command[1]).name == "peer_some_tool.py"
    assert peers.installed(tmp_path) == {"some-tool": "1"}
    given = {"file": "x"}
    assert peers.measured("some-tool", "read", given, folder=tmp_path, budget_s=0)["given"] == given
    (tmp_path / "peer_some_tool.py").write_text("raise SystemExit('no licence here')")
    with pytest.raises(peers.PeerFailed, match="no licence here"):
        peers.measured("some-tool", "read", given, folder=tmp_path, budget_s=0)
    python = tmp_path / "some-tool" / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    assert peers.command_of("some-tool", tmp_path)[0][0] == str(python)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5, 2.0])
def test_growth_is_the_exponent(exponent: float) -> None:
    assert growth([(n, 3 * n**exponent) for n in (10, 100, 1000)]) == pytest.approx(exponent)


@pytest.mark.parametrize("points", [[], [(10, 1)], [(10, 1), (10, 2)]])
def test_growth_needs_two_sizes(points: list) -> None:
    assert growth(points) is None


def test_a_case_needs_a_group_and_three_growing_sizes() -> None:
    def nothing(n: int, folder: Path) -> Work:
        raise NotImplementedError

    with pytest.raises(ValueError, match="cannot be added"):
        case("toy: no group", group="nothing", unit="", sizes=(1, 2, 3), limit="")(nothing)
    with pytest.raises(ValueError, match="cannot be added"):
        case("toy: shrinks", group="format", unit="", sizes=(3, 2, 1), limit="")(nothing)


def test_every_format_and_method_has_a_case() -> None:
    names = " ".join(all_cases(MODULES)).lower()
    wanted = [
        "bdv hdf5",
        "n5",
        "ome-zarr",
        "tiff",
        ".mastodon",
        "trackmate",
        "mamut",
        "challenge",
        "geff",
        "label image",
        "roi",
        "csv",
    ]
    wanted += [
        "parquet",
        "elephant",
        "embedtrack",
        "efficientcellseg",
        "tap",
        "link",
        "lineages",
        "ellipsoids",
        "metrics",
        "service",
    ]
    assert [word for word in [*wanted, "scale"] if word not in names] == []
    assert {one.group for one in all_cases(MODULES).values()} == set(GROUPS)
    scripts = {one.script.split(":")[0] for one in all_cases(MODULES).values() if one.script}
    documented = (page.ROOT / "benchmarks" / "peers.md").read_text(encoding="utf-8")
    for name in scripts:
        assert (peers.SCRIPTS / f"peer_{name.replace('-', '_')}.py").is_file(), name
        assert f"| `{name}` |" in documented, name


def test_the_machine_is_told_without_places(tmp_path: Path) -> None:
    told = machine(tmp_path)
    assert {"processor", "cores", "memory_gb", "disk", "gpu", "system", "commit", "load", "busy", "libraries"} <= set(
        told
    )
    assert str(tmp_path) not in json.dumps(told)
    assert told["libraries"]["numpy"]


def some_facts(tmp_path: Path) -> dict:
    return {"quick": True, "seconds": 0, "machine": machine(tmp_path), "took_s": 61.0, "peers": {"some-tool": "1"}}


def test_tables_are_written_and_read(tmp_path: Path, rows: dict[str, dict]) -> None:
    table.write(tmp_path, some_facts(tmp_path), list(rows.values()))
    told = table.read(tmp_path / "table.json")
    assert [row["name"] for row in told["cases"]] == list(rows)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "### Metrics" in text
    assert all(
        line.count(" | ") == table.HEAD.count(" | ") for line in text.splitlines() if line.startswith("| toy: sum")
    )
    assert (tmp_path / "table-metrics.md").exists()
    (tmp_path / "table.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="make bench"):
        table.read(tmp_path / "table.json")


def test_a_case_that_failed_everywhere_has_a_line() -> None:
    one = Case(
        name="n",
        group="scale",
        unit="u",
        sizes=(1, 2, 3),
        limit="l",
        prepare=lambda n, f: Work(amount=1, run=int, limit=int),
    )
    row = row_of(one, [{"size": 1, "failed": "no"}])
    assert table.row_text(row).startswith("| n | failed: no |")
    assert row["growth"] is None


def test_the_page_takes_its_parts_and_keeps_the_rest(tmp_path: Path, rows: dict[str, dict]) -> None:
    measured = {**some_facts(tmp_path), "cases": list(rows.values())}
    parts = page.parts_of(measured, None)
    made = page.filled(page.PAGE.read_text(encoding="utf-8"), parts)
    assert "toy: sum" in made
    assert "## How to read it" in made
    assert page.filled(made, parts) == made
    with pytest.raises(ValueError, match="no place"):
        page.filled("nothing", parts)


def test_the_page_holds_the_table_that_is_kept() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    told = table.read(page.RESULTS / "table.json")
    kept = page.RESULTS / "end_to_end.json"
    whole = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
    assert page.filled(text, page.parts_of(told, whole)) == text, "run `python -m benchmarks.suite.page`"
    assert {row["group"] for row in told["cases"]} <= set(GROUPS)


def test_every_case_has_a_reason_and_every_script_a_line() -> None:
    names = list(all_cases(MODULES))
    images = ("BDV", "crops", "OME-Zarr", "TIFF")  # near their limits, most of them
    assert [name for name in names if not reason_of(name) and not any(word in name for word in images)] == []
    assert [key for key in REASONS if not any(name.startswith(key) for name in names)] == []
    told = (page.ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for script in (page.ROOT / "benchmarks").glob("*.py"):
        kind = script.stem.split("_")[0]
        assert f"`{script.name}`" in told or kind in ("bench", "run") or f"`{kind}_tap*.py`" in told, script.name


def test_stages_exclude_one_another() -> None:
    stages = end_to_end.Stages()
    inner = stages.around(lambda: 7, "read")

    def steps():
        yield inner()
        return "end"

    made = stages.around_steps(steps, "link")()
    assert next(made) == 7
    with pytest.raises(StopIteration, match="end"):
        next(made)
    stages.begin("write")
    stages.end()
    assert all(stages.seconds[name] > 0 for name in ("cells", "link", "read", "write"))
    assert stages._open == ["cells"]


def test_a_row_that_failed_is_seen() -> None:
    line = end_to_end.row_text({"name": "a", "device": "cpu", "failed": "given up after 1 s"})
    assert "failed: given up after 1 s" in line
    assert line.count("|") == end_to_end.HEAD.splitlines()[0].count("|")


def test_a_run_goes_on_with_the_cases_that_are_missing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.suite",
        "--modules",
        TOYS[0],
        "--quick",
        "--seconds",
        "0",
        "--out",
        str(tmp_path),
    ]
    for only, resumed in (("sum", []), ("toy", ["--resume"])):
        done = subprocess.run(
            [*command, "--only", only, *resumed], capture_output=True, text=True, timeout=60, check=False, cwd=page.ROOT
        )
        names = [row["name"] for row in table.read(tmp_path / "table.json")["cases"]]
    assert names == ["toy: sum", "toy: wrong"]
    assert "1/1] toy: wrong" in done.stderr
    assert "Not measured in full: toy: wrong" in done.stderr


def test_scores_are_picked_from_an_evaluation() -> None:
    said = {"measures": [{"what": "spots", "F1": 0.5}, {"what": "links", "F1": None}], "segmentation": {"SEG": 0.25}}
    assert end_to_end.scores_of(said) == {"spots F1": 0.5, "SEG": 0.25}
