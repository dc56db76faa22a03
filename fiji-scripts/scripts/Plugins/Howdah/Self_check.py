#@script(label="Self check", menuPath="Plugins>Howdah>Self check", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Does Howdah work in this Fiji? Looks at everything, and says what to do.") about
#@ Boolean (label="Start the backend", value=true, persist=false, description="Also start it, and send images there and back") start
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import check, script
from howdah_fiji.problems import MISSING_PART, Problem


def body(run):
    findings = check.all_findings(run, with_backend=bool(start))
    for line in check.lines_of(findings):
        run.tell(line)
    bad = [finding for finding in findings if not finding["ok"]]
    if bad:
        raise Problem("%d of %d checks failed: %s" % (len(bad), len(findings), check.advice_of(bad)), MISSING_PART)
    return "all %d checks passed" % len(findings), {"findings": findings}


script.main("Self check", body, start=start, result=result)
