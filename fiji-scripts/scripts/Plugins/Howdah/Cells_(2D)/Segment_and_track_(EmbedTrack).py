#@script(label="Segment and track (EmbedTrack)", menuPath="Plugins>Howdah>Cells (2D)>Segment and track (EmbedTrack)", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Outlines and tracks the cells of a 2D movie: ROIs, overlay, TrackMate file.") about
#@ File (label="Movie", persist=false, required=false, description="Empty: the open image") image
#@ File (label="Weights", persist=false, required=false, description="Trained weights, ours or published ones (.safetensors, .pth)") weights
#@ File (label="TrackMate file", style="save", persist=false, required=false, description="Empty: beside the movie. ROIs lie beside it") out
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ Boolean (label="Open in TrackMate", value=false, persist=false, description="If it is in this Fiji") show
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import places, programs, results, script


def body(run):
    movie, weights = run.movie("image"), run.file("weights")
    out = run.out("out", movie, "-tracks.xml")
    rois = places.beside(out, "-rois.zip")
    told = {"frames": run.text("frames"), "settings": run.settings("settings")}
    done = run.do("embedtrack.track", movie, out=out, also=[rois], weights=weights, **told)
    results.show_rois(movie, rois, out)
    return results.told(done) + (programs.show_tracks(out) if show else ""), done


script.main("Segment and track (EmbedTrack)", body, image=image, weights=weights, out=out, frames=frames, settings=settings, show=show, result=result)
