"""Does Howdah work in this Fiji? Each finding says what was looked at, what was found, and if it is not well, what to do."""

import os
import time

from ij import IJ, ImagePlus, ImageStack
from ij.process import ByteProcessor, FloatProcessor, ShortProcessor
from java.io import File
from java.lang import Class, ClassNotFoundException, Runtime, System
from java.nio import ByteBuffer
from java.util import Random

import howdah_fiji
from howdah_fiji import images, places, starting
from howdah_fiji.problems import Problem

LITTLE_HEAP_GB = 2.0
SHARED = "/dev/shm"
SIZE, FRAMES, SLICES, CHANNELS = 61, 3, 4, 2  # odd edges find swapped axes
KINDS = ("8-bit", "16-bit", "32-bit")


def all_findings(run, with_backend=True):
    """Look at everything; with_backend also starts the backend and sends images there and back. Returns a list of dicts."""
    found = [_imagej(), _java(), _heap(), _shared_memory(), _appose(), _python()]
    if with_backend:
        found += _backend(run)
    return found


def finding(what, found, ok=True, advice=""):
    """Return one finding."""
    return {"what": what, "found": found, "ok": ok, "advice": advice}


def lines_of(findings):
    """Return a line for each finding, to be shown or pasted into a forum."""
    lines = []
    for one in findings:
        advice = "" if one["ok"] or not one["advice"] else "  -> " + one["advice"]
        lines.append("%-4s %-18s %s%s" % ("ok" if one["ok"] else "NO", one["what"], one["found"], advice))
    return lines


def advice_of(findings):
    """Return the ways out, in one line."""
    return " ".join("%s: %s. %s" % (one["what"], one["found"], one["advice"]) for one in findings)


def _imagej():
    return finding("ImageJ", "%s, Howdah's scripts %s" % (IJ.getFullVersion(), howdah_fiji.VERSION))


def _java():
    version = System.getProperty("java.specification.version")
    ok = not version.startswith("1.")
    text = "%s (%s), %s %s" % (
        System.getProperty("java.version"),
        System.getProperty("java.vm.name"),
        System.getProperty("os.name"),
        System.getProperty("os.arch"),
    )
    return finding("Java", text, ok, "Howdah's scripts need Java 11 or newer: update Fiji.")


def _heap():
    runtime = Runtime.getRuntime()
    most = runtime.maxMemory() / 1e9
    used = (runtime.totalMemory() - runtime.freeMemory()) / 1e9
    ok = most >= LITTLE_HEAP_GB
    return finding(
        "Java heap", "%.1f of %.1f GB used" % (used, most), ok, "Raise it in Edit > Options > Memory & Threads."
    )


def _shared_memory():
    if not os.path.isdir(SHARED):
        return finding("shared memory", "of the system")
    free = File(SHARED).getUsableSpace() / 1e9
    return finding(
        "shared memory",
        "%.2f GB free in %s" % (free, SHARED),
        free > 0.25,
        "Large images go by HTTP: choose the backend 'service'.",
    )


def _appose():
    try:
        where = Class.forName("org.apposed.appose.Appose").getProtectionDomain().getCodeSource().getLocation().getPath()
    except ClassNotFoundException:
        return finding("Appose", "not in this Fiji; the service is used")
    return finding("Appose", os.path.basename(where))


def _python():
    known = places.installed()
    if not known.get("python"):
        advice = "Run `howdah fiji install FOLDER-OF-FIJI`, or start `howdah serve` yourself."
        return finding("Howdah's Python", "not known", starting.running_service() is not None, advice)
    there = os.path.isfile(known["python"])
    return finding(
        "Howdah's Python", known["python"] + ("" if there else " (gone)"), there, "Run `howdah fiji install` again."
    )


def _backend(run):
    begin = time.time()
    try:
        backend = run.backend()
    except Problem as problem:
        return [finding("backend", "does not answer", False, problem.sentence)]
    where = getattr(backend, "url", "a worker of its own (Appose)")
    found = [finding("backend", "%s, after %.1f s" % (where, time.time() - begin))]
    if hasattr(backend, "health"):
        said = backend.health()
        version = str(said.get("version") or said.get("howdah") or "unknown")
        advice = "Run `howdah fiji install FOLDER-OF-FIJI` from the newer one."
        found.append(finding("backend's version", version, version == howdah_fiji.VERSION, advice))
        begin = time.time()
        for _ in range(5):
            backend.health()
        found.append(finding("round trip", "%.1f ms" % ((time.time() - begin) * 200)))
    for kind in KINDS:
        found.append(_there_and_back(backend, kind))
    return found


def test_image(kind):
    """Return a small hyperstack of random values, calibrated."""
    random = Random(4)
    stack = ImageStack(SIZE, SIZE - 8)
    for _ in range(FRAMES * SLICES * CHANNELS):
        ip = {"8-bit": ByteProcessor, "16-bit": ShortProcessor, "32-bit": FloatProcessor}[kind](SIZE, SIZE - 8)
        for _ in range(60):
            ip.setf(random.nextInt(ip.getPixelCount()), random.nextInt(200))
        ip.setf(0, 250.0)
        stack.addSlice(ip)
    imp = ImagePlus("self-check", stack)
    imp.setDimensions(CHANNELS, SLICES, FRAMES)
    cal = imp.getCalibration()
    cal.pixelWidth, cal.pixelHeight, cal.pixelDepth, cal.frameInterval = 0.5, 0.25, 2.0, 30.0
    cal.setUnit("um")
    cal.setTimeUnit("sec")
    return imp


def _there_and_back(backend, kind):
    """Send an image there and back twice: its inverse's inverse must be the same, value by value."""
    what = "image, " + kind
    sent = test_image(kind)
    begin = time.time()
    try:
        inverse = backend.run("check", {"what": "inverse"}, image=sent)["image"]
        back = backend.run("check", {"what": "inverse"}, image=inverse)["image"]
    except Problem as problem:
        return finding(what, "was not sent", False, problem.sentence)
    wrong = differences(sent, back)
    if inverse.getStack().getProcessor(1).getf(0) == 250.0:
        wrong.append("the backend did not look at the values")
    text = "; ".join(wrong) or "%d planes there and back twice, equal, %.0f ms" % (
        back.getStackSize(),
        (time.time() - begin) * 1000,
    )
    return finding(what, text, not wrong, "Please report it with the log.")


def differences(first, second):
    """Return sentences about how two images differ in size, calibration or any value."""
    found = []
    if list(first.getDimensions()) != list(second.getDimensions()):
        return [
            "%s planes were sent as x y c z t, %s came back"
            % (list(first.getDimensions()), list(second.getDimensions()))
        ]
    if first.getBitDepth() != second.getBitDepth():
        return ["%d bits were sent, %d came back" % (first.getBitDepth(), second.getBitDepth())]
    if images.calibration_of(first) != images.calibration_of(second):
        found.append(
            "the calibration %s came back as %s" % (images.calibration_of(first), images.calibration_of(second))
        )
    pairs = zip(images.planes_of(first), images.planes_of(second))
    wrong = [number for number, (a, b) in enumerate(pairs) if not ByteBuffer.wrap(a).equals(ByteBuffer.wrap(b))]
    if wrong:
        found.append(
            "%d of %d planes came back changed, first plane %d" % (len(wrong), first.getStackSize(), wrong[0] + 1)
        )
    return found
