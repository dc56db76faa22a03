#@script(label="Find events", menuPath="Plugins>Howdah>Time arrow>Find events", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Lists where something happens, the surest first; then use Jump to event.") about
#@ File (label="Movie", persist=false, required=false, description="Empty: the open image") image
#@ File (label="Weights", persist=false, required=false, description="Of Train time arrow, or published ones") weights
#@ File (label="Result", style="save", persist=false, required=false, description="Ends in .csv, .mastodon, .xml. Empty: .csv beside the movie") out
#@ String (label="Events", value="100", persist=false, description="So many, the best; 0: all") top
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import results, script


def body(run):
    movie, weights = run.movie("image"), run.file("weights")
    out = run.out("out", movie, "-events.csv")
    told = {"frames": run.text("frames"), "settings": run.settings("settings"), "top": run.whole("top")}
    done = run.do("tap.events", movie, out=out, weights=weights, **told)
    if out.endswith(".csv"):
        results.show_table(results.read_events(out), "Howdah events")
    return results.told(done), done


script.main("Find events", body, image=image, weights=weights, out=out, top=top, frames=frames, settings=settings, result=result)
