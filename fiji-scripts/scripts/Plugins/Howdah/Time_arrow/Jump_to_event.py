#@script(label="Jump to event", menuPath="Plugins>Howdah>Time arrow>Jump to event", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Shows an event in its movie: the frame, the plane, and a point at its place.") about
#@ File (label="Movie", persist=false, required=false, description="Empty: the open image") image
#@ File (label="Events", persist=false, required=false, description="List of Find events (.csv). Empty: beside the movie") events
#@ String (label="Number", value="1", persist=false, description="1: the surest") number
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import results, script
from howdah_fiji.problems import Problem


def body(run):
    movie = run.movie("image")
    table = results.read_events(run.file("events", must=False) or run.out("out", movie, "-events.csv"))
    number = run.whole("number", least=1) or 1
    if number > table.size():
        raise Problem("Parameter 'number' is %d, and the list has %d events." % (number, table.size()))
    imp = results.open_image(movie)
    t, z, y, x = results.jump(imp, table, number - 1)
    facts = {"t": t, "z": z, "y": y, "x": x, "shown": imp.getCurrentSlice()}
    return "event %d of %d: frame %d, plane %.0f, x %.1f, y %.1f" % (number, table.size(), t, z, x, y), facts


script.main("Jump to event", body, image=image, events=events, number=number, result=result)
