"""Where things lie: the service's notice, the choice of the backend, the Python that Howdah was installed with."""

import json
import os
import time

from java.io import File, FileInputStream, FileOutputStream
from java.lang import System
from java.nio.file import Files
from java.nio.file.attribute import PosixFilePermissions
from java.util import Properties

HERE = os.path.dirname(os.path.abspath(__file__))


def home():
    """Return the folder of the service and of the logs: HOWDAH_HOME, else .howdah in the user's home."""
    named = System.getenv("HOWDAH_HOME")
    return named if named else os.path.join(System.getProperty("user.home"), ".howdah")


def ensure(folder):
    """Make a folder if need be, and return it."""
    if not os.path.isdir(folder):
        os.makedirs(folder)
    return folder


def service_notice():
    """Return what the running service wrote about itself (url, token, pid, log ...), or None."""
    path = os.path.join(home(), "service.json")
    if not os.path.isfile(path):
        return None
    with open(path) as lines:
        text = lines.read()
    try:
        return json.loads(text)
    except ValueError:
        return None  # just being written


def installed():
    """Return what `howdah fiji install` wrote: {"python": ..., "version": ...}; empty where nothing was."""
    return _properties(os.path.join(HERE, "backend.properties"))


def choice():
    """Return what was chosen in Plugins > Howdah > Backend: {"choice", "url", "token", "certificate"}, as far as given."""
    return _properties(os.path.join(home(), "fiji.properties"))


def choose(values):
    """Keep a choice of the backend; the file may hold a token, so only its owner may read it."""
    path = os.path.join(ensure(home()), "fiji.properties")
    kept = Properties()
    for name, value in values.items():
        kept.setProperty(name, value)
    target = File(path)
    target.createNewFile()
    if "posix" in list(target.toPath().getFileSystem().supportedFileAttributeViews()):
        Files.setPosixFilePermissions(target.toPath(), PosixFilePermissions.fromString("rw-------"))
    stream = FileOutputStream(target)
    try:
        kept.store(stream, "Howdah in Fiji")
    finally:
        stream.close()
    return path


def _properties(path):
    found = Properties()
    if os.path.isfile(path):
        stream = FileInputStream(path)
        try:
            found.load(stream)
        finally:
            stream.close()
    return {name: found.getProperty(name) for name in list(found.stringPropertyNames())}


def record_of(name):
    """Return where a run of a script keeps its result if nobody says: <home>/fiji-logs/<time>-<name>.json."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    first = os.path.join(ensure(os.path.join(home(), "fiji-logs")), stamp + "-" + name)
    path, count = first + ".json", 1
    while os.path.exists(path):
        count += 1
        path = "%s-%d.json" % (first, count)
    return path


def results(name):
    """Return a path in <home>/fiji-results, where results of unsaved images go."""
    return os.path.join(ensure(os.path.join(home(), "fiji-results")), name)


def beside(source, ending):
    """Return the path of a result beside its source: ("/data/a.tif", "-tracks.xml") -> "/data/a-tracks.xml"."""
    stem = source
    for known in (".ome.tiff", ".ome.tif", ".ome.zarr"):
        if stem.lower().endswith(known):
            return stem[: -len(known)] + ending
    return os.path.splitext(stem)[0] + ending
