"""One task over every movie of a folder: what fails is listed and does not stop the rest."""

import csv
import fnmatch
import os

from howdah_fiji.problems import FAULT, STOPPED, Problem

TASKS = {
    "embedtrack.track": "-tracks.xml",
    "efficientcellseg.segment": "-cells.tif",
    "efficientcellseg.colour": "-colour.tif",
    "tap.map": "-arrow.tif",
    "tap.events": "-events.csv",
    "track": "-tracked.mastodon",
    "predict": "-detected.mastodon",
    "link": "-linked.mastodon",
    "convert": "",
}
"""How the results of each task end."""

ROIS = ("embedtrack.track", "efficientcellseg.segment")


def movies_in(folder, patterns):
    """Return the files (and folders such as .ome.zarr) in a folder whose names fit one of the patterns ("*.tif, *.xml")."""
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    names = [name for name in sorted(os.listdir(folder)) if any(fnmatch.fnmatch(name, pattern) for pattern in wanted)]
    if not names:
        raise Problem("No file in %s fits '%s'." % (folder, patterns))
    return [os.path.join(folder, name) for name in names]


def over_folder(run, task, folder, patterns, out_folder, ending="", **parameters):
    """Run a task over a folder, one movie after the other.

    Args:
        run: The script's Run.
        task: Name of the task, one of TASKS.
        folder: Where the movies are.
        patterns: Which files are movies.
        out_folder: Where results go; it is made if need be.
        ending: How the names of results end; '': as TASKS says.
        parameters: The same for all.

    Returns:
        (path of the list of what was done, number of movies, [(movie, sentence)] of those that failed).
    """
    if task not in TASKS:
        raise Problem("Parameter 'task' must be one of %s; it is '%s'." % (", ".join(sorted(TASKS)), task))
    movies, ending = movies_in(folder, patterns), ending or TASKS[task]
    if not ending:
        raise Problem("Parameter 'ending' is missing: how the names of results end, as in ending=\".xml\".")
    if not os.path.isdir(out_folder):
        os.makedirs(out_folder)
    rows, failed = [], []
    for movie in movies:
        out = os.path.join(out_folder, os.path.splitext(os.path.basename(movie))[0] + ending)
        told = dict(parameters, out=out)
        if task in ROIS:
            told["also"] = [os.path.splitext(out)[0] + "-rois.zip"]
        try:
            run.do(task, movie, **told)
            rows.append([movie, "done", out, ""])
        except Problem as problem:
            if problem.code == STOPPED:
                raise
            failed.append((movie, problem.sentence))
            rows.append([movie, "failed", "", problem.sentence])
            if problem.code == FAULT and not _answers(run):
                raise
        run.tell("%d/%d %s: %s %s" % (len(rows), len(movies), os.path.basename(movie), rows[-1][1], rows[-1][3]))
    return _listed(rows, out_folder), len(movies), failed


def _answers(run):
    """Return whether the backend still answers; if not, the rest of the folder would fail, too."""
    backend = run.backend()
    if not hasattr(backend, "health"):
        return True
    try:
        backend.health()
    except Problem:
        return False
    return True


def _listed(rows, folder):
    path = os.path.join(folder, "howdah-batch.csv")
    with open(path, "wb") as target:
        writer = csv.writer(target)
        writer.writerow(["movie", "state", "result", "error"])
        for row in rows:
            writer.writerow([cell.encode("utf-8") for cell in row])
    return path
