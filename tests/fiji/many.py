#@ ConsoleService console
#@ StartupService startup
#@ File (label="List of runs", persist=false) runs
"""Runs many scripts in one Java, each through SciJava's own `--run SCRIPT 'a=1,b="x"'`; called by the tests, with -Dhowdah.exit=false.

A run is [script, parameters, result file, seconds to wait for that file].
"""

import json
import os
import time

from java.lang import System

with open(runs.getPath()) as lines:
    listed = json.load(lines)
for script, parameters, result, patience in listed:
    System.out.println(">>> %s %s" % (os.path.basename(script), parameters))
    console.processArgs(["--run", script] + ([parameters] if parameters else []))
    startup.executeOperations()
    end = time.time() + patience
    while time.time() < end and not os.path.exists(result):
        time.sleep(0.02)
System.exit(0)
