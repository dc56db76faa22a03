#@script(label="Stop backend", menuPath="Plugins>Howdah>Backend>Stop backend", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Stops Howdah's service on this computer.") about
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import script, starting


def body(run):
    return "the backend is stopped" if starting.stop_service() else "no backend was running"


script.main("Stop backend", body, result=result)
