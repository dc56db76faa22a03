#@script(label="Track nuclei (Mastodon)", menuPath="Plugins>Howdah>Mastodon>Track nuclei (Mastodon)", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="From a few marked nuclei to the nuclei of every frame, linked into tracks.") about
#@ File (label="Project", persist=false, required=false, description="Mastodon project (.mastodon) that names its movie. Empty: the one open in Mastodon") project
#@ File (label="Weights", persist=false, required=false, description="Trained weights. Empty: train on the marks first") weights
#@ File (label="Flow weights", persist=false, required=false, description="Of Train flow; links follow it") flow
#@ File (label="Result", style="save", persist=false, required=false, description="Ends in .mastodon, .xml, .csv ... Empty: beside the project") out
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ Boolean (label="Open the result", value=true, persist=false, description="In Mastodon, if it is in this Fiji") show
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import programs, results, script


def body(run):
    project = run.project("project")
    out = run.out("out", project, "-tracked.mastodon")
    told = {"weights": run.file("weights", must=False), "flow": run.file("flow", must=False)}
    told.update(frames=run.text("frames"), settings=run.settings("settings"))
    done = run.do("track", project, out=out, **told)
    return results.told(done) + (programs.show_project(out) if show else ""), done


script.main("Track nuclei (Mastodon)", body, project=project, weights=weights, flow=flow, out=out, frames=frames, settings=settings, show=show, result=result)
