#@script(label="Train time arrow", menuPath="Plugins>Howdah>Time arrow>Train time arrow", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Learns the arrow of time from a raw movie; no annotation is needed.") about
#@ File (label="Movie", persist=false, required=false, description="Empty: the open image") image
#@ File (label="Weights", style="save", persist=false, required=false, description="Where the trained weights go. Empty: beside the movie") weights
#@ File (label="Start from", persist=false, required=false, description="Weights to start from") start
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import script


def body(run):
    movie = run.movie("image")
    weights = run.out("weights", movie, "-tap.safetensors")
    told = {"start": run.file("start", must=False), "frames": run.text("frames"), "settings": run.settings("settings")}
    done = run.do("tap.train", movie, weights=weights, **told)
    return "trained; weights are in %s" % weights, done


script.main("Train time arrow", body, image=image, weights=weights, start=start, frames=frames, settings=settings, result=result)
