#@script(label="Batch over a folder", menuPath="Plugins>Howdah>Batch over a folder", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Runs one task over every movie of a folder. What fails is listed and does not stop the rest.") about
#@ File (label="Folder", style="directory", persist=false, required=false, description="Where the movies or projects are") folder
#@ String (label="Task", choices={"embedtrack.track", "efficientcellseg.segment", "efficientcellseg.colour", "tap.map", "tap.events", "track", "predict", "link", "convert"}, persist=false, description="What is done with each") task
#@ String (label="Files", value="*.tif, *.tiff", persist=false, description="Which files: patterns, separated by commas. Empty: all movies and projects") pattern
#@ File (label="Weights", persist=false, required=false, description="Trained weights, if the task uses a network") weights
#@ File (label="Results", style="directory", persist=false, required=false, description="Folder for the results. Empty: howdah-results in the folder") out
#@ String (label="Ending", value="", persist=false, description="How the names of results end, as in -tracks.xml. Empty: as fits the task") ending
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
import os

from howdah_fiji import batch, script
from howdah_fiji.problems import Problem


def body(run):
    folder = run.file("folder")
    out = run.text("out") or os.path.join(folder, "howdah-results")
    told = {"weights": run.file("weights", must=False), "frames": run.text("frames"), "settings": run.settings("settings")}
    done = batch.over_folder(run, run.text("task", must=True), folder, run.text("pattern"), out, ending=run.text("ending"), **told)
    if done["failed"]:
        first = done["failures"][0]
        what = (done["failed"], done["inputs"], done["summary"], first["input"], first["error"])
        raise Problem("%d of %d movies failed, see %s; the first: %s: %s" % what, facts=done)
    before = ", %d of them before" % done["skipped"] if done["skipped"] else ""
    return "%d movies done%s; results in %s" % (done["inputs"], before, out), done


script.main("Batch over a folder", body, folder=folder, task=task, pattern=pattern, weights=weights, out=out, ending=ending, frames=frames, settings=settings, result=result)
