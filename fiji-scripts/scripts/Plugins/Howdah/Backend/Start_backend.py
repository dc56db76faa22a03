#@script(label="Start backend", menuPath="Plugins>Howdah>Backend>Start backend", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Starts Howdah's service on this computer, if it does not run.") about
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import script, starting


def body(run):
    backend = starting.start_service()
    return "the backend answers at %s" % backend.url, backend.health()


script.main("Start backend", body, result=result)
