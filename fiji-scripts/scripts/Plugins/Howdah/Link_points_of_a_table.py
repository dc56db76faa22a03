#@script(label="Link points of a table", menuPath="Plugins>Howdah>Link points of a table", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Links the points of a results table into tracks; shows the links as a table.") about
#@ File (label="Table", persist=false, required=false, description="A .csv file. Empty: the open results table") table
#@ String (label="Columns", value="Slice, Y, X", persist=false, description="Headings of frame, z, y, x; of a 2D movie: frame, y, x") columns
#@ File (label="Links", style="save", persist=false, required=false, description="A .csv file. Empty: beside the table") out
#@ String (label="Settings", value="", persist=false, description="section.setting=value; ... as in elephant.n_epochs=20. Empty: the defaults") settings
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import places, results, script, tables


def body(run):
    path = run.file("table", must=False)
    opened = results.opened_table(path)
    headings = [name.strip() for name in run.text("columns", must=True).split(",")]
    points = tables.points_of(opened, headings)
    done = run.do("link.table", table=points, settings=run.settings("settings"))
    out = run.out("out", path or places.results("table"), "-links.csv")
    links = results.table_of(done["table"], "Howdah links")
    links.save(out)
    return "%d links between %d points, in %s" % (links.size(), opened.size(), out), {"out": out, "links": links.size()}


script.main("Link points of a table", body, table=table, columns=columns, out=out, settings=settings, result=result)
