#@script(label="Segment (EfficientCellSeg)", menuPath="Plugins>Howdah>Cells (2D)>Segment (EfficientCellSeg)", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Outlines the cells of each frame: ROIs, overlay, label image.") about
#@ File (label="Movie", persist=false, required=false, description="Empty: the open image") image
#@ File (label="Weights", persist=false, required=false, description="Trained weights. Empty: train on the outlines first") weights
#@ File (label="Outlines", persist=false, required=false, description="To train on, where no weights are given: label images, a ROI set") truth
#@ File (label="Label image", style="save", persist=false, required=false, description="Ends in .tif, .ome.tif, .xml (TrackMate). Empty: beside the movie") out
#@ String (label="Frames", value="", persist=false, description="As in 0-4,9. Empty: all") frames
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import places, results, script


def body(run):
    movie = run.movie("image")
    out = run.out("out", movie, "-cells.tif")
    rois = places.beside(out, "-rois.zip")
    told = {"weights": run.file("weights", must=False), "truth": run.file("truth", must=False)}
    told.update(frames=run.text("frames"), settings=run.settings("settings"))
    done = run.do("efficientcellseg.segment", movie, out=out, also=[rois], **told)
    results.show_rois(movie, rois)
    return results.told(done), done


script.main("Segment (EfficientCellSeg)", body, image=image, weights=weights, truth=truth, out=out, frames=frames, settings=settings, result=result)
