# ruff: noqa
"""What a Fiji meets with an Appose worker; real Jython runs this in one Java, see test_appose_fiji.py.

`python`, `lib` and `out` are parameters of the script. Every function check_... is one check. Results go to the file `out` as JSON: {check: "ok" or a trace}.
"""

import json
import sys
import threading
import time
import traceback

sys.path.insert(0, lib)

from howdah_fiji import appose_backend
from howdah_fiji.problems import BAD_INPUT, FAULT, MISSING_PART, STOPPED, Problem
from ij import IJ
from jarray import array
from java.io import File, RandomAccessFile
from java.lang import ProcessBuilder, System, Thread, Throwable
from java.nio.file import Files
from java.util.concurrent import TimeUnit
from org.apposed.appose import Appose, NDArray

backend = appose_backend.connect(python)
seen = []  # names of all blocks of shared memory

TEST_TASKS = """
import os, time
from howdah.errors import MissingExtraError
from howdah.progress import Progress
from howdah.service import table
from howdah.service.parameters import Parameters
from howdah.service.table import TASKS, Task

class Told(Parameters):
    n: int = 5
    pause: float = 0.0

def steps(p):
    for i in range(p.n):
        time.sleep(p.pause)
        yield Progress("count", i + 1, p.n, {"loss": float("nan") if i == 0 else 1.0 / i}, "step %d" % i)
    return {"n": p.n, "nothing": float("nan"), "much": float("inf"), "half": 0.5}

def add(name, start, learns=False):
    TASKS["test." + name] = Task("test." + name, "", Told, start, learns=learns)

def now(work):
    def start(p):
        yield Progress("work", 0, 1)
        return work(p) or {}
    return start

def noise(p):
    os.write(1, b"no end of line")
    print("a line")
    os.system("echo from a shell")
    os.write(1, b'{"task":"half a message')

def missing(p):
    raise MissingExtraError("This needs 'torch'. Install it: pip install 'howdah[learn]'.")

def crash(p):
    import sys
    sys.stderr.write("the last words\\n"); sys.stderr.flush()
    os._exit(7)

def asleep(p):
    time.sleep(p.pause)

add("steps", steps); add("slow", steps, learns=True); add("noise", now(noise)); add("missing", now(missing))
add("fault", now(lambda p: 1 // 0)); add("crash", now(crash)); add("asleep", now(asleep))
"""


def prepare():
    """Give a worker the tasks of the tests."""
    appose_backend.Call(backend, TEST_TASKS + "\n'ready'", {}, None, None, 60).result()


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return " Z " not in file.read()
    except IOError:
        return False


def problem_of(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Problem as problem:
        return problem
    raise AssertionError("no Problem")


def ramp(kind="16-bit", seed=0):
    imp = IJ.createImage("ramp %d" % seed, kind + " ramp", 64, 48, 2, 3, 2)
    calibration = imp.getCalibration()
    calibration.pixelWidth, calibration.pixelHeight, calibration.pixelDepth = 0.5, 0.25, 2.0
    calibration.setUnit("um")
    calibration.frameInterval = 30
    imp.getStack().setVoxel(5, 6, seed % 12, 7)
    return imp


def check_image_there_and_back():
    for kind in ("8-bit", "16-bit", "32-bit"):
        imp = ramp(kind, 3)
        result = backend.run("check", {}, image=imp)
        back = result["image"]
        assert result["shape"] == [2, 3, 2, 48, 64] and result["axes"] == "TZCYX", result
        assert result["voxel_size"] == [2.0, 0.25, 0.5] and result["interval"] is not None, result
        assert (back.getNChannels(), back.getNSlices(), back.getNFrames()) == (2, 3, 2)
        assert back.getBitDepth() == imp.getBitDepth(), (kind, back)
        assert back.getCalibration().pixelDepth == 2.0 and back.getCalibration().pixelHeight == 0.25
        for place in ((5, 6, 3), (0, 0, 0), (63, 47, 11), (10, 20, 7)):
            there, here = imp.getStack().getVoxel(*place), back.getStack().getVoxel(*place)
            assert abs(here - (result["max"] + result["min"] - there)) < 1e-5, (kind, place, there, here)


def check_colour_and_threshold():
    imp = IJ.createImage("rgb", "RGB ramp", 32, 16, 2)
    result = backend.run("check", {"what": "threshold"}, image=imp)
    assert result["shape"] == [1, 2, 3, 16, 32], result
    assert sorted(set(result["image"].getStack().getProcessor(1).getPixels())) == [-1, 0]


def check_image_for_a_task_on_files():
    result = backend.run("info", {}, image=ramp())
    assert "uint16" in json.dumps(result), result


def check_table_there_and_back():
    n = 100000
    t = array([i // 1000 for i in range(n)], "i")
    z, y, x = (array([float(i % 1000 * step) for i in range(n)], "d") for step in (3, 7, 11))
    start = time.time()
    result = backend.run("link.table", {}, table={"t": t, "z": z, "y": y, "x": x})
    took = time.time() - start
    source, target = result["table"]["source"], result["table"]["target"]
    assert len(source) == len(target) == 99000, len(source)
    assert target[0] - source[0] == 1000
    return "%.2f s" % took


def check_table_errors_are_sentences():
    problem = problem_of(
        backend.run, "link.table", {}, table={"t": [0, 1], "z": [0.0, float("nan")], "y": [1.0, 1.0], "x": [1.0, 1.0]}
    )
    assert problem.code == BAD_INPUT and "no number" in problem.sentence, problem
    problem = problem_of(backend.run, "doctor", {}, table={"t": [1]})
    assert problem.code == BAD_INPUT and "takes no table" in problem.sentence, problem
    problem = problem_of(backend.run, "check", {"image": "/a.tif"}, image=ramp())
    assert problem.code == BAD_INPUT and "twice" in problem.sentence, problem


def check_progress_and_numbers_that_json_has_not():
    jobs = []
    result = backend.run("test.steps", {"n": 4, "pause": 0.7}, progress=lambda job: jobs.append(dict(job)))
    assert result == {"n": 4, "nothing": None, "much": None, "half": 0.5}, result
    assert jobs[-1]["state"] == "done" and jobs[-1]["done"] == 4 and jobs[-1]["total"] == 4, jobs[-1]
    assert [job for job in jobs if job["stage"] == "count" and job["values"]["loss"] is None], jobs


def check_cancel():
    start = time.time()
    problem = problem_of(backend.run, "test.slow", {"n": 200, "pause": 0.1}, progress=lambda job: job["done"] < 3)
    assert problem.code == STOPPED and time.time() - start < 10, problem
    assert backend.run("test.slow", {"n": 1})["n"] == 1  # the device is free again


def check_interrupted_thread():
    problems = []
    thread = Thread(lambda: problems.append(problem_of(backend.run, "test.steps", {"n": 100, "pause": 0.1})))
    thread.start()
    Thread.sleep(300)
    thread.interrupt()
    thread.join(5000)
    assert problems and problems[0].code == STOPPED, problems


def check_failures_are_sentences_with_codes():
    for task, parameters, code, words in (
        ("chek", {}, BAD_INPUT, "Did you mean 'check'"),
        ("test.steps", {"many": 4}, BAD_INPUT, "many"),
        ("test.missing", {}, MISSING_PART, "Install it"),
        ("test.fault", {}, FAULT, "ZeroDivisionError"),
    ):
        problem = problem_of(backend.run, task, parameters)
        assert problem.code == code and words in problem.sentence and "Traceback" not in problem.sentence, problem


def check_output_of_tasks_is_harmless():
    before = len(list(backend.service().invalidLines()))
    for _ in range(3):
        backend.run("test.noise", {})
    assert len(list(backend.service().invalidLines())) == before
    assert "from a shell" in appose_backend.last_lines(backend.service())


def check_scripts_of_ones_own():
    call = appose_backend.Call(backend, "float('nan')", {}, None, None, 30)
    assert call.result() == {"result": None}
    problem = problem_of(appose_backend.Call(backend, "import nowhere_at_all", {}, None, None, 30).result)
    assert "nowhere_at_all" in problem.sentence
    shape = NDArray.Shape(NDArray.Shape.Order.C_ORDER, [2, 3])
    mine = NDArray(NDArray.DType.UINT16, shape)  # a block that Java made
    mine.buffer().asShortBuffer().put(array([1, 2, 3, 4, 5, 60], "h"))
    call = appose_backend.Call(backend, "float(mine.ndarray().sum())", {"mine": mine}, None, None, 30)
    assert call.result() == {"result": 75.0}
    mine.close()


def check_five_hundred_at_once():
    start = time.time()
    calls = [appose_backend.Call(backend, appose_backend.HELLO, {}, None, None, 60) for _ in range(500)]
    assert set(call.result()["pid"] for call in calls) == set([backend.facts["pid"]])
    assert len(list(backend.service().invalidLines())) == 0
    return "%.2f s" % (time.time() - start)


def check_images_at_once():
    failures = []

    def work(seed):
        for _ in range(3):
            imp = ramp("16-bit", seed)
            back = backend.run("check", {}, image=imp)["image"].getStack()
            for place in ((5, 6, seed), (40, 1, 2)):
                if back.getVoxel(*place) != 64512 - imp.getStack().getVoxel(*place):
                    failures.append((seed, place))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures


def check_tasks_that_learn_wait_for_each_other():
    messages, results = [], []
    call = appose_backend.Call(
        backend,
        appose_backend.RUN,
        {"name": "test.slow", "parameters": {"n": 3, "pause": 0.5}, "arrays": {}, "folder": None},
        "test.slow",
        None,
    )
    Thread.sleep(300)
    results.append(
        backend.run("test.slow", {"n": 2, "pause": 0.1}, progress=lambda job: messages.append(job.get("message")))
    )
    assert call.result()["result"]["n"] == 3 and results[0]["n"] == 2
    assert "Waiting until another task has ended." in messages, messages


def check_too_little_shared_memory():
    problem = problem_of(backend._room, 1 << 20, 1 << 20, [])
    assert "shared memory" in problem.sentence and "--shm-size" in problem.sentence, problem


def check_nothing_is_left_in_shared_memory():
    count = "from howdah.service import appose_worker\nlen(appose_worker._blocks)"
    until = time.time() + 5
    left = None
    while left != 0 and time.time() < until:  # nobody waits until the last ones are free
        left = appose_backend.Call(backend, count, {}, None, None, 30).result()["result"]
    assert left == 0, left
    assert len(seen) > 10 and not [name for name in seen if File("/dev/shm/" + name).exists()], seen
    held = 0
    for descriptor in File("/proc/self/fd").listFiles():
        if Files.isSymbolicLink(descriptor.toPath()) and "psm_" in str(Files.readSymbolicLink(descriptor.toPath())):
            file = RandomAccessFile(descriptor, "r")
            held += file.length()
            file.close()
    assert held == 0, held  # else Java holds memory by the descriptors that Appose leaves open


def check_worker_that_dies_in_a_task():
    pid = backend.health()["pid"]
    problem = problem_of(backend.run, "test.crash", {})
    assert problem.code == FAULT and "code 7" in problem.sentence and "'test.crash'" in problem.sentence, problem
    assert "the last words" in problem.sentence, problem
    assert backend.health()["pid"] != pid  # a new one
    prepare()


def check_worker_that_dies_between_tasks():
    pid = backend.health()["pid"]
    ProcessBuilder(["kill", "-9", str(pid)]).start().waitFor()
    deadline = time.time() + 5
    while alive(pid) and time.time() < deadline:
        time.sleep(0.01)
    Thread.sleep(100)
    start = time.time()
    problem = problem_of(backend.run, "check", {}, image=ramp())
    assert "The worker ended" in problem.sentence and "starts a new worker" in problem.sentence, problem
    assert time.time() - start < 10
    assert backend.run("check", {}, image=ramp())["shape"] == [2, 3, 2, 48, 64]
    prepare()


def check_worker_that_is_killed_while_it_holds_an_image():
    rooms = []
    room = backend._room(12, 64 * 48 * 2, rooms)
    names = room.names()
    call = appose_backend.Call(
        backend,
        appose_backend.RUN,
        {"name": "test.asleep", "parameters": {"pause": 60}, "arrays": {}, "folder": None},
        "test.asleep",
        None,
    )
    Thread.sleep(200)
    ProcessBuilder(["kill", "-9", str(backend.facts["pid"])]).start().waitFor()
    problem = problem_of(call.result)
    assert "code 137" in problem.sentence and "want of memory" in problem.sentence, problem
    backend._give_back(rooms)
    deadline = time.time() + 10
    while [name for name in names if File("/dev/shm/" + name).exists()] and time.time() < deadline:
        time.sleep(0.05)
    assert not [name for name in names if File("/dev/shm/" + name).exists()], names
    backend.health()
    prepare()


def check_worker_that_dies_for_a_step_without_end():
    pid, own = backend.health()["pid"], appose_backend.STOP_S
    appose_backend.STOP_S = 0.3
    try:
        problem = problem_of(backend.run, "test.asleep", {"pause": 60}, progress=lambda job: False)
    finally:
        appose_backend.STOP_S = own
    assert problem.code == STOPPED and "the worker was ended" in problem.sentence, problem
    assert backend.health()["pid"] != pid
    prepare()


def check_progress_that_fails():
    def broken(job):
        raise ValueError("a script's own fault")

    try:
        backend.run("test.slow", {"n": 100, "pause": 0.1}, progress=broken)
    except ValueError as error:
        assert "own fault" in str(error)
    assert backend.run("test.slow", {"n": 1})["n"] == 1  # the task was stopped, or this would wait for 10 s


def check_guard_in_a_service_of_ones_own():
    binaries = File(python).getParentFile()
    service = Appose.custom().base(binaries).binPaths(binaries.getPath()).build().python()
    service.init("from howdah.service import appose_worker\nappose_worker.guard()")
    queue = appose_backend.Events()
    tasks = [service.task("import os\nos.write(1, b'no end')\nfloat('inf')") for _ in range(50)]
    for task in tasks:
        task.listen(queue)
        task.start()
    ended = 0
    while ended < 50:
        event = queue.queue.poll(20, TimeUnit.SECONDS)
        assert event is not None, "%d of 50 tasks ended" % ended
        ended += event.responseType.isTerminal()
    assert set([str(task.status) for task in tasks]) == set(["COMPLETE"])
    assert len(list(service.invalidLines())) == 0
    appose_backend.end(service, 4)


def check_python_without_howdah():
    problem = problem_of(appose_backend.connect, "/nowhere/bin/python")
    assert problem.code == MISSING_PART and "fiji install" in problem.sentence, problem


def check_closed_worker_ends():
    other = appose_backend.connect(python)
    pid = other.facts["pid"]
    start = time.time()
    other.close()
    assert not alive(pid) and time.time() - start < 10
    assert other.health()["pid"] != pid  # and starts again where it is needed
    other.close()


def run_all():
    own_room = backend._room

    def room(planes, plane_bytes, rooms):
        made = own_room(planes, plane_bytes, rooms)
        seen.extend(made.names())
        return made

    backend._room = room
    names = [name for name in sorted(globals()) if name.startswith("check_")]
    names.sort(key=lambda name: ("left" in name) + 2 * ("dies" in name) + 3 * ("killed" in name))
    results = {"appose": Appose.version()}
    for name in names:
        start = time.time()
        try:
            results[name] = "ok " + (globals()[name]() or "")
        except (Exception, Throwable):
            results[name] = traceback.format_exc()
        results[name] += " (%.1f s)" % (time.time() - start)
    return results


def leave_without_goodbye(results):
    """End Java while a task runs and an image lies in shared memory."""
    backend.health()
    room = backend._room(12, 64 * 48 * 2, [])
    appose_backend.Call(
        backend,
        appose_backend.RUN,
        {"name": "test.steps", "parameters": {"n": 600, "pause": 0.1}, "arrays": {}, "folder": None},
        "test.steps",
        None,
    )
    results["left"] = {"pid": backend.facts["pid"], "blocks": list(room.names())}
    with open(out, "w") as file:
        json.dump(results, file)
    System.exit(0)


try:
    prepare()
    found = run_all()
    System.err.println(json.dumps(found, indent=1))
    leave_without_goodbye(found)
except (Exception, Throwable):
    System.err.println(traceback.format_exc())
    System.exit(1)
