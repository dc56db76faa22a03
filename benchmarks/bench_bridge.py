"""Fiji and Howdah hand each other images, tables and small tasks: real Jython and ImageJ on one side, Howdah's worker on the other.

Run: python benchmarks/bench_bridge.py [--planes 128] [--edge 1024] [--repeats 5] [--ways appose,http]   (after `make java`)
An ImagePlus of 16 bits goes to Python, is thresholded there (task `check`), and the 8-bit mask comes back as an ImagePlus;
the inverse, too, which comes back with 16 bits. A table of 100,000 spots goes to Python, is linked (`link.table`), and the links
come back. Ratio: time of a memory copy of the stack in the same Java (System.arraycopy) / time of the way. "Aim" is what the way
must keep. "CPU s" is what Java, Howdah and its workers computed meanwhile, in all threads: it does not grow when others use the computer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "fiji-scripts" / "jars" / "Lib"
AIMS = {
    ("appose", "image, threshold"): 1.5,
    ("http", "image, threshold"): 2.0,
    ("appose", "task `formats`"): 0.003,
    ("http", "task `formats`"): 0.005,
    ("appose", "100,000 spots"): 2.0,
    ("http", "100,000 spots"): 2.0,
}

IN_JYTHON = """
import json, sys, time
lib, python, way, planes, edge, repeats, out = sys.argv[1:]
sys.path.insert(0, lib)
planes, edge, repeats = int(planes), int(edge), int(repeats)
from ij import IJ
from jarray import array, zeros
from java.lang import ProcessHandle, System
from java.util import Random

now = lambda: System.nanoTime() / 1e9
rows, parts = [], {}

def cpu():
    # of this Java and of all that it started: Howdah's worker or service, and the workers of that
    total = 0
    for process in [ProcessHandle.current()] + list(ProcessHandle.current().descendants().toArray()):
        spent = process.info().totalCpuDuration()
        total += spent.get().toMillis() if spent.isPresent() else 0
    return total / 1e3

def timed(owner, name, part):
    function = getattr(owner, name)
    def run(*told, **named):
        start = now()
        try:
            return function(*told, **named)
        finally:
            parts[part] = parts.get(part, 0) + now() - start
    setattr(owner, name, run)

def measured(what, call, count, each=1):
    best, best_parts, spent = None, {}, []
    for _ in range(count):
        parts.clear()
        before, start = cpu(), now()
        call()
        took = (now() - start) / each
        spent.append((cpu() - before) / each)
        if best is None or took < best:
            best, best_parts = took, dict(parts)
        System.gc()
    rows.append([what, best, min(spent), best_parts])

def copy():
    for plane in range(planes):
        System.arraycopy(stack.getPixels(plane + 1), 0, target[plane], 0, edge * edge)

def image(what):
    result = backend.run("check", {"what": what}, image=imp)
    assert result["image"].getStackSize() == planes
    result["image"].close()

def table():
    result = backend.run("link.table", {}, table=spots)
    assert len(result["table"]["source"]) > 90000

if way == "appose":
    from howdah_fiji import appose_backend, shared
    backend = appose_backend.connect(python)
    timed(shared, "put_image", "copy in")
    timed(shared, "image_from", "copy out")
    timed(appose_backend.ApposeBackend, "_room", "reserve")
else:
    from howdah_fiji import starting
    backend = starting.start_service()

imp = IJ.createImage("stack", "16-bit ramp", edge, edge, planes)
stack = imp.getStack()
target = [zeros(edge * edge, "h") for _ in range(planes)]
measured("memory copy", copy, repeats)
target = None
measured("image, threshold", lambda: image("threshold"), repeats)
measured("image, inverse", lambda: image("inverse"), repeats)
random = Random(1)
n = 100000
place = dict((axis, [random.nextDouble() * size for _ in range(1000)]) for axis, size in (("z", 200), ("y", 2000), ("x", 2000)))
spots = dict((axis, array([place[axis][i % 1000] + i // 1000 * 0.5 for i in range(n)], "d")) for axis in place)
spots["t"] = array([i // 1000 for i in range(n)], "i")
measured("100,000 spots", table, repeats)
small = IJ.createImage("small", "16-bit ramp", 32, 32, 1)
def check_small():
    backend.run("check", {"what": "inverse"}, image=small)["image"].close()

for what, call in (("question", backend.health), ("task `formats`", lambda: backend.run("formats", {})), ("task `check`, 32 x 32", check_small)):
    for _ in range(200):
        call()
    measured(what, lambda: [call() for _ in range(100)], repeats, 100)
if way == "appose":
    backend.close()
else:
    starting.stop_service()
with open(out, "w") as file:
    json.dump(rows, file)
System.exit(0)
"""


def classpath() -> str:
    """Class path of the Java programs of the tests."""
    folder = Path(os.environ.get("HOWDAH_TEST_JAVA", ROOT / ".venv" / "java"))
    if not (folder / ".ready").is_file():
        sys.exit("This needs the Java programs of the tests: run `make java`, or set HOWDAH_TEST_JAVA.")
    return os.pathsep.join([str(folder / "classes"), *sorted(map(str, (folder / "jars").glob("*.jar")))])


def measured(way: str, told: argparse.Namespace) -> list[tuple[str, float, float, dict[str, float]]]:
    """Run the script in a Java of its own and return what it measured: name, seconds, CPU seconds, seconds of parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = folder / "Lib" / "howdah_fiji"  # a copy, for it must name this Python
        library.mkdir(parents=True)
        for module in (LIBRARY / "howdah_fiji").glob("*.py"):
            (library / module.name).write_bytes(module.read_bytes())
        (library / "backend.properties").write_text(f"python={sys.executable}\n")
        script, out = folder / "bridge.py", folder / "rows.json"
        script.write_text(IN_JYTHON)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT)]),
            "HOWDAH_HOME": str(folder / "home"),
        }
        command = ["java", "-Xmx3g", "-Dpython.cachedir.skip=true", "-cp", classpath(), "org.python.util.jython"]
        arguments = [library.parent, sys.executable, way, told.planes, told.edge, told.repeats, out]
        done = subprocess.run(
            [*command, str(script), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if not out.is_file():
            sys.exit(done.stdout + done.stderr)
        rows: list[tuple[str, float, float, dict[str, float]]] = json.loads(out.read_text())
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=128)
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ways", default="appose,http")
    told = parser.parse_args()
    size = told.planes * told.edge * told.edge * 2 / 2**20
    print(
        f"Stack: {told.planes} planes of {told.edge} x {told.edge}, 16 bits, {size:.0f} MiB; best of {told.repeats}.\n"
    )
    print("| way | what | s | CPU s | memory copy / way | aim s | parts |\n| --- | --- | --- | --- | --- | --- | --- |")
    for way in told.ways.split(","):
        rows = measured(way, told)
        copied = rows[0][1]
        for what, seconds, spent, parts in rows:
            ratio = f"{copied / seconds:.3f}" if "image" in what or "memory" in what else ""
            aim = f"{AIMS[way, what]:g}" if (way, what) in AIMS else ""
            detail = ", ".join(f"{part} {took:.2f}" for part, took in parts.items() if "image" in what)
            print(f"| {way} | {what} | {seconds:.4f} | {spent:.4f} | {ratio} | {aim} | {detail} |", flush=True)


if __name__ == "__main__":
    main()
