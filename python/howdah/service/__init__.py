"""How Fiji calls Howdah: one table of tasks, two transports over it.

Read in this order: :mod:`parameters` (what a task is told), :mod:`table` (the tasks), :mod:`running` (one task, in this process),
:mod:`store`, :mod:`worker` and :mod:`queue` (jobs that survive a restart, each in a process that can be killed), :mod:`backend` (all of it
together), then the transports: :mod:`http` (FastAPI, for any language and other computers) and :mod:`appose_worker` (shared memory, started
by a script in Fiji).
"""
