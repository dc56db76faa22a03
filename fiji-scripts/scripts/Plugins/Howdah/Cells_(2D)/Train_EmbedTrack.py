#@script(label="Train EmbedTrack", menuPath="Plugins>Howdah>Cells (2D)>Train EmbedTrack", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Trains EmbedTrack on outlined cells and their links.") about
#@ File (label="Outlined cells", persist=false, required=false, description="TrackMate file with outlines, a project, a challenge sequence (01), or a movie") source
#@ File (label="Outlines", persist=false, required=false, description="Only if the above is a movie: label images, a ROI set, 01_GT") truth
#@ File (label="Weights", style="save", persist=false, required=false, description="Where the trained weights go. Empty: beside the source") weights
#@ File (label="Start from", persist=false, required=false, description="Weights to start from") start
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import script


def body(run):
    source = run.file("source")
    weights = run.out("weights", source, "-embedtrack.safetensors")
    told = {"start": run.file("start", must=False), "truth": run.file("truth", must=False)}
    told.update(frames=run.text("frames"), settings=run.settings("settings"))
    done = run.do("embedtrack.train", source, weights=weights, **told)
    return "trained; weights are in %s" % weights, done


script.main("Train EmbedTrack", body, source=source, truth=truth, weights=weights, start=start, frames=frames, settings=settings, result=result)
