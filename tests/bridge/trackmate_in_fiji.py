"""Checks of howdah.bridge.trackmate* against a real TrackMate, run by test_trackmate.py in a child process: one JVM for all of them.

Usage: trackmate_in_fiji.py FIJI FOLDER      (FOLDER: an empty one to write to)
"""

import json
import re
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bdv_io.difference import difference
from bdv_io.errors import MissingDataError
from bdv_io.formats import read_tracks
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag
from bdv_io.trackmate import read_trackmate, write_trackmate
from bdv_io.tracks import Tracks
from howdah.bridge.images import to_imageplus
from howdah.bridge.java_classes import java_class
from howdah.bridge.start import start
from howdah.bridge.swing import on_swing, open_windows
from howdah.bridge.trackmate import model_of, tracks_of
from howdah.bridge.trackmate_changes import Changes, apply_to
from howdah.bridge.trackmate_session import load, open_sessions, show
from howdah.errors import BridgeError

HELA = Path(__file__).resolve().parents[3] / "shared" / "data" / "hela-h2b-2d"
SQUARE = np.array([[-2.0, -2.0], [-2.0, 3.0], [3.0, 3.0], [3.0, -2.0]])


def annotation():
    """A division: 0 -> 1 -> {2, 3}; one spot with an outline, one an ellipsoid; tags, features, an interval."""
    centre = np.array([[0.0, 10, 10], [0, 12, 12], [0, 14, 10], [0, 14, 18]])
    covariance = np.stack([np.eye(3) * 9.0] * 4)
    covariance[3] = np.diag([4.0, 9.0, 16.0])
    tracks = Tracks.build(
        [0, 1, 2, 2],
        centre,
        covariance=covariance,
        links=[[0, 1], [1, 2], [1, 3]],
        label=["mother", None, "a<&>b", "µ"],
        quality=[1.0, 0.5, 0.25, 0.125],
        id=[4, 8, 15, 16],
        outlines=Outlines.of_polygons([1], [SQUARE + centre[1, 1:]], 0.0),
        space_unit="µm",
        time_unit="s",
        interval=2.5,
        features=(
            Feature("MY NUMBER", "", np.array([1.5, 2.5, 3.5, 4.5])),
            Feature("COST", "", np.array([1.0, 2.0, 3.0]), "link"),
        ),
    )
    return tracks.with_tag("State", Tag("done", 0xFFFF0000), spots=[0], links=[1])


def movie():
    return to_imageplus(
        np.zeros((3, 1, 1, 40, 50), np.uint8), voxel_size=(1.0, 1.0, 1.0), unit="µm", interval=(2.5, "s"), title="movie"
    )


def file_of(folder):
    path = folder / "movie.tif"
    if not path.is_file():
        pixels = np.random.default_rng(0).integers(0, 200, (3, 40, 50), dtype=np.uint8)
        facts = {"axes": "TYX", "unit": "um", "finterval": 2.5}
        tifffile.imwrite(path, pixels, imagej=True, resolution=(1.0, 1.0), metadata=facts)
    return path


def same(first, second):
    found = difference(first, second)
    assert not any(found.counts.values()), found.counts
    assert not Changes.between(second, first), Changes.between(second, first).counts


def there_and_back(folder):
    tracks = annotation()
    back = tracks_of(model_of(tracks))
    same(tracks, back)
    assert back.id.tolist() == [4, 8, 15, 16]
    assert back.label.tolist() == ["mother", None, "a<&>b", "µ"]
    assert (back.space_unit, back.time_unit, back.interval) == ("µm", "s", 2.5)
    np.testing.assert_allclose(back.outlines.vertices, tracks.outlines.vertices)
    np.testing.assert_allclose(back.covariance, tracks.covariance)
    assert back.feature("COST", "", "link").values.tolist() == [1.0, 2.0, 3.0]
    assert back.tagged("State", "done").tolist() == [True, False, False, False]
    assert back.tagged("State", "done", links=True).tolist() == [False, True, False]


def what_java_sees(folder):
    model = model_of(annotation())
    assert int(model.getSpots().getNSpots(True)) == 4
    assert int(model.getTrackModel().nTracks(True)) == 1
    assert str(model.getSpaceUnits()) == "µm"
    spots = {int(spot.ID()): spot for spot in model.getSpots().iterable(False)}
    assert float(spots[4].getFeature("RADIUS")) == 3.0
    assert float(spots[8].getFeature("POSITION_T")) == 2.5
    assert list(spots[8].getRoi().x) == SQUARE[:, 1].tolist()
    assert "MY_NUMBER" in {str(key) for key in model.getFeatureModel().getSpotFeatures()}
    assert float(spots[16].getFeature("MY_NUMBER")) == 4.5


def nothing_at_all(folder):
    assert tracks_of(model_of(Tracks.empty())).n_spots == 0


def changes_come_as_one_event(folder):
    import jpype

    model, tracks = model_of(annotation()), annotation()
    first = next(spot for spot in model.getSpots().iterable(False) if int(spot.ID()) == 4)
    events = []
    listener = jpype.JProxy("fiji.plugin.trackmate.ModelChangeListener", dict={"modelChanged": events.append})
    model.addModelChangeListener(listener)
    assert not apply_to(model, tracks)
    assert not events
    shift = np.zeros((4, 3))
    shift[:2] = [0, 1, 2]
    wanted = replace(tracks, centre=tracks.centre + shift, outlines=tracks.outlines.moved(shift))
    wanted = wanted.select([0, 1, 2]).relabelled(["new name", None, "a<&>b"])
    wanted = wanted.concatenate(Tracks.build([3], [[0, 20, 20]], radius=2.0, id=[23], space_unit="µm"))
    wanted = wanted.with_links([[2, 3]]).with_tag("State", Tag("odd", 0xFF00FF00), spots=[1])
    found = apply_to(model, wanted)
    assert found.counts == {
        "removed": 1, "added": 1, "changed": 2, "links_removed": 1, "links_added": 1, "links_changed": 0,
    }  # fmt: skip
    assert len(events) == 1
    assert str(first.getName()) == "new name"
    assert float(first.getFeature("POSITION_X")) == 12.0
    assert first.equals(next(spot for spot in model.getSpots().iterable(False) if int(spot.ID()) == 4))
    same(wanted, tracks_of(model))
    assert not apply_to(model, wanted)
    apply_to(model, tracks)
    same(replace(tracks, tag_sets=()), replace(tracks_of(model), tag_sets=()))


def a_spot_changes_its_frame(folder):
    model, tracks = model_of(annotation()), annotation()
    apply_to(model, replace(tracks, t=np.array([0, 1, 2, 3], np.int32)))
    back = tracks_of(model)
    assert sorted(back.t.tolist()) == [0, 1, 2, 3]
    assert back.feature("POSITION_T").values[back.id == 16].tolist() == [7.5]


def tags_keep_their_names_whatever_their_order(folder):
    tracks = annotation().with_tag("Second", Tag("x"), spots=[1, 2])
    model = model_of(tracks)
    turned = replace(tracks, tag_sets=tracks.tag_sets[::-1]).with_tag("Second", Tag("y"), spots=[3])
    apply_to(model, turned)
    back = tracks_of(model)
    assert back.tagged("State", "done").tolist() == [True, False, False, False]
    assert back.tagged("Second", "x").tolist() == [False, True, True, False]
    assert back.tagged("Second", "y").tolist() == [False, False, False, True]


def two_callers_do_not_get_in_each_others_way(folder):
    model, tracks, raised = model_of(annotation()), annotation(), []

    def change(rows):
        try:
            for _ in range(4):
                apply_to(model, tracks.select(rows))
        except Exception as error:  # noqa: BLE001  counted below
            raised.append(error)

    threads = [threading.Thread(target=change, args=(rows,)) for rows in ([0, 1], [1, 2, 3], [0])]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert raised == []
    assert int(model.getSpots().getNSpots(False)) in (1, 2, 3)


def other_units_and_odd_ids_are_refused(folder):
    model, tracks = model_of(annotation()), annotation()
    with pytest.raises(BridgeError, match=re.escape("it is in 'µm', the annotation in 'pixel'")):
        apply_to(model, replace(tracks, space_unit="pixel"))
    with pytest.raises(BridgeError, match="spot ids run from -1 to 16"):
        apply_to(model, replace(tracks, id=np.array([-1, 8, 15, 16])))
    same(tracks, tracks_of(model))


def a_session_is_shown_saved_and_loaded(folder):
    path, tracks = folder / "session.xml", annotation()
    with show(None, tracks, file_of(folder), track_scheme=True) as session:
        assert [str(one.image.getTitle()) for one in open_sessions()] == ["movie.tif"]
        same(tracks, session.tracks())
        assert session.tracks().attributes["image"] == str(file_of(folder))
        session.apply(tracks.select([0, 1, 2]))
        assert session.tracks().n_spots == 3
        session.save(path)
    assert open_sessions() == []
    written = read_trackmate(path)
    assert (written.n_spots, written.interval) == (3, 2.5)
    assert written.attributes["image"] == str(file_of(folder))
    reader = java_class("fiji.plugin.trackmate.io.TmXmlReader")(java_class("java.io.File")(str(path)))
    reader.getModel()
    reader.readSettings(reader.readImage())
    assert str(reader.getErrorMessage()) == ""
    with load(path) as session:
        assert int(session.image.getNFrames()) == 3
        same(written, session.tracks())


def a_session_that_a_person_opened_is_found(folder):
    path = folder / "person.xml"
    with show(None, annotation(), file_of(folder), window=False) as session:
        session.save(path)
    plugin = java_class("fiji.plugin.trackmate.LoadTrackMatePlugIn")()
    on_swing(lambda: plugin.run(str(path)))
    (session,) = open_sessions()
    session.apply(annotation().select([0, 1]))
    assert int(session.model.getSpots().getNSpots(False)) == 2
    session.close()  # leaves a person's windows
    assert len(open_sessions()) == 1
    session.image.changes = False
    session.image.close()
    for window in open_windows():
        window.dispose()
    assert open_sessions() == []


def a_person_corrects_real_outlines(folder):
    """Outlines of a Cell Tracking Challenge truth, one spot taken away and one moved by hand, short tracks left out by Howdah."""
    if not HELA.is_dir():
        return
    frames = np.stack([tifffile.imread(path) for path in sorted((HELA / "01").glob("t*.tif"))])
    tifffile.imwrite(folder / "hela.tif", frames[:, None, None], imagej=True, metadata={"axes": "TZCYX"})
    truth = read_tracks(HELA / "01_GT")
    with show(None, truth, folder / "hela.tif", track_scheme=True) as session:
        before = session.tracks()
        assert len(before.outlines) == len(truth.outlines) == truth.n_spots
        assert not any(difference(truth, before, reach=0.01).counts.values())

        def by_hand():
            spots = {int(spot.ID()): spot for spot in session.model.getSpots().iterable(False)}
            session.model.beginUpdate()
            session.model.removeSpot(spots[int(before.id[5])])
            moved = spots[int(before.id[50])]
            moved.putFeature("POSITION_X", java_class("java.lang.Double")(float(before.centre[50, 2]) + 2.0))
            session.model.updateFeatures(moved)
            session.model.endUpdate()

        on_swing(by_hand)
        corrected = session.tracks()
        seen = Changes.between(before, corrected).counts
        assert (seen["removed"], seen["changed"], seen["added"]) == (1, 1, 0)
        count, track = corrected.tracks()
        kept = corrected.select(np.bincount(track, minlength=count)[track] >= 5)
        session.apply(kept)
        assert not any(session.apply(kept).counts.values())  # twice is once
        session.save(folder / "hela.xml")
    written = read_trackmate(folder / "hela.xml")
    assert (written.n_spots, written.n_links, len(written.outlines)) == (kept.n_spots, kept.n_links, kept.n_spots)


def images_that_do_not_fit_are_refused(folder):
    slices = to_imageplus(np.zeros((1, 1, 3, 40, 50), np.uint8), unit="µm")
    with pytest.raises(BridgeError, match=re.escape("image.setDimensions(1, 1, 3)")):
        show(None, annotation(), slices)
    small = to_imageplus(np.zeros((3, 1, 1, 40, 50), np.uint8), voxel_size=(0.1, 0.01, 0.01), unit="µm")
    with pytest.raises(BridgeError, match="4 of 4 spots would lie far outside of it"):
        show(None, annotation(), small)
    with pytest.raises(MissingDataError, match="there is no such file"):
        load(folder / "no.xml")
    assert open_sessions() == []


def a_file_that_is_no_trackmate_file(folder):
    path = folder / "odd.xml"
    path.write_text("<TrackMate version='8.1.6'><Model></Model></TrackMate>")
    with pytest.raises(BridgeError, match=r"odd\.xml"):
        load(path, windows=False)
    path.write_text("nonsense")
    with pytest.raises(BridgeError, match=r"odd\.xml"):
        load(path, windows=False)


def a_file_without_its_image(folder):
    path = folder / "alone.xml"
    write_trackmate(path, annotation())
    session = load(path, windows=False)
    same(annotation(), session.tracks())
    session.close()


def no_window_is_left(folder):
    until = time.monotonic() + 5
    while (left := [one for one in open_windows() if "TrackMate" in str(one)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left, list(map(str, left))


CHECKS = [
    there_and_back,
    what_java_sees,
    nothing_at_all,
    changes_come_as_one_event,
    a_spot_changes_its_frame,
    tags_keep_their_names_whatever_their_order,
    two_callers_do_not_get_in_each_others_way,
    other_units_and_odd_ids_are_refused,
    a_session_is_shown_saved_and_loaded,
    a_session_that_a_person_opened_is_found,
    a_person_corrects_real_outlines,
    images_that_do_not_fit_are_refused,
    a_file_that_is_no_trackmate_file,
    a_file_without_its_image,
    no_window_is_left,
]


def main(fiji, folder):
    found = {}
    with start(fiji, mode="interactive", memory="1g"):
        for check in CHECKS:
            try:
                check(Path(folder))
                found[check.__name__] = ""
            except Exception:  # noqa: BLE001  the test that asked for this check fails with it
                found[check.__name__] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
