"""One suite of measurements: every format and every hot path at three sizes, beside a peer and a physical limit, in one run.

``python -m benchmarks.suite`` from the repository's root runs all (``make bench``); ``--quick`` the two smaller sizes. Reading
order: :mod:`.case` (the words), :mod:`.child` (one measurement, in a process of its own), :mod:`.measure` (all of them, growth
and ratios), :mod:`.machine` (on what), :mod:`.peers` (beside whom), :mod:`.table` and :mod:`.page` (what is written).
The cases are in ``cases/``, one module a group of them. ``docs/benchmarks.md`` says how to read the result.
"""
