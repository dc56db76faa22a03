#@script(label="Convert a file", menuPath="Plugins>Howdah>Convert a file", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Writes an annotation or a movie in another format; the ending chooses it.") about
#@ File (label="Source", persist=false, required=false, description="A file or a folder. Empty: the open image") source
#@ File (label="Target", style="save", persist=false, required=false, description="Ends in .mastodon, .xml, .csv, .zip, .geff, .tif, .ome.zarr ...") out
#@ File (label="Its movie", persist=false, required=false, description="For annotations: the movie, so that the target names it") image
#@ Boolean (label="Repair", value=false, persist=false, description="Mend what contradicts itself, and list it") repair
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import results, script


def body(run):
    source = run.movie("source")
    run.text("out", must=True)
    told = {"image": run.file("image", must=False), "repair": bool(repair)}
    done = run.do("convert", source, out=run.out("out", source, ""), **told)
    return results.told(done), done


script.main("Convert a file", body, source=source, out=out, image=image, repair=repair, result=result)
