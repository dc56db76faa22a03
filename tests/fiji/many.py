# fmt: off
# ruff: noqa
#@ ConsoleService console
#@ StartupService startup
#@ File (label="List of runs", persist=false) runs
"""Runs many scripts in one Java, each through SciJava's own `--run SCRIPT 'a=1,b="x"'`; called by the tests, with -Dhowdah.exit=false.

A run is [script, parameters]. Before, Jython compiles every file of the Fiji folder.
"""

import json
import os

from java.lang import System

with open(runs.getPath()) as lines:
    told = json.load(lines)
for folder in told["compile"]:
    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(where, name)) as lines:
                    compile(lines.read(), name, "exec")
print("compiled")
for script, parameters in told["runs"]:
    System.out.println(">>> %s %s" % (os.path.basename(script), parameters))
    console.processArgs(["--run", script] + ([parameters] if parameters else []))
    startup.executeOperations()
from howdah_fiji import script as howdah_script
howdah_script.leave(0)
