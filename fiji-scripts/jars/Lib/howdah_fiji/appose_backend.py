"""Howdah over Appose: a worker of this Fiji alone, with pixels in shared memory. It starts with the first connection, ends with Fiji.

Works with Appose 0.9 to 0.12. What those do not promise is not used: a task's status (it says "complete" before the result is
there), waitFor (it has no time-out), wrap (it asks the network), a task's end after the worker has died (it never comes).
"""

import re
import time

from java.io import File, IOException
from java.lang import (
    IllegalArgumentException,
    IllegalStateException,
    InterruptedException,
    Runnable,
    Runtime,
    System,
    Thread,
)
from java.math import BigDecimal
from java.util import ArrayList, LinkedHashMap, List, Map
from java.util.concurrent import LinkedBlockingQueue, TimeUnit
from java.util.concurrent.locks import ReentrantLock
from java.util.function import Consumer
from org.apposed.appose import Appose

from howdah_fiji import images, shared, tables
from howdah_fiji.problems import CODES, FAULT, MISSING_PART, STOPPED, Problem

START_S = 90  # the first start compiles Python files, and disks may be slow
ANSWER_S = 60  # for what takes milliseconds
STOP_S = 15  # how long a cancelled task may go on to the end of its step
DEAD_S = 2  # how long the last words of a dead worker may take
GOODBYE_S = 4  # how long a worker may take to end by itself; it gives its tasks three
SHOW_S = 0.5  # between two calls of progress
LAST_LINES = 8

MAIN = "from howdah.service import appose_worker; appose_worker.main()"
HELLO = "from howdah.service import appose_worker\nappose_worker.hello()"
ROOM = "from howdah.service import appose_worker\nappose_worker.make_blocks(planes, plane_bytes)"
FREE = "from howdah.service import appose_worker\nappose_worker.release(names)"
RUN = "from howdah.service import appose_worker\nappose_worker.run(task, name, parameters, arrays, folder)"


def connect(python):
    """Start a worker with the Python at this path, in which Howdah is installed, and return the backend.

    Raises:
        Problem: There is no such Python, it has no Howdah or no Appose, or it does not answer; its last lines are told.
    """
    return ApposeBackend(python)


class ApposeBackend(object):
    """A worker and what it can do. run may be called from several threads at once.

    Args:
        python: Path of the Python.
        start_s: How many seconds it may take to answer first.
    """

    remote = False

    def __init__(self, python, start_s=START_S):
        self.python = python
        self.start_s = start_s
        self.facts = None
        self._lock = ReentrantLock()
        self._service = None
        self._told = False  # whether somebody was told of the worker's death
        self._goodbye = None
        self._living()

    def health(self, timeout_s=ANSWER_S):
        """Return what the worker says about itself: {"howdah", "python", "pid", "tasks"}."""
        self._living()
        return self._ask(HELLO, {}, timeout_s)

    def run(self, task, parameters, image=None, table=None, progress=None):
        """Run a task to its end; see howdah_fiji.connect."""
        self._living()
        rooms = []
        try:
            arrays = {}
            if image is not None:
                arrays["image"] = self._sent_image(image, rooms)
            if table is not None:
                arrays["table"] = self._sent_table(table, rooms)
            inputs = {"name": task, "parameters": parameters, "arrays": arrays, "folder": None}
            outputs = Call(self, RUN, inputs, task, progress).result()
            return self._received(task, outputs["result"], rooms)
        finally:
            self._give_back(rooms)

    def close(self):
        """End the worker; tasks that run are cancelled."""
        self._lock.lock()
        try:
            service, self._service = self._service, None
            hook, self._goodbye = self._goodbye, None
        finally:
            self._lock.unlock()
        if service is not None:
            end(service, GOODBYE_S)
        if hook is not None:
            forget(hook)

    def service(self):
        """Return Appose's service, for scripts of one's own."""
        return self._living()

    # ---- the worker
    def _living(self):
        """Return the service; start one where there is none, or where its death was told already."""
        self._lock.lock()
        try:
            if self._service is not None and not self._service.isAlive() and not self._told:
                self._told = True
                raise Problem(died(self._service, None) + " Run it again: that starts a new worker.", FAULT)
            if self._service is None or self._told or not self._service.isAlive():
                self._start()
            return self._service
        finally:
            self._lock.unlock()

    def _start(self):
        self._service, self._told = launched(self.python), False
        if self._goodbye is None:
            self._goodbye = Thread(Goodbye(self), "Howdah-Goodbye")
            Runtime.getRuntime().addShutdownHook(self._goodbye)
        try:
            self.facts = self._ask(HELLO, {}, self.start_s)
        except Problem as problem:
            self.close()
            raise Problem(advised(problem.sentence, self.python), MISSING_PART)

    def _ask(self, script, inputs, timeout_s=ANSWER_S):
        return Call(self, script, inputs, None, None, timeout_s).result()

    def told(self, service):
        """Note that the death of a worker was told to somebody, so that the next run starts a new one."""
        self._told = self._told or service is self._service

    # ---- images and tables
    def _sent_image(self, imp, rooms):
        header = images.header_of(imp)
        room = self._room(images.count_of(header), images.plane_bytes(header), rooms)
        shared.put_image(imp, header, room)
        return {"header": header, "blocks": room.names()}

    def _sent_table(self, table, rooms):
        header, data = tables.packed(table)
        if not len(data):
            return {"header": header, "blocks": []}
        room = self._room(1, len(data), rooms)
        room.put(data)
        return {"header": header, "blocks": room.names()}

    def _room(self, planes, plane_bytes, rooms):
        blocks = self._ask(ROOM, {"planes": planes, "plane_bytes": plane_bytes})["blocks"]
        rooms.append(shared.Room(blocks))
        return rooms[-1]

    def _received(self, task, result, rooms):
        for name, value in list(result.items()):
            kind = [key for key in ("image", "table") if isinstance(value, dict) and isinstance(value.get(key), dict)]
            if not kind or "blocks" not in value[kind[0]]:
                continue
            message = value[kind[0]]
            rooms.append(shared.Room(message["blocks"]))
            title = "%s of %s" % (name, task)
            whole = kind[0] == "image"
            result[name] = (
                shared.image_from(title, message, rooms[-1]) if whole else shared.table_from(message, rooms[-1])
            )
        return result

    def _give_back(self, rooms):
        """Let go of all blocks, then have the worker free them; a dead worker's are freed already."""
        names = []
        for room in rooms:
            names.extend(room.names())
            room.close()
        service = self._service
        if names and service is not None and service.isAlive():
            Call(self, FREE, {"names": names}, None, None)  # nobody waits for it


class Goodbye(Runnable):
    """Ends the worker when Java ends."""

    def __init__(self, backend):
        self.backend = backend

    def run(self):
        """End it, without waiting for its tasks."""
        service = self.backend._service
        if service is not None:
            end(service, 0.5)


class Events(Consumer):
    """Hands what the worker says to the thread that waits for it; never fails, for Appose would then forget the task."""

    def __init__(self):
        self.queue = LinkedBlockingQueue()

    def accept(self, event):
        """Keep an event."""
        self.queue.add(event)


class Call(object):
    """One task of Appose, from its start to its end.

    Args:
        backend: Whose worker runs it.
        script: What the worker runs.
        inputs: Variables of the script.
        name: Howdah's name of the task, for sentences; None for what people did not ask for.
        progress: See howdah_fiji.connect.
        timeout_s: Seconds after which there is no use in waiting; None: the task may take days.
    """

    def __init__(self, backend, script, inputs, name, progress, timeout_s=None):
        self.backend = backend
        self.service = backend._service
        self.name = name
        self.progress = progress
        self.job = {"task": name, "state": "running", "stage": "", "done": 0, "total": 0, "values": {}}
        self.why = None
        self.stop_at = None
        self.events = Events()
        self.end = None if timeout_s is None else time.time() + timeout_s
        self.task = self.service.task(script, for_java(inputs), None)
        self.task.listen(self.events)
        self.task.start()

    def result(self):
        """Wait for the end and return the outputs, as Python's dicts and lists.

        Raises:
            Problem: The task failed or was cancelled, or the worker died or does not answer.
        """
        try:
            event = self._last_event()
        except BaseException:
            self.task.cancel()  # nobody waits for it any more
            raise
        return self._outputs(event)

    def _last_event(self):
        dead_at = None
        shown_at = time.time()
        while True:
            event = self._next()
            if event is not None and self._noted(event):
                return event
            now = time.time()
            if now - shown_at >= SHOW_S:
                shown_at = now
                self._show()
            if event is None and not self.service.isAlive():
                dead_at = dead_at or now
                if now - dead_at > DEAD_S:
                    self._died()
            if self.stop_at is not None and now > self.stop_at:
                self._stop_the_worker()
            if self.end is not None and now > self.end:
                raise Problem(silent(self.service, self.backend.python), FAULT)

    def _next(self):
        try:
            return self.events.queue.poll(100, TimeUnit.MILLISECONDS)
        except InterruptedException:
            self._cancel()
            return None

    def _noted(self, event):
        """Note what an event says; return whether it is the last one."""
        if event.responseType.isTerminal():
            return True
        info = from_java(event.info) if event.info is not None else {}
        if "exit_code" in info:
            self.why = info
        elif str(event.responseType) == "UPDATE":
            self.job.update(done=event.current, total=event.maximum, message=event.message or "")
            self.job.update(stage=info.get("stage", self.job["stage"]), values=info.get("values") or {})
        return False

    def _show(self):
        if self.progress is not None and self.progress(self.job) is False:
            self._cancel()

    def _cancel(self):
        if self.stop_at is None:
            self.stop_at = time.time() + STOP_S
            self.task.cancel()

    def _outputs(self, event):
        kind = str(event.responseType)
        if kind == "COMPLETION":
            if self.progress is not None:
                self.progress(dict(self.job, state="done"))
            return from_java(self.task.outputs)
        if kind == "CRASH":
            self._died()
        if kind == "CANCELATION":
            raise Problem("Stopped. The last good state is kept; the same again goes on from there.", STOPPED)
        if self.why is not None:
            raise Problem(self.why["sentence"], CODES.get(self.why["kind"], FAULT))
        raise Problem("The worker could not run it: %s" % (self.task.error or "it gave no reason").strip(), FAULT)

    def _died(self):
        self.backend.told(self.service)
        raise Problem(died(self.service, self.name, self.task.error), FAULT)

    def _stop_the_worker(self):
        self.backend.told(self.service)
        end(self.service, 0)
        raise Problem("Stopped. The step did not end within %d s, so the worker was ended with it." % STOP_S, STOPPED)


def launched(python):
    """Return a service of Appose for the Python at this path; its worker starts with the first task."""
    exe = File(python)
    if not exe.isFile():
        raise Problem(
            "There is no Python at %s. Install again: `howdah fiji install FOLDER-OF-FIJI`." % python, MISSING_PART
        )
    builder = Appose.custom().base(exe.getParentFile()).binPaths(exe.getParent())
    if System.getenv("PYTHONHOME"):
        builder.env("PYTHONHOME", "")  # of another Python, if Fiji was started in Python mode
    try:
        return builder.build().service([exe.getName()], "-c", MAIN).start()
    except (IOException, IllegalArgumentException) as error:
        raise Problem("The Python at %s does not start: %s" % (python, error.getMessage()), MISSING_PART)


def end(service, patience_s):
    """Close the worker's input, which ends it; kill it if it is still there after some seconds."""
    if not service.isAlive():
        return
    service.close()
    if not gone(service, patience_s):
        service.kill()
        gone(service, DEAD_S)


def gone(service, patience_s):
    """Wait some seconds for a worker's end; return whether it came."""
    until = time.time() + patience_s
    while service.isAlive() and time.time() < until:
        Thread.sleep(5)
    return not service.isAlive()


def forget(hook):
    """Take back what was to be done when Java ends; where it is ending, it is being done."""
    try:
        Runtime.getRuntime().removeShutdownHook(hook)
    except IllegalStateException:
        return


def last_lines(service):
    """Return what the worker said last, without the notes of Python's resource tracker on what it freed."""
    lines = [str(line) for line in list(service.errorLines().toArray()) if "resource_tracker" not in line]
    return "\n".join(lines[-LAST_LINES:]) or "(it said nothing)"


def died(service, task, error=None):
    """Say that the worker ended, and what it said last."""
    code = re.search(r"exit code (-?\d+)", error or "")
    how = " with code %s" % code.group(1) if code else ""
    why = ""
    if code and code.group(1) in ("137", "9", "-9"):
        why = " Somebody or the computer killed it, perhaps for want of memory."
    doing = " while it ran '%s'" % task if task else ""
    return "The worker ended%s%s.%s Its last lines:\n%s\n" % (how, doing, why, last_lines(service))


def silent(service, python):
    """Say that the worker does not answer."""
    return "The worker (%s) does not answer. Its last lines:\n%s" % (python, last_lines(service))


def advised(sentence, python):
    """Add what to do where the worker could not start."""
    if "No module named 'howdah" in sentence:
        return "The Python at %s has no Howdah, or an older one. Install it there: pip install 'howdah[fiji]'." % python
    if "has no Appose" in sentence:
        return "The Python at %s has no Appose. Install it there: pip install 'howdah[fiji]'." % python
    return sentence


def for_java(value):
    """Return dicts and lists as Java's, which Appose writes as JSON."""
    if isinstance(value, dict):
        made = LinkedHashMap()
        for key, inner in value.items():
            made.put(key, for_java(inner))
        return made
    if isinstance(value, (list, tuple)):
        made = ArrayList(len(value))
        for inner in value:
            made.add(for_java(inner))
        return made
    return value.getPath() if isinstance(value, File) else value


def from_java(value):
    """Return Java's maps and lists as dicts and lists, and its decimal numbers as floats."""
    if isinstance(value, Map):
        return {key: from_java(value.get(key)) for key in list(value.keySet())}
    if isinstance(value, List):
        return [from_java(inner) for inner in value]
    return value.doubleValue() if isinstance(value, BigDecimal) else value
