#@script(label="Time-arrow map", menuPath="Plugins>Howdah>Time arrow>Time-arrow map", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Shows where the network sees the arrow of time: divisions, deaths, other events.") about
#@ File (label="Movie", persist=false, required=false, description="Empty: the open image") image
#@ File (label="Weights", persist=false, required=false, description="Of Train time arrow, or published ones") weights
#@ File (label="Result", style="save", persist=false, required=false, description="Ends in .tif, .ome.tif, .ome.zarr. Empty: beside the movie") out
#@ Boolean (label="With the movie", value=true, persist=false, description="The movie comes along as first channel") overlay
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import results, script


def body(run):
    movie, weights = run.movie("image"), run.file("weights")
    out = run.out("out", movie, "-arrow.tif")
    told = {"frames": run.text("frames"), "settings": run.settings("settings")}
    done = run.do("tap.map", movie, out=out, weights=weights, overlay=bool(overlay), **told)
    results.show_image(out)
    return results.told(done), done


script.main("Time-arrow map", body, image=image, weights=weights, out=out, overlay=overlay, frames=frames, settings=settings, result=result)
