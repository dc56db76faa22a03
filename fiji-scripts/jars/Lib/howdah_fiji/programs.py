"""The other programs in this Fiji: the project that is open in Mastodon, results opened in Mastodon or TrackMate."""

import os
import shutil

from ij import IJ
from ij.gui import YesNoCancelDialog
from java.awt import GraphicsEnvironment, Window
from java.io import File
from java.lang import Class, ClassNotFoundException, Runnable
from javax.swing import SwingUtilities

from howdah_fiji.problems import STOPPED, Problem

MAIN_WINDOW = "org.mastodon.mamut.MainWindow"
TRACKMATE = "fiji.plugin.trackmate.LoadTrackMatePlugIn"
BEFORE = "~"  # behind the name of the copy that is made before Mastodon saves: its save can be cut short


def class_called(name):
    """Return a class of this Fiji, or None if it is not there."""
    try:
        return IJ.getClassLoader().loadClass(name)
    except ClassNotFoundException:
        return None


def open_project():
    """Return the ProjectModel of the Mastodon project that is open in this Fiji (of several the newest), or None."""
    if GraphicsEnvironment.isHeadless() or class_called(MAIN_WINDOW) is None:
        return None
    from org.mastodon.mamut import MainWindow

    windows = [one for one in Window.getWindows() if isinstance(one, MainWindow) and one.isDisplayable()]
    if not windows:
        return None
    field = Class.getDeclaredField(MainWindow, "appModel")  # Mastodon keeps no list of what is open
    field.setAccessible(True)
    return field.get(windows[-1])


def project_file(run):
    """Return the file of the project that is open in Mastodon; what was not saved is saved first, if the user agrees. '': none is open."""
    opened = open_project()
    if opened is None:
        return ""
    root = opened.getProject().getProjectRoot()
    if root is None:
        raise Problem("The project that is open in Mastodon was never saved. Save it first (File > Save project).")
    path = root.getPath()
    if not opened.getModel().isSavePoint():
        title = "Howdah: %s" % run.name
        ask = YesNoCancelDialog(
            IJ.getInstance(),
            title,
            "The project %s has changes that are not saved.\nSave it? (No: work on the file as it was saved last.)"
            % root.getName(),
        )
        if ask.cancelPressed():
            raise Problem("Stopped: the project has changes that are not saved.", STOPPED)
        if ask.yesPressed():
            save(opened, path)
    run.tell("project: %s, open in Mastodon" % path)
    return path


def save(opened, path):
    """Save a project that is open in Mastodon, after a copy of its file."""
    if os.path.isfile(path):
        shutil.copyfile(path, path + BEFORE)
    from org.mastodon.mamut.io import ProjectSaver

    ProjectSaver.saveProject(File(path), opened)


def show_project(path):
    """Open a project in Mastodon where there is a screen and a Mastodon; return what to say of it."""
    if GraphicsEnvironment.isHeadless() or not path.endswith(".mastodon"):
        return ""
    if class_called(MAIN_WINDOW) is None:
        return "; open it with Mastodon"
    from org.mastodon.mamut import MainWindow
    from org.mastodon.mamut.io import ProjectLoader

    context = IJ.runPlugIn("org.scijava.Context", "")
    opened = ProjectLoader.open(path, context, False, True)
    later(lambda: MainWindow(opened).setVisible(True))
    return "; it is open in Mastodon"


def show_tracks(path):
    """Open a TrackMate file in TrackMate where there is a screen and a TrackMate; return what to say of it."""
    if GraphicsEnvironment.isHeadless() or not path.lower().endswith(".xml"):
        return ""
    if class_called(TRACKMATE) is None:
        return "; open it with Plugins > Tracking > Load a TrackMate file"
    IJ.runPlugIn(TRACKMATE, path)
    return "; it is open in TrackMate"


class Later(Runnable):
    """Work for the thread of the windows."""

    def __init__(self, work):
        self.work = work

    def run(self):
        """Do it."""
        self.work()


def later(work):
    """Do something in the thread of the windows, and wait for it."""
    SwingUtilities.invokeAndWait(Later(work))
