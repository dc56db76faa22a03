"""How Howdah calls Fiji: from Python, through PyImageJ, a local Fiji or the Fiji in which a script runs.

Read in this order: :mod:`checks` (before the JVM starts), :mod:`start` (start, join, and a clean end), :mod:`axes` (Java's x, y, z),
:mod:`images` (numpy and ImageJ's images), :mod:`mastodon` and :mod:`trackmate` (live models), :mod:`bdv` (sources shown), and
:mod:`installation` (Howdah's scripts in a Fiji folder).

    import howdah.bridge

    with howdah.bridge.start("/opt/Fiji") as fiji:
        print(fiji.version)

Importing this package starts no JVM and loads no Java part.
"""

from howdah.bridge.start import Fiji, join, start, start_imagej

__all__ = ["Fiji", "join", "start", "start_imagej"]
