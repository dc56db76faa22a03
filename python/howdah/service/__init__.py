"""How Fiji calls Howdah: one table of tasks, two transports over it.

Read in this order: :mod:`parameters` (what a task is told, and in which folders it may work), :mod:`tasks` and :mod:`table` (the tasks),
:mod:`preparing` and :mod:`running` (one task, in this process), :mod:`clean` (what leaves it), :mod:`store` and :mod:`journal` (jobs that
survive a restart), :mod:`worker` and :mod:`process` (a task in a process that can be killed, from inside and from outside), :mod:`queue`
(slots with warm workers), :mod:`backend` (all of it together), :mod:`batch` (a task for each file of a folder), then the transports:
:mod:`http` (FastAPI, for any language and other computers) and :mod:`appose_worker` (shared memory, started by a script in Fiji).
"""
