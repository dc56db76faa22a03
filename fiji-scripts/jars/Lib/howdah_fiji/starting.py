"""Which backend: find the running service, start one, or let Appose start a worker."""

import os
import time

from java.io import File, FileInputStream
from java.lang import Class, ClassNotFoundException, ProcessBuilder
from java.security import KeyStore
from java.security.cert import CertificateFactory
from javax.net.ssl import SSLContext, TrustManagerFactory

from howdah_fiji import places
from howdah_fiji.problems import BAD_INPUT, FAULT, MISSING_PART, Problem

IDLE_MIN = "240"  # minutes without a question after which a service that Fiji started ends
PATIENCE_S = 90  # the first start of a service compiles Python files, and disks may be slow
NO_PYTHON = (
    "Howdah does not know its Python: %s has no backend.properties. Install from the Python that has Howdah with "
    "`howdah fiji install FOLDER-OF-FIJI`, or start `howdah serve` yourself."
)


def connect(choice=None, lasts=False):
    """Return the backend that was chosen; see howdah_fiji.connect. lasts: where the choice is "auto", one that outlives Fiji."""
    chosen = places.choice()
    wanted = (choice or chosen.get("choice") or "auto").strip()
    if wanted.startswith(("http://", "https://")) or (wanted == "other" and chosen.get("url")):
        return _other(wanted if wanted != "other" else chosen["url"], chosen)
    if wanted == "appose":
        return _appose()
    if wanted not in ("auto", "service"):
        raise Problem(
            "The backend '%s' is unknown: choose auto, service, appose, or the address of a service." % wanted
        )
    running = running_service()
    if running is not None:
        return running
    if wanted == "auto" and has_appose() and not lasts:
        return _appose()
    return start_service()


def running_service():
    """Return the service that runs on this computer, or None."""
    from howdah_fiji.http_backend import HttpBackend

    notice = places.service_notice()
    if notice is None:
        return None
    backend = HttpBackend(notice["url"], notice["token"], notice.get("log"), _trust(notice.get("certificate")))
    try:
        backend.health(timeout_s=3)
    except Problem:
        return None  # it was killed, and could not take its notice away
    return backend


def start_service():
    """Start `howdah serve` from the Python that was installed with, and wait until it answers."""
    running = running_service()
    if running is not None:
        return running
    python = places.installed().get("python")
    if not python:
        raise Problem(NO_PYTHON % places.HERE, MISSING_PART)
    if not os.path.isfile(python):
        raise Problem(
            "There is no Python at %s any more. Install again: `howdah fiji install FOLDER-OF-FIJI`." % python,
            MISSING_PART,
        )
    log = os.path.join(places.ensure(places.home()), "serve-from-fiji.log")
    builder = ProcessBuilder(_serve(python))
    builder.environment().remove("PYTHONHOME")  # of another Python, if Fiji was started in Python mode
    builder.redirectErrorStream(True).redirectOutput(File(log))
    process = builder.start()
    end = time.time() + PATIENCE_S
    while time.time() < end:
        running = running_service()
        if running is not None:
            return running
        if not process.isAlive():
            raise Problem(
                "The backend ended at once with code %d; last lines of %s:\n%s"
                % (process.exitValue(), log, last_lines(log)),
                FAULT,
            )
        time.sleep(0.1)
    process.destroy()
    raise Problem(
        "The backend did not answer within %d s; last lines of %s:\n%s" % (PATIENCE_S, log, last_lines(log)), FAULT
    )


def _serve(python):
    """Return the command of a service for this user alone: it may open what this user may, and ends when it is not needed."""
    command = [python, "-m", "howdah", "serve", "--idle", IDLE_MIN]
    for disk in File.listRoots():
        command += ["--root", disk.getPath()]
    return command


def stop_service():
    """Stop the service on this computer; return whether one ran."""
    running = running_service()
    if running is None:
        return False
    running.shut_down()
    end = time.time() + 20
    while time.time() < end:
        if running_service() is None:
            return True
        time.sleep(0.1)
    raise Problem(
        "The backend at %s was told to stop 20 s ago and still answers; see %s." % (running.url, running.log), FAULT
    )


def has_appose():
    """Return whether Appose's Java library is in this Fiji, and a Python is known for it."""
    try:
        Class.forName("org.apposed.appose.Appose")
    except ClassNotFoundException:
        return False
    return bool(places.installed().get("python")) and os.path.isfile(os.path.join(places.HERE, "appose_backend.py"))


def _appose():
    if not has_appose():
        raise Problem(
            "Appose is not in this Fiji, or Howdah's Python is not known: update Fiji, and run `howdah fiji install FOLDER-OF-FIJI`.",
            MISSING_PART,
        )
    from howdah_fiji import appose_backend

    return appose_backend.connect(places.installed()["python"])


def _other(url, chosen):
    from howdah_fiji.http_backend import HttpBackend

    notice = places.service_notice() or {}
    own = notice.get("url", "").rstrip("/") == url.rstrip("/")
    token = notice["token"] if own else chosen.get("token")
    if not token:
        raise Problem(
            "The backend at %s needs its token: give it in Plugins > Howdah > Backend > Choose backend." % url,
            BAD_INPUT,
        )
    trust = _trust(notice.get("certificate") if own else chosen.get("certificate"))
    backend = HttpBackend(url, token, notice.get("log") if own else None, trust, remote=not own)
    backend.health()
    return backend


def _trust(certificate):
    """Return an SSLContext that trusts one certificate (a PEM file), or None."""
    if not certificate:
        return None
    if not os.path.isfile(certificate):
        raise Problem("There is no certificate at %s." % certificate)
    stream = FileInputStream(certificate)
    try:
        read = CertificateFactory.getInstance("X.509").generateCertificate(stream)
    finally:
        stream.close()
    store = KeyStore.getInstance(KeyStore.getDefaultType())
    store.load(None, None)
    store.setCertificateEntry("howdah", read)
    managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm())
    managers.init(store)
    context = SSLContext.getInstance("TLS")
    context.init(None, managers.getTrustManagers(), None)
    return context


def last_lines(path, count=8):
    """Return the last lines of a text file."""
    if not os.path.isfile(path):
        return "(no such file)"
    with open(path) as lines:
        return "".join(list(lines)[-count:])
