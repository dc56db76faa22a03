"""Howdah in Fiji: what the scripts under Plugins > Howdah share. Jython 2.7; the grammar is Python 3's, too.

    import howdah_fiji
    backend = howdah_fiji.connect()
    result = backend.run("embedtrack.track", {"weights": "/data/cells.safetensors"}, image=IJ.getImage())
    backend.close()

Read in this order: problems (errors), places (files and choices), images and tables (pixels and columns as bytes), http_backend and
appose_backend (two ways to the same tasks), starting (which way; start and stop), results (ROIs, overlays), script (what frames a script).
"""

from howdah_fiji.problems import Problem

__all__ = ["Problem", "connect"]

VERSION = "0.1.0"


def connect(choice=None):
    """Return the backend: a running service, Appose, or a service that is started for it.

    Args:
        choice: "auto", "service", "appose", or the address of a service ("http://..."); None: what was chosen in Fiji.

    Returns:
        An object with run(task, parameters, image=None, table=None, progress=None) -> dict, and close(). Image is an ImagePlus, table a
        dict of columns (see tables); a result may have "image" and "table". progress(job) is called about once a second with a
        dict (stage, done, total, values); it may return False to cancel.

    Raises:
        Problem: No backend can be reached or started; the sentence says what to do.
    """
    from howdah_fiji import starting

    return starting.connect(choice)
