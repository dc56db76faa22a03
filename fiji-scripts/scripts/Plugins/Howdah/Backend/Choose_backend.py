#@script(label="Choose backend", menuPath="Plugins>Howdah>Backend>Choose backend", headless=true)
#@ String (visibility=MESSAGE, required=false, persist=false, value="Which backend Howdah's scripts speak to, from now on.") about
#@ String (label="Backend", choices={"auto", "service", "appose", "other"}, persist=false, description="auto: the running service, else Appose, else a service is started") backend
#@ String (label="Address", value="", persist=false, description="Of another computer's service, as in https://server:8765") url
#@ String (label="Token", style="password", value="", persist=false, description="That service's token") token
#@ File (label="Certificate", persist=false, required=false, description="Of that service, if it is its own (.pem)") certificate
#@ File (label="Shared folder here", style="directory", persist=false, required=false, description="A folder that both computers see, so that movies need not be sent") here
#@ String (label="The same folder there", value="", persist=false, description="What that computer calls it, as in /data/lab") there
#@ File (label="Record (JSON)", style="save", persist=false, required=false, description="What happened, for programs; the log lies beside it. Empty: in .howdah/fiji-logs") result
from howdah_fiji import places, script
from howdah_fiji.problems import Problem


def body(run):
    wanted = run.text("backend", must=True)
    if wanted not in ("auto", "service", "appose", "other"):
        raise Problem("Parameter 'backend' must be auto, service, appose or other; it is '%s'." % wanted)
    chosen = {"choice": wanted, "certificate": run.file("certificate", must=False)}
    if wanted == "other":
        shared = {"here": run.file("here", must=False), "there": run.text("there")}
        if bool(shared["here"]) != bool(shared["there"]):
            raise Problem("Give both names of the shared folder, 'here' and 'there', or none.")
        chosen.update(shared)
        chosen.update(url=run.text("url", must=True), token=run.text("token", must=True))
    before = places.choice()
    places.choose(chosen)
    try:
        run.backend()
    except Problem:
        places.choose(before)
        raise
    return "Howdah's scripts now speak to %s" % run.where()


script.main("Choose backend", body, backend=backend, url=url, token=token, certificate=certificate, here=here, there=there, result=result)
