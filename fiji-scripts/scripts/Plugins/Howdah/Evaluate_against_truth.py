#@script(label="Evaluate against truth", menuPath="Plugins>Howdah>Evaluate against truth", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Compares a result with the truth: the measures of the Cell Tracking Challenge and more.") about
#@ File (label="Result", persist=false, required=false, description="An annotation, a label image, or a folder 01_RES") found
#@ File (label="Truth", persist=false, required=false, description="An annotation, a label image, or a folder 01_GT") truth
#@ String (label="Reach", value="", persist=false, description="How far a spot may lie off and still be the same, in world units. Empty: automatic") reach
#@ String (label="Frame tolerance", value="", persist=false, description="Frames that a division may be early or late. Empty: 0") tolerance
#@ Boolean (label="Sparse truth", value=false, persist=false, description="The truth holds some cells only: what it lacks is unknown") sparse
#@ String (label="Qualities", value="", persist=false, description="Features of spots or links to test as qualities, between commas") quality
#@ File (label="Measures", style="save", persist=false, required=false, description="Ends in .json or .csv. Empty: beside the result") out
#@ File (label="Report", style="save", persist=false, required=false, description="A page with the worst mistakes, ends in .html. Empty: none") report
#@ File (label="Mistakes", style="save", persist=false, required=false, description="The result with its mistakes as tags: .mastodon, .xml ... Empty: none") tagged
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import results, script


def body(run):
    found, truth = run.file("found"), run.file("truth")
    out = run.out("out", found, "-measures.csv")
    told = {"reach": run.number("reach"), "sparse": bool(sparse), "out": out}
    told["frame_tolerance"] = run.whole("tolerance")
    told["quality"] = run.text("quality")
    for name in ("report", "tagged"):
        told[name] = run.out(name, found, "") if run.text(name) else None
    done = run.do("evaluate", result=found, truth=truth, **told)
    return results.measures(done), done


script.main("Evaluate against truth", body, found=found, truth=truth, reach=reach, tolerance=tolerance, sparse=sparse, quality=quality, out=out, report=report, tagged=tagged, result=result)
