"""One task over every movie of a folder: what fails is listed and does not stop the rest, what is done is not done again.

The backend's own task `batch` does it, the same as `howdah batch` without Fiji: same files, same list, same memory of what is done.
A backend on another computer that does not see the folder gets one movie after the other from here.
"""

import csv
import fnmatch
import os

from howdah_fiji import remote_files
from howdah_fiji.problems import FAULT, STOPPED, Problem

TASKS = {
    "embedtrack.track": "-tracked.xml",
    "efficientcellseg.segment": "-masks.tif",
    "efficientcellseg.colour": "-colour.tif",
    "tap.map": "-arrow.tif",
    "tap.events": "-events.csv",
    "track": "-tracked.mastodon",
    "predict": "-spots.mastodon",
    "link": "-linked.mastodon",
    "convert": "",
}
"""How the results of each task end where movies are sent one by one."""


def over_folder(run, task, folder, patterns, out, ending="", **parameters):
    """Run a task over a folder.

    Args:
        run: The script's Run.
        task: Name of the task, one of TASKS.
        folder: Where the movies are.
        patterns: Which files are movies: "*.tif, *.tiff"; empty: all that are movies or projects.
        out: Where results go; it is made if need be.
        ending: How the names of results end; '': as the task has it.
        parameters: The same for all, and settings.

    Returns:
        {"inputs", "done", "skipped", "failed": counts, "failures": [{"input", "error"}], "summary": path of the list}.
    """
    if task not in TASKS:
        raise Problem("Parameter 'task' must be one of %s; it is '%s'." % (", ".join(sorted(TASKS)), task))
    told = {name: value for name, value in parameters.items() if value not in (None, "", [], {})}
    if not os.path.isdir(out):
        os.makedirs(out)
    if run.backend().remote and not (remote_files.is_shared(folder) and remote_files.is_shared(out)):
        return one_by_one(run, task, movies_in(folder, patterns), out, ending or TASKS[task], told)
    inputs, pattern = [folder], patterns.strip()
    if "," in pattern:  # the task takes one pattern: here they are applied
        inputs, pattern = movies_in(folder, patterns), ""
    order = {"inputs": inputs, "pattern": pattern, "out": out, "ending": ending, "parameters": told}
    return run.do("batch", task=task, **order)


def movies_in(folder, patterns):
    """Return the files (and folders such as .ome.zarr) in a folder whose names fit one of the patterns ("*.tif, *.xml")."""
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()] or ["*"]
    names = [name for name in sorted(os.listdir(folder)) if any(fnmatch.fnmatch(name, pattern) for pattern in wanted)]
    if not names:
        raise Problem("No file in %s fits '%s'." % (folder, patterns))
    return [os.path.join(folder, name) for name in names]


def one_by_one(run, task, movies, out_folder, ending, parameters):
    """Send one movie after the other to a backend that does not see the folder; see over_folder."""
    if not ending:
        raise Problem("Parameter 'ending' is missing: how the names of results end, as in ending=\".xml\".")
    rows, failures = [], []
    for movie in movies:
        told = dict(parameters, out=os.path.join(out_folder, os.path.splitext(os.path.basename(movie))[0] + ending))
        try:
            run.do(task, movie, **told)
            rows.append([movie, "done", ""])
        except Problem as problem:
            if problem.code == STOPPED:
                raise
            failures.append({"input": movie, "error": problem.sentence})
            rows.append([movie, "failed", problem.sentence])
            if problem.code == FAULT and not _answers(run):
                raise
        run.tell("%d/%d %s: %s %s" % (len(rows), len(movies), os.path.basename(movie), rows[-1][1], rows[-1][2]))
    counts = {"inputs": len(movies), "done": len(movies) - len(failures), "skipped": 0, "failed": len(failures)}
    return dict(counts, failures=failures, summary=_listed(rows, out_folder))


def _answers(run):
    """Return whether the backend still answers; if not, the rest of the folder would fail, too."""
    try:
        run.backend().health()
    except Problem:
        return False
    return True


def _listed(rows, folder):
    path = os.path.join(folder, "batch.csv")
    with open(path, "wb") as target:
        writer = csv.writer(target)
        writer.writerow(["input", "state", "error"])
        for row in rows:
            writer.writerow([cell.encode("utf-8") for cell in row])
    return path
