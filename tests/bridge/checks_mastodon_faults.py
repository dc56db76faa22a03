"""What may go wrong, and what may not be lost, with projects open in a real Mastodon; `test_mastodon_faults.py` runs this."""

import contextlib
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mastodon_child import apart, by_hand, example, moved, said

from bdv_io.difference import difference
from bdv_io.errors import WriteError
from bdv_io.mastodon import read_mastodon, write_mastodon
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag
from howdah.bridge import mastodon, mastodon_save
from howdah.bridge.mastodon_java import in_windows_thread
from howdah.errors import BridgeError
from howdah.linking import LinkingConfig, link_spots

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "tgmm-3d"
DUMMY = "x=100 y=100 z=30 sx=1 sy=1 sz=1 t=10.dummy"
SQUARE = np.array([[-1.0, -1.0], [-1.0, 2.0], [2.0, 2.0], [2.0, -1.0]])


def project(folder, name, tracks=None):
    path = folder / f"{name}.mastodon"
    write_mastodon(path, example() if tracks is None else tracks, image=folder / DUMMY)
    return path


def add_entry(path, name, content):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, content)


def entry(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(name) if name in archive.namelist() else None


def check_linking_of_a_real_movie_goes_into_the_open_project_and_back(fiji, folder):
    if not REAL.is_dir():
        return
    for file in ("datasethdf5.h5", "datasethdf5.xml", "tgmm-mini.mastodon"):
        shutil.copyfile(REAL / file, folder / file)
    path = folder / "tgmm-mini.mastodon"
    with mastodon.open_project(fiji, path) as live:
        assert live.image == folder / "datasethdf5.xml"
        live.show()
        first = live.read()
        cut = first.select_links(np.flatnonzero(first.t[first.links[:, 1]] > 10))  # frames 0 to 10 lose their links
        live.apply(cut)
        bare = live.read()
        linked = link_spots(bare, LinkingConfig()).with_tag("Howdah", Tag("linked", 0xFF00FF00), spots=bare.t <= 10)
        counts = live.apply(linked)
        assert counts["links_added"] == linked.n_links - cut.n_links > 800
        assert counts["spots_removed"] == counts["spots_moved"] == 0
        assert sum(live.apply(linked).values()) == 0  # twice is once
        live.undo()
        assert (d := apart(bare, live.read())) == {}, d
        live.redo()
        assert (d := apart(linked, live.read())) == {}, d
        live.save()
        assert (d := apart(linked, read_mastodon(path))) == {}, d
        assert read_mastodon(folder / "tgmm-mini.mastodon~1~").n_links == first.n_links
        assert (folder / "datasethdf5.settings.xml").read_text().startswith("<?xml")  # brightness
        assert b"MamutViewBdv" in entry(path, "gui.xml")


def check_a_person_edits_while_results_are_written(fiji, folder):
    live = mastodon.open_project(fiji, project(folder, "busy"))
    live.show()
    tracks, stop, edits = live.read(), threading.Event(), []

    def person():
        while not stop.is_set():
            in_windows_thread(lambda: by_hand(live, tracks, 150))
            edits.append(1)
            time.sleep(0.01)

    working = threading.Thread(target=person)
    working.start()
    try:
        while not edits:
            time.sleep(0.01)
        for row in range(25):
            live.apply(moved(live.read(), row, by=0.5))
    finally:
        stop.set()
        working.join()
    now = live.read()
    where = {number: row for row, number in enumerate(now.id.tolist())}
    rows = np.array([where[number] for number in tracks.id.tolist()])
    np.testing.assert_allclose(now.centre[rows[:25]], tracks.centre[:25] + 0.5)
    assert abs(now.centre[rows[150], 2] - tracks.centre[150, 2] - 1.0) < 1e-5  # by_hand sets the place
    assert len(edits) > 2
    live.close(discard=True)


def check_what_fails_does_not_take_back_what_the_person_did_before(fiji, folder):
    live = mastodon.open_project(fiji, project(folder, "failing"))
    first = live.read()
    by_hand(live, first, 3)
    theirs, loops = live.read(), live._by
    fail = fiji.jimport("java.lang.IllegalStateException")

    class Failing:
        def __init__(self, name):
            self.name = name

        def __getattr__(self, name):
            if name == self.name:
                raise fail("no more")
            return getattr(loops, name)

    for name in ("move_spots", "add_links"):  # nothing was done yet; something was
        live._by = Failing(name)
        wanted = moved(live.read(), 7).select_links(np.arange(5, 180)).with_links([[0, 199]])
        assert "no more" in said(lambda wanted=wanted: live.apply(wanted))
        live._by = loops
        assert (d := apart(theirs, live.read())) == {}, d
    live.undo()
    left = {
        name for name in apart(first, live.read()) if "feature" not in name and name != "quality"
    }  # Mastodon forgets those
    assert left == set()
    live.close(discard=True)


def check_features_alone_count_as_a_change_and_their_undo_is_theirs(fiji, folder):
    live = mastodon.open_project(fiji, project(folder, "features"))
    by_hand(live, live.read(), 3)
    live.save()
    assert live.saved
    before = live.read()
    live.apply(before.with_feature(Feature("Howdah", "new", np.arange(200.0))))
    assert not live.saved
    assert "changes are not saved" in said(live.close)
    live.undo()
    now = live.read()
    assert not apart(before, now)  # the person's step before is still there
    assert len(now.features) == len(before.features)
    live.redo()
    assert live.read().feature("TrackMate Spot features", "Howdah new") is not None
    live.save()
    assert live.saved
    live.close()


def check_what_a_person_changes_while_the_file_is_written_is_not_saved(fiji, folder):
    path = project(folder, "late")
    live = mastodon.open_project(fiji, path)
    tracks = live.read()
    put = mastodon_save._put_in_place

    def late(*given):
        by_hand(live, tracks, 3)
        put(*given)

    def broken(*given):
        raise WriteError("Writing late.mastodon failed: no space left.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mastodon_save, "_put_in_place", late)
        live.save()
        assert not live.saved
        assert (d := apart(tracks, read_mastodon(path))) == {}, d
        patch.undo()
        live.save()
        assert live.saved
        by_hand(live, tracks, 4)
        patch.setattr(mastodon_save, "_put_in_place", broken)
        with pytest.raises(WriteError, match="no space left"):
            live.save()
        assert not live.saved
    live.undo()
    live.close(discard=True)


def check_nothing_that_the_file_holds_is_lost(fiji, folder):
    tracks = example()
    rings = Outlines.of_polygons(
        [3, 5, 8], [SQUARE + tracks.centre[row, 1:] for row in (3, 5, 8)], tracks.centre[[3, 5, 8], 0]
    )
    tracks = replace(tracks, outlines=rings, interval=2.5, time_unit="s", id=np.arange(200) * 2 + 7)
    path = project(folder, "rich", tracks)
    add_entry(path, "features/Deep lineage.raw", b"\xac\xed\x00\x05\x77\x04abcd")
    add_entry(path, "plugin.bin", b"of somebody else")
    live = mastodon.open_project(fiji, path)
    now = live.read()
    shift = np.array([0.0, 0.5, 0.5]) * (np.arange(200) == 5)[:, None]
    live.apply(
        replace(
            now,
            centre=now.centre + shift,
            covariance=now.covariance * np.where(np.arange(200) == 8, 2, 1)[:, None, None],
        )
    )
    live.save()
    there = read_mastodon(path)
    assert (there.interval, there.time_unit) == (2.5, "s")
    assert there.id.tolist() == tracks.id.tolist()
    assert there.outlines.spot.tolist() == [3, 5]  # the one of the spot that was reshaped no longer fits
    np.testing.assert_allclose(there.outlines.ring(1), SQUARE + tracks.centre[5, 1:] + 0.5, atol=1e-5)
    assert there.feature("Howdah", "score") is not None
    assert entry(path, "plugin.bin") == b"of somebody else"
    assert entry(path, "features/Deep lineage.raw") is None  # a spot was moved
    live.close()


def check_unknown_features_stay_while_their_rows_do(fiji, folder):
    path = project(folder, "unknown")
    add_entry(path, "features/Deep lineage.raw", b"\xac\xed\x00\x05\x77\x04abcd")
    live = mastodon.open_project(fiji, path)
    live.tag("State", "check", spots=live.read().id[:3])
    live.save()
    assert entry(path, "features/Deep lineage.raw") == b"\xac\xed\x00\x05\x77\x04abcd"
    rings = Outlines.of_polygons([3], [SQUARE + example().centre[3, 1:]], [0.0])
    live.apply(replace(read_mastodon(path), outlines=rings, interval=4.0, time_unit="min"))
    live.save(folder / "elsewhere.mastodon")
    there = read_mastodon(folder / "elsewhere.mastodon")
    assert (len(there.outlines), there.interval, there.time_unit) == (1, 4.0, "min")
    assert live.path == folder / "elsewhere.mastodon"
    live.close()


def check_two_projects_are_open(fiji, folder):
    one, two = (mastodon.open_project(fiji, project(folder, name)) for name in ("one", "two"))
    mine, theirs = one.read(), two.read()
    one.apply(moved(mine, 7))
    two.apply(moved(theirs, 8))
    assert (d := apart(moved(mine, 7), one.read())) == {}, d
    assert (d := apart(moved(theirs, 8), two.read())) == {}, d
    assert sorted(p.path.stem for p in mastodon.opened_projects()) == ["one", "two"]
    assert "not made of one of the last" in said(lambda: one.apply(mine, before=theirs))
    one.close(discard=True)
    two.apply(moved(two.read(), 9))
    two.close(discard=True)
    assert mastodon.opened_projects() == []


def check_a_project_without_its_movie(fiji, folder):
    path = folder / "lonely.mastodon"
    write_mastodon(path, example(), image=folder / "gone.xml")
    sentence = said(lambda: mastodon.open_project(fiji, path))
    assert "gone.xml" in sentence
    assert "without_image=True" in sentence
    live = mastodon.open_project(fiji, path, without_image=True)
    live.apply(moved(live.read(), 1))
    live.save()
    assert read_mastodon(path).attributes["image"].endswith("gone.xml")
    live.close()


def check_places_that_cannot_be_written(fiji, folder):
    live = mastodon.open_project(fiji, project(folder, "nowhere"))
    live.apply(moved(live.read(), 1))
    with pytest.raises(WriteError, match="its folder does not exist"):
        live.save(folder / "no" / "such.mastodon")
    other = folder / "other.mastodon"
    other.mkdir()
    (other / "a.txt").write_text("mine")
    with pytest.raises(WriteError, match="holds other things"):
        live.save(other)
    assert not live.saved
    assert live.path == folder / "nowhere.mastodon"
    with contextlib.suppress(BridgeError):
        live.close()
    live.save()
    live.close()
    live.close()


def check_links_differ_only_where_they_were_changed(fiji, folder):
    live = mastodon.open_project(fiji, project(folder, "difference"))
    before = live.read()
    after = moved(before, 7)
    live.apply(after, before=before, found=difference(before, after))
    assert (d := apart(after, live.read())) == {}, d
    live.close(discard=True)
