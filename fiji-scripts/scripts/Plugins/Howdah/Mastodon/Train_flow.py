#@script(label="Train flow", menuPath="Plugins>Howdah>Mastodon>Train flow", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Trains the flow on the links that you made or approved: where was each nucleus before?") about
#@ File (label="Project", persist=false, required=false, description="Mastodon project (.mastodon) that names its movie. Empty: the one open in Mastodon") project
#@ File (label="Weights", style="save", persist=false, required=false, description="Where the trained weights go. Empty: beside the project") weights
#@ File (label="Start from", persist=false, required=false, description="Weights to start from") start
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import script


def body(run):
    project = run.project("project")
    weights = run.out("weights", project, "-flow.safetensors")
    told = {"start": run.file("start", must=False), "frames": run.text("frames"), "settings": run.settings("settings")}
    done = run.do("train-flow", project, weights=weights, **told)
    return "trained; weights are in %s" % weights, done


script.main("Train flow", body, project=project, weights=weights, start=start, frames=frames, settings=settings, result=result)
