#@script(label="Detect nuclei", menuPath="Plugins>Howdah>Mastodon>Detect nuclei", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Finds the nuclei of every frame. What you marked stays.") about
#@ File (label="Project", persist=false, required=false, description="Mastodon project (.mastodon) that names its movie. Empty: the one open in Mastodon") project
#@ File (label="Weights", persist=false, required=false, description="Trained weights: of Train detector, or published ones") weights
#@ File (label="Result", style="save", persist=false, required=false, description="Ends in .mastodon, .xml, .csv ... Empty: beside the project") out
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ Boolean (label="Open the result", value=true, persist=false, description="In Mastodon, if it is in this Fiji") show
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import programs, results, script


def body(run):
    project, weights = run.project("project"), run.file("weights")
    out = run.out("out", project, "-detected.mastodon")
    told = {"frames": run.text("frames"), "settings": run.settings("settings")}
    done = run.do("predict", project, out=out, weights=weights, **told)
    return results.told(done) + (programs.show_project(out) if show else ""), done


script.main("Detect nuclei", body, project=project, weights=weights, out=out, frames=frames, settings=settings, show=show, result=result)
