# fmt: off
# ruff: noqa
#@ ScriptService scripts
#@ File (label="What to do", persist=false) told
"""Runs scripts as the menu does, with ImageJ's windows on a (virtual) screen, and takes pictures of them; called by the tests."""

import json
import os
import time

import java.io
from ij import IJ, ImageJ, WindowManager
from ij.plugin.frame import RoiManager
from java.awt import Dialog, Rectangle, Robot, Window
from java.io import File
from java.lang import System, Thread
from java.util import HashMap
from javax.imageio import ImageIO

with open(told.getPath()) as lines:
    work = json.load(lines)
seen = {}
ij = ImageJ()
ij.exitWhenQuitting(False)
ij.setLocation(20, 20)


def picture(name):
    time.sleep(0.6)
    screen = Robot().createScreenCapture(Rectangle(0, 0, 1100, 720))
    ImageIO.write(screen, "png", File(os.path.join(work["pictures"], name + ".png")))


class Closer(Thread):
    """Closes the modal dialog of a failed script, and notes what it said."""

    def run(self):
        for _ in range(400):
            for window in Window.getWindows():
                if isinstance(window, Dialog) and window.isShowing() and window.isModal():
                    seen["dialog"] = window.getTitle()
                    picture("dialog")
                    window.dispose()
                    return
            time.sleep(0.05)


def run(script, **given):
    values = HashMap()
    for name, value in given.items():
        values.put(name, value)
    values.put("result", File(os.path.join(work["records"], script.rsplit("/", 1)[-1] + ".json")))
    scripts.run(File(os.path.join(work["scripts"], script)), True, values).get()


run("Backend/Start_backend.py")
imp = IJ.openImage(work["movie"])
imp.show()
imp.getWindow().setLocation(30, 190)
for _ in range(3):
    IJ.run("In [+]")
run("Cells_(2D)/Train_EmbedTrack.py", source=File(work["outlined"]), weights=File(work["weights"]), settings=work["quick"])
run("Cells_(2D)/Segment_and_track_(EmbedTrack).py", weights=File(work["weights"]), settings=work["loose"])
seen["overlay"] = imp.getOverlay().size()
seen["colours"] = len(set([str(roi.getStrokeColor()) for roi in imp.getOverlay().toArray()]))
manager = RoiManager.getInstance()
seen["manager"] = manager.getCount()
manager.setLocation(560, 190)
seen["macro"] = IJ.runMacro("return '' + roiManager('count') + ' ' + Overlay.size;")
imp.setT(3)
picture("tracked")
manager.close()
imp.setOverlay(None)
imp.changes = True  # now its pixels go over, not the name of its file
run("Time_arrow/Find_events.py", weights=File(work["network"]), settings="tap.device=cpu")
imp.changes = False
seen["tables"] = list(WindowManager.getNonImageTitles())
run("Time_arrow/Jump_to_event.py", number="2")
seen["point"] = [imp.getT(), imp.getRoi().getTypeAsString()]
run("Time_arrow/Time-arrow_map.py", weights=File(work["network"]), settings="tap.device=cpu")
arrow = IJ.getImage()
seen["map"] = [arrow.getTitle(), arrow.getNChannels(), arrow.getNFrames(), arrow.isComposite()]
Closer().start()
run("Convert_a_file.py", out=File("/no/such/folder/x.tif"))
run("Backend/Stop_backend.py")
seen["log"] = IJ.getLog()
picture("log")
with open(work["seen"], "w") as target:
    json.dump(seen, target)
from howdah_fiji import script as howdah_script
howdah_script.leave(0)
