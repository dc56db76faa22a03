"""Does ``howdah evaluate`` give the numbers of the official programs: a row a sample and damage, the largest difference of all measures.

Run: ``python benchmarks/score_official.py DATA_FOLDER [OUT_FOLDER] [--only hela,c2c12] [--results FOLDER]``. Every folder
``DATA_FOLDER/SAMPLE/01_GT`` with ``TRA/man_track.txt`` is a sample. Results are the truth, spoilt in twelve ways (:mod:`damage`),
the true cells linked by Howdah, and ``FOLDER/SAMPLE/NAME/01_RES`` of methods. They are judged by py-ctcmetrics' own
``evaluate_sequence``, which reads the files itself, and, where ``HOWDAH_CTC_JAVA`` names a folder with the classes of
github.com/CellTrackingChallenge/measures and the jars that they need, by these, too.

A cell holds the largest difference, of how many measures, and how many measures only one of the two defines: without true
divisions the Java program calls BC(i) zero, and without any cell found TF no number; py-ctcmetrics and Howdah call the first not
defined, the second zero. The last columns are Howdah's own counting without the library, for movies that are too large for it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

sys.path.insert(0, str(Path(__file__).parent))
from damage import DAMAGES, Movie, write

from bdv_io.ctc.table import read_table
from bdv_io.formats import read_tracks, write_tracks
from howdah.linking import link_spots
from howdah.metrics import challenge_library
from howdah.pipeline import evaluation_challenge
from howdah.pipeline.evaluation import evaluate
from howdah.progress import finish

NEED = 1e-5
SEGMENTING = ("SEG", "OP_CSB", "OP_CTB")


def movie_of(truth: Path) -> Movie:
    frames = [tifffile.imread(file).astype(np.int64) for file in sorted((truth / "TRA").glob("man_track*.tif"))]
    table = read_table(truth / "TRA" / "man_track.txt")
    parents = {int(row[0]): int(row[3]) for row in table if row[3] > 0}
    return Movie([frame.reshape((-1, *frame.shape[-2:])) for frame in frames], parents)


def linked(truth: Path, result: Path) -> None:
    """The true cells, linked by Howdah."""
    cells = replace(read_tracks(truth), features=())
    result.parent.mkdir(parents=True, exist_ok=True)
    write_tracks(result, replace(link_spots(cells.select_links([])), features=()))


def by_howdah(truth: Path, result: Path, *, library: bool) -> dict[str, float | None]:
    """The challenge's measures as JSON has them: with the library's word, or by Howdah's own counting alone."""
    former = evaluation_challenge.affordable
    evaluation_challenge.affordable = former if library else lambda cover: False
    try:
        facts = finish(evaluate(result, truth))
    finally:
        evaluation_challenge.affordable = former
    found: dict[str, float | None] = json.loads(json.dumps(facts, default=str))["challenge"]
    return found


def by_library(truth: Path, result: Path) -> dict[str, Any]:
    from ctc_metrics import evaluate_sequence
    from ctc_metrics.metrics import ALL_METRICS

    masks = (truth / "SEG").is_dir()
    names = [name for name in ALL_METRICS if masks or name not in SEGMENTING]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(evaluate_sequence(str(result), str(truth), metrics=names, threads=1))


def by_java(pairs: list[tuple[Path, Path]], classes: str) -> list[dict[str, float]]:
    """What the challenge's own classes say of folders."""
    source = Path(__file__).with_name("Official.java")
    path = os.pathsep.join([classes, str(Path(classes) / "*")])
    names = [str(folder) for pair in pairs for folder in pair]
    done = subprocess.run(["java", "-cp", path, str(source), *names], capture_output=True, text=True, check=True)
    cells = [
        [cell.split("=") for cell in line.split("\t")] for line in done.stdout.splitlines() if line.startswith("TRA=")
    ]
    return [{name: float(value) for name, value in row} for row in cells]


def most(mine: dict[str, Any], theirs: dict[str, Any]) -> tuple[float, int, int]:
    """The largest difference of the measures that both define; how many these are; how many only one of the two defines."""
    differences, one = [], 0
    for name in mine.keys() & theirs.keys():
        a, b = (None if v is None or v != v else float(v) for v in (mine[name], theirs[name]))  # NaN: not defined
        if a is not None and b is not None:
            differences.append(abs(a - b))
        one += (a is None) != (b is None)
    return max(differences, default=0.0), len(differences), one


def shown(found: tuple[float, int, int]) -> str:
    return f"{found[0]:.1g} of {found[1]}" + (f", {found[2]} by one only" if found[2] else "")


def results_of(sample: Path, out: Path, methods: Path | None) -> list[tuple[str, Path]]:
    """Make what is judged: the name of each result and its folder."""
    truth, made = sample / "01_GT", []
    for place, (name, spoil) in enumerate(DAMAGES.items()):
        movie, folder = movie_of(truth), out / sample.name / name.replace(" ", "-") / "01_RES"
        spoil(movie, np.random.default_rng(place + 10))
        write(movie, folder)
        made.append((name, folder))
    folder = out / sample.name / "linked" / "01_RES"
    linked(truth, folder)
    made.append(("linked by Howdah", folder))
    more = sorted((methods / sample.name).glob("*/01_RES")) if methods is not None else []
    return made + [(path.parent.name, path) for path in more]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    out = args.out or Path(tempfile.mkdtemp(prefix="howdah-official-"))
    wanted = [name for name in args.only.split(",") if name]
    samples = [path.parents[2] for path in sorted(args.data.glob("*/01_GT/TRA/man_track.txt"))]
    classes = os.environ.get("HOWDAH_CTC_JAVA")
    whose = ["py-ctcmetrics", *(["Java"] if classes else [])]
    print("| sample | result | SEG | DET | TRA | " + " | ".join([*whose, *(f"own, {who}" for who in whose)]) + " |")
    print("| --- | --- |" + " ---: |" * (3 + 2 * len(whose)))
    worst = 0.0
    for sample in (s for s in samples if not wanted or any(name in s.name for name in wanted)):
        truth, made = sample / "01_GT", results_of(sample, out, args.results)
        java = by_java([(truth, folder) for _, folder in made], classes) if classes else [None] * len(made)
        for (name, folder), official in zip(made, java, strict=True):
            with_library, own = (by_howdah(truth, folder, library=library) for library in (True, False))
            peers = [by_library(truth, folder), *([official] if official is not None else [])]
            found = [most(mine, peer) for mine in (with_library, own) for peer in peers]
            worst = max(worst, *(difference for difference, *_ in found))
            scores = (with_library.get(key) for key in ("SEG", "DET", "TRA"))
            cells = [
                sample.name,
                name,
                *("–" if value is None else f"{value:.4f}" for value in scores),
                *map(shown, found),
            ]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\nLargest difference: {worst:.1g} ({'within' if worst <= NEED else 'NOT within'} {NEED:g}).")
    print(f"Versions: {challenge_library.library_versions()}")


if __name__ == "__main__":
    main()
