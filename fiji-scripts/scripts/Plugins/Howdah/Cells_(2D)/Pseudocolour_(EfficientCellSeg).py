#@script(label="Pseudocolour (EfficientCellSeg)", menuPath="Plugins>Howdah>Cells (2D)>Pseudocolour (EfficientCellSeg)", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Red and blue show the neighbouring planes, or the frames before and after.") about
#@ File (label="Movie", persist=false, required=false, description="Empty: the open image") image
#@ String (label="Neighbours", choices={"auto", "context", "time"}, persist=false, description="context: planes above and below; time: frames before and after") neighbours
#@ File (label="Result", style="save", persist=false, required=false, description="Ends in .tif, .ome.tif, .ome.zarr. Empty: beside the movie") out
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import results, script


def body(run):
    movie = run.movie("image")
    out = run.out("out", movie, "-colour.tif")
    told = {"frames": run.text("frames"), "settings": run.settings("settings")}
    told["settings"].setdefault("efficientcellseg", {}).setdefault("colour", run.text("neighbours") or "auto")
    done = run.do("efficientcellseg.colour", movie, out=out, **told)
    results.show_image(out)
    return results.told(done), done


script.main("Pseudocolour (EfficientCellSeg)", body, image=image, neighbours=neighbours, out=out, frames=frames, settings=settings, result=result)
