#@script(label="Link spots", menuPath="Plugins>Howdah>Mastodon>Link spots", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Links the spots of a project into tracks. Links that you made stay.") about
#@ File (label="Project", persist=false, required=false, description="Mastodon project (.mastodon) that names its movie. Empty: the one open in Mastodon") project
#@ File (label="Flow weights", persist=false, required=false, description="Of Train flow; links follow it") flow
#@ File (label="Result", style="save", persist=false, required=false, description="Ends in .mastodon, .xml, .csv ... Empty: beside the project") out
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ Boolean (label="Open the result", value=true, persist=false, description="In Mastodon, if it is in this Fiji") show
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import programs, results, script


def body(run):
    project = run.project("project")
    out = run.out("out", project, "-linked.mastodon")
    told = {"flow": run.file("flow", must=False), "frames": run.text("frames"), "settings": run.settings("settings")}
    done = run.do("link", project, out=out, **told)
    return results.told(done) + (programs.show_project(out) if show else ""), done


script.main("Link spots", body, project=project, flow=flow, out=out, frames=frames, settings=settings, show=show, result=result)
