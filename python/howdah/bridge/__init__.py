"""How Howdah calls Fiji: from Python, through PyImageJ, a local Fiji or the Fiji in which a script runs.

Read in this order: :mod:`checks` (before the JVM starts), :mod:`start` (start, join, and a clean end), :mod:`axes` (Java's x, y, z),
:mod:`images` (numpy and ImageJ's images), :mod:`mastodon` and :mod:`trackmate` (live models), :mod:`bdv` (sources shown), and
:mod:`installation` (Howdah's scripts in a Fiji folder).
"""
