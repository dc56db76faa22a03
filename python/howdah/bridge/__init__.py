"""How Howdah calls Fiji: from Python, through PyImageJ, a local Fiji or the Fiji in which a script runs.

Read in this order: :mod:`checks` (before the JVM starts; with :mod:`java_home`, :mod:`fiji_folder` and :mod:`memory`), :mod:`start`
(start, join) and :mod:`stop` (a clean end), :mod:`java_classes` (classes and exceptions), :mod:`axes` (Java's x, y, z), :mod:`images` and
:mod:`imglib` (numpy and Java's images), :mod:`bdv` (sources shown), :mod:`mastodon` and :mod:`trackmate` (live models), and
:mod:`installation` (Howdah's scripts in a Fiji folder).

    import howdah.bridge

    with howdah.bridge.start("/opt/Fiji") as fiji:
        print(fiji.version)

Importing this package starts no JVM and loads no Java part.
"""

from howdah.bridge.start import Fiji, join, start, start_imagej

__all__ = ["Fiji", "join", "start", "start_imagej"]
