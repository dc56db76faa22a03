"""What frames every script: checked parameters, a log, a result file, one final line, and in headless Fiji a true exit code."""

import json
import os
import time
import traceback

from ij import IJ, ImagePlus, WindowManager
from ij.util import ThreadUtil
from java.awt import GraphicsEnvironment
from java.lang import OutOfMemoryError, Runnable, System, Thread, Throwable

from howdah_fiji import command_line, images, places, programs, results, starting
from howdah_fiji.problems import DONE, FAULT, STOPPED, Problem

SEVERAL = ("tap.train",)
"""Tasks that take several movies."""


def main(name, body, **given):
    """Run the body of a script, and end as the user and the calling program need it.

    Args:
        name: Of the script, as its file is called and the menu shows it: "Track nuclei (Mastodon)".
        body: body(run) does the work with a Run; it returns a sentence, or (sentence, dict for the result file).
        given: The script's parameters by name; `result` names the result file (empty: in <home>/fiji-logs).
    """
    run = Run(name, given)
    try:
        sentence, code, facts = _carried_out(run, body)
    finally:
        run.close()
    run.finish(sentence, code, facts)


def _carried_out(run, body):
    try:
        run.check_names()
        told = body(run)
        sentence, facts = told if isinstance(told, tuple) else (told, {})
        return sentence, DONE, facts
    except Problem as problem:
        return problem.sentence, problem.code, problem.facts
    except KeyboardInterrupt:
        return "Stopped.", STOPPED, {}
    except OutOfMemoryError:
        return images.heap_sentence(), FAULT, {}
    except (Exception, SystemExit, Throwable) as error:
        run.say(traceback.format_exc())
        what = error.toString() if isinstance(error, Throwable) else "%s: %s" % (type(error).__name__, error)
        return "A fault: %s. Please report it with the log." % what, FAULT, {}


class Run(object):
    """One run of a script: its parameters, its backend, its log."""

    def __init__(self, name, given):
        self.name = name
        self.given = given
        self.began = time.time()
        self.headless = GraphicsEnvironment.isHeadless()
        asked = _text(given.get("result"))
        self.record = asked or places.record_of(
            "".join(c for c in name.lower().replace(" ", "-") if c.isalnum() or c == "-")
        )
        self.log_path = os.path.splitext(self.record)[0] + ".log"
        self._lines = None
        self._backend = None
        self._shown = 0
        self.say("%s; %s" % (name, self._shown_parameters()))

    # ---- parameters
    def check_names(self):
        """Refuse parameters that the script does not have, and flags that are neither true nor false; SciJava takes both silently."""
        typed = command_line.parameters_of(self.name_of_file())
        for name, value in typed.items():
            if value is None:
                raise Problem("'%s' on the command line has no name: write parameter=value." % name)
            if name not in self.given:
                raise Problem("There is no parameter '%s'; there are %s." % (name, ", ".join(sorted(self.given))))
            if isinstance(self.given[name], bool) and value.strip("\"'").lower() not in ("true", "false"):
                raise Problem("Parameter '%s' must be true or false; it was given as %s." % (name, value))

    def name_of_file(self):
        """Return the file name of the script that runs: its name as Fiji's menu shows it, with underscores."""
        return self.name.replace(" ", "_") + ".py"

    def text(self, name, must=False):
        """Return a text parameter without blanks around; an empty one that must be there is an error."""
        value = _text(self.given.get(name))
        if must and not value:
            raise Problem("Parameter '%s' is missing.%s" % (name, self._how_to_give(name)))
        return value

    def _how_to_give(self, name):
        """Return what a person at the command line types; nobody types in Fiji's window."""
        return ' Quote text: %s="..." (Windows: forward slashes).' % name if self.headless else ""

    def file(self, name, must=True):
        """Return the path of a file or folder that exists; '' for an optional one that was not given."""
        path = self.text(name, must)
        if path and not os.path.exists(path):
            raise Problem("Parameter '%s': there is no file %s." % (name, path))
        return path

    def out(self, name, source, ending):
        """Return the path of a result: as given, else beside its source (of an unsaved image: in <home>/fiji-results)."""
        given = self.text(name)
        if given:
            folder = os.path.dirname(os.path.abspath(given))
            if not os.path.isdir(folder):
                raise Problem("Parameter '%s': there is no folder %s." % (name, folder))
            return given
        if isinstance(source, ImagePlus):
            info = source.getOriginalFileInfo()
            title = os.path.basename(source.getTitle())
            saved = info is not None and info.directory and os.path.isdir(info.directory)
            source = os.path.join(info.directory, title) if saved else places.results(title)
        return places.beside(source, ending)

    def whole(self, name, least=0):
        """Return a whole number of at least `least`, or None if it was left empty."""
        value = self.text(name)
        if not value:
            return None
        if not value.lstrip("-").isdigit() or int(value) < least:
            raise Problem("Parameter '%s' must be a whole number of at least %d; it is '%s'." % (name, least, value))
        return int(value)

    def number(self, name):
        """Return a number above 0, or None if it was left empty."""
        value = self.text(name)
        try:
            found = float(value) if value else None
        except ValueError:
            found = -1.0
        if found is not None and not found > 0:
            raise Problem("Parameter '%s' must be a number above 0; it is '%s'." % (name, value))
        return found

    def settings(self, name):
        """Return settings by section: "elephant.n_epochs=20; linking.max_gap=1" gives {"elephant": {"n_epochs": 20}, ...}."""
        found = {}
        for part in self.text(name).split(";"):
            if not part.strip():
                continue
            key, sign, value = part.partition("=")
            section, dot, field = key.strip().partition(".")
            if not sign or not dot:
                raise Problem(
                    "Parameter '%s': write section.setting=value; ... as in elephant.n_epochs=20; it is '%s'."
                    % (name, part)
                )
            try:
                parsed = json.loads(value)
            except ValueError:
                parsed = value.strip()
            found.setdefault(section, {})[field.strip().replace("-", "_")] = parsed
        return found

    def movie(self, name):
        """Return what to work on: the path that was given, else the open image (its file, where it was not changed since)."""
        path = self.file(name, must=False)
        if path:
            return path
        imp = WindowManager.getCurrentImage()
        if imp is None:
            raise Problem("Parameter '%s' is missing, and no image is open.%s" % (name, self._how_to_give(name)))
        return images.file_of(imp) or imp

    def project(self, name):
        """Return the project to work on: the file that was given, else the one that is open in Mastodon."""
        return self.file(name, must=False) or programs.project_file(self) or self.file(name)

    # ---- work
    def backend(self, task="", told=()):
        """Return the backend, connected; a training is rather given to the service, which goes on when Fiji ends."""
        if self._backend is None:
            lasts = not self.headless and trains(task, told)
            self._backend = starting.connect(lasts=lasts)
            self._backend.stop_with_java = self.headless
            self.say("backend: %s" % self.where())
        return self._backend

    def where(self):
        """Return which backend it is, for a sentence."""
        url = getattr(self.backend(), "url", None)
        if url is None:
            return "a worker of their own (Appose), which ends with Fiji"
        return "%s, on another computer" % url if self._backend.remote else "%s, the service on this computer" % url

    def do(self, asked, movie=None, table=None, **parameters):
        """Run a task of the backend, with progress in Fiji's status bar; Escape stops it. Empty parameters are left out.

        Args:
            asked: Its name; no parameter of a task is called so.
            movie: Path or ImagePlus: what goes in as `source`.
            table: Columns.
            parameters: All others.

        Returns:
            The task's result as a dict.
        """
        told = {name: value for name, value in parameters.items() if value not in (None, "", [], {})}
        image = movie if isinstance(movie, ImagePlus) else None
        if movie is not None and image is None:
            told.update({"sources": [movie]} if asked in SEVERAL else {"source": movie})
        self.say("%s %s" % (asked, json.dumps(told, sort_keys=True)))
        IJ.resetEscape()
        backend = self.backend(asked, told)
        done = backend.run(asked, told, image=image, table=table, progress=self._show)
        place = images.place_of(image) if image is not None else movie if backend.remote else ""
        if place and images.planes_in(place) is not None:
            for path in [told.get("out") or ""] + list(told.get("also") or []):
                results.name_movie(path, place)
        return done

    def _show(self, job):
        done, total = job.get("done") or 0, job.get("total") or 0
        values = "  ".join(
            "%s %.3g" % (name, value) for name, value in sorted((job.get("values") or {}).items()) if value is not None
        )
        line = "%s %s/%s  %s" % (job.get("stage") or job.get("state"), done, total, values)
        IJ.showStatus("Howdah: " + line)
        IJ.showProgress(int(done), int(total) or 1)
        if time.time() - self._shown > 10:
            self._shown = time.time()
            self.say(line)
        return not IJ.escapePressed()

    def say(self, line):
        """Write a line into the log."""
        if self._lines is None or self._lines.closed:  # Jython closes all files when Java is told to end
            places.ensure(os.path.dirname(os.path.abspath(self.log_path)))
            self._lines = open(self.log_path, "ab")
        text = line if isinstance(line, bytes) else line.encode("utf-8")
        self._lines.write(time.strftime("%Y-%m-%d %H:%M:%S ").encode("ascii") + text.rstrip() + b"\n")
        self._lines.flush()

    def tell(self, line):
        """Say a line to the user, before the final one: in Fiji's log window, or on the console."""
        self.say(line)
        if self.headless:
            System.out.println(line)
        else:
            IJ.log(line)

    def close(self):
        """Let the backend go."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def finish(self, sentence, code, facts):
        """Write the result file, say the final line, and in headless Fiji end it with the exit code."""
        state = "done" if code == DONE else "stopped" if code == STOPPED else "failed"
        record = {
            "script": self.name,
            "state": state,
            "code": code,
            "sentence": sentence,
            "result": facts,
            "log": self.log_path,
        }
        record["seconds"] = round(time.time() - self.began, 3)
        self.say("%s (%d): %s" % (state, code, sentence))
        self._lines.close()
        self._keep(record)
        ended = "%s (exit code %d)" % (state, code) if self.headless else state
        line = "Howdah: %s: %s: %s [%s]" % (self.name, ended, " ".join(sentence.split()), self.record)
        if not self.headless:
            IJ.log(line)
            IJ.showStatus(line)
            if code not in (DONE, STOPPED):
                IJ.error("Howdah: " + self.name, "%s\n \nLog: %s" % (sentence, self.log_path))
            return
        System.out.println(line)
        System.out.flush()
        if System.getProperty("howdah.exit") != "false":  # a program that runs several scripts in one Java sets it
            ThreadUtil.threadPoolExecutor.shutdown()
            leave(code)

    def _keep(self, record):
        part = self.record + ".part"
        with open(part, "w") as target:
            json.dump(record, target, indent=1, sort_keys=True, default=_plain)
        if os.path.exists(self.record):
            os.remove(self.record)
        os.rename(part, self.record)

    def _shown_parameters(self):
        hidden = ("token", "result")
        return ", ".join(
            "%s=%s" % (name, _text(value)) for name, value in sorted(self.given.items()) if name not in hidden
        )


def trains(task, told):
    """Whether a task may take hours: it trains, or it was given no weights and trains first."""
    return task.endswith(("train", "train-flow")) or (
        task in ("track", "efficientcellseg.segment") and "weights" not in told
    )


class Leaving(Runnable):
    """Ends Java."""

    def __init__(self, code):
        self.code = code

    def run(self):
        """End it; the first exit code that was told counts."""
        System.exit(self.code)


def leave(code):
    """End Java from a thread of its own: SciJava, on its way out, waits five seconds for a script that does not return."""
    exit_thread = Thread(Leaving(code), "Howdah ends Java")
    exit_thread.start()
    exit_thread.join(300)  # by then Java is ending, and nobody else's exit code counts any more


def _plain(value):
    """Return something for JSON in place of an image or a column."""
    return "(%s)" % type(value).__name__


def _text(value):
    if value is None:
        return ""
    if hasattr(value, "getPath"):  # the backend has another working folder, so that it gets whole paths
        return value.getAbsolutePath() if value.getPath().strip() else ""
    return ("%s" % value).strip()
