"""Results in Fiji: ROIs, an overlay in the colours of the tracks, tables, places to jump to."""

import os
import re

from ij import ImagePlus
from ij.gui import Overlay, PointRoi
from ij.io import RoiDecoder
from ij.measure import ResultsTable
from java.awt import Color, GraphicsEnvironment
from java.nio.file import Files, Paths, StandardCopyOption
from java.util.zip import ZipFile

from howdah_fiji import images
from howdah_fiji.problems import Problem

GOLDEN = 0.618034  # steps of the hue: neighbours in number differ in colour
SPOT = "howdah_spot"
COUNTS = ("frames", "spots", "cells", "links", "tracks", "divisions", "events", "detected", "planes", "same", "score")
IMAGE = re.compile(b'(<ImageData )filename="[^"]*" folder="[^"]*"')
TRACK = re.compile(r'<Track [^>]*?TRACK_ID="(\d+)"')
SOURCE, TARGET = re.compile(r'SPOT_SOURCE_ID="(\d+)"'), re.compile(r'SPOT_TARGET_ID="(\d+)"')


def read_rois(path):
    """Return the ROIs of a ROI set (.zip), without the ROI Manager, which headless Fiji has not."""
    if not os.path.isfile(path):
        return []
    archive = ZipFile(path)
    try:
        rois = []
        for entry in archive.entries():
            roi = RoiDecoder(archive.getInputStream(entry).readAllBytes(), entry.getName()).getRoi()
            rois.append(roi)
        return rois
    finally:
        archive.close()


def tracks_in(path):
    """Return {id of a spot: number of its track} of a TrackMate file."""
    found, track = {}, None
    if not os.path.isfile(path):
        return found
    with open(path) as lines:
        for line in lines:
            for word in line.split("<"):
                begin = TRACK.search("<" + word)
                if begin:
                    track = int(begin.group(1))
                source, target = SOURCE.search(word), TARGET.search(word)
                if source and target:
                    found[int(source.group(1))] = found[int(target.group(1))] = track
    return found


def name_movie(path, movie):
    """Have a TrackMate file name its movie by its place here, where the backend knew the movie as something that was sent to it."""
    if not path.lower().endswith(".xml") or not os.path.isfile(path):
        return
    with open(path, "rb") as source:
        text = source.read()
    folder, name = os.path.split(os.path.abspath(movie))
    place = 'filename="%s" folder="%s/"' % (_escaped(name), _escaped(folder.rstrip("/")))
    named = IMAGE.sub(lambda found: found.group(1) + place.encode("utf-8"), text, 1)
    if named != text:
        with open(path + ".part", "wb") as target:
            target.write(named)
        Files.move(Paths.get(path + ".part"), Paths.get(path), [StandardCopyOption.REPLACE_EXISTING])


def _escaped(text):
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), ('"', "&quot;")):
        text = text.replace(sign, written)
    return text


def overlay_of(rois, tracks=None):
    """Return an overlay of ROIs; those of one track have one colour, those of none are yellow."""
    overlay = Overlay()
    for roi in rois:
        spot = roi.getProperty(SPOT)
        track = (tracks or {}).get(int(spot)) if spot else None
        if track is not None:
            roi.setStrokeColor(Color.getHSBColor((track * GOLDEN) % 1.0, 0.9, 1.0))
        elif roi.getStrokeColor() is None:
            roi.setStrokeColor(Color.YELLOW)
        overlay.add(roi)
    return overlay


def show_rois(movie, roi_set, trackmate_file="", manager=True):
    """Show outlines over their movie: as overlay, and in the ROI Manager.

    Args:
        movie: The ImagePlus, or the path of the file, which is opened where there is a screen.
        roi_set: The ROI set (.zip).
        trackmate_file: TrackMate file of the same cells, for the colours.
        manager: Whether the ROI Manager gets them, too.

    Returns:
        The image with its overlay; None in headless Fiji for a movie that is a file.
    """
    if not isinstance(movie, ImagePlus):
        if GraphicsEnvironment.isHeadless():
            return None
        movie = open_shown(movie)
    rois = read_rois(roi_set)
    movie.setOverlay(overlay_of(rois, tracks_in(trackmate_file)))
    if manager and not GraphicsEnvironment.isHeadless():
        from ij.plugin.frame import RoiManager

        held = RoiManager.getRoiManager()
        held.reset()
        for roi in rois:
            held.addRoi(roi)
    return movie


def open_image(movie):
    """Return an ImagePlus of what Run.movie gave: itself, or the file opened (and shown where there is a screen)."""
    if isinstance(movie, ImagePlus):
        return movie
    return images.open_image(movie) if GraphicsEnvironment.isHeadless() else open_shown(movie)


def open_shown(path):
    """Return a file as a shown image: the window that has it already, or a new one."""
    from ij import WindowManager

    for number in list(WindowManager.getIDList() or []):
        imp = WindowManager.getImage(number)
        if images.file_of(imp) == path:
            return imp
    imp = images.open_image(path)
    imp.show()
    return imp


def show_image(path):
    """Open a result and show it where there is a screen; the number of planes is checked. Returns it."""
    imp = images.open_image(path)
    if not GraphicsEnvironment.isHeadless():
        imp.show()
    return imp


def read_events(path):
    """Return the ranked list of events (.csv: rank, t, z, y, x, quality) as ImageJ's table."""
    if not os.path.isfile(path):
        raise Problem(
            "There is no list of events %s; it is written by Plugins > Howdah > Time arrow > Find events." % path
        )
    table = ResultsTable.open(path)
    for heading in ("t", "z", "y", "x"):
        if not table.columnExists(heading):
            raise Problem("%s is no list of events: it has no column '%s'." % (path, heading))
    return table


def jump(imp, table, row):
    """Show an event: the frame, the plane, and a point at its place. Returns (t, z, y, x) in frames and pixels, from 0."""
    cal = imp.getCalibration()
    size = (cal.pixelDepth, cal.pixelHeight, cal.pixelWidth) if cal.scaled() else (1.0, 1.0, 1.0)
    t = int(table.getValue("t", row))
    z, y, x = [table.getValue(axis, row) / edge for axis, edge in zip("zyx", size)]
    slices, frames = imp.getNSlices(), imp.getNFrames()
    plane = min(max(int(round(z)) + 1, 1), slices)
    if frames == 1 and 0 < t < slices:  # ImageJ takes the frames of a TIFF file that does not say so for slices
        plane = t + 1
    imp.setPosition(imp.getC(), plane, min(t + 1, frames))
    imp.setRoi(PointRoi(x + 0.5, y + 0.5))
    return t, z, y, x


def show_table(table, title):
    """Show a table where there is a screen."""
    if not GraphicsEnvironment.isHeadless():
        table.show(title)


def table_of(columns, title):
    """Return columns (Java arrays by name) as ImageJ's table, and show it."""
    table = ResultsTable()
    names = sorted(columns)
    rows = len(columns[names[0]]) if names else 0
    for row in range(rows):
        table.addRow()
        for name in names:
            table.addValue(name, float(columns[name][row]))
    show_table(table, title)
    return table


def opened_table(path):
    """Return a table file, or ImageJ's results table where no path was given."""
    if path:
        return ResultsTable.open(path)
    table = ResultsTable.getActiveTable() or ResultsTable.getResultsTable()
    if table is None or table.size() == 0:
        raise Problem("Parameter 'table' is missing, and no results table is open.")
    return table


def measures(done):
    """Return a sentence about what `evaluate` returned: the F1 of spots, links ... and where all measures are."""
    found = ["%s F1 %.3f" % (one["of"], one["f1"]) for one in done.get("measures", []) if one.get("f1") is not None]
    return ", ".join(found or ["compared"]) + "; all measures are in %s" % done.get("out")


def told(done):
    """Return a sentence about what a task returned: its counts, and where its result lies."""
    counts = []
    for name in COUNTS:
        if isinstance(done.get(name), (int, float)) and not isinstance(done[name], bool):
            counts.append("%g %s" % (done[name], name.replace("_", " ")))
    where = [done[name] for name in ("out", "weights") if done.get(name)][:1]
    return ", ".join(counts or ["done"]) + ("; written to %s" % where[0] if where else "")
