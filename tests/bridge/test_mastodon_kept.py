"""What a project file holds and Mastodon does not know is carried over when the open project is saved: no Java needed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bdv_io.mastodon.container import read_entries
from bdv_io.mastodon.project import tracks_of_entries, write_mastodon
from bdv_io.mastodon.sidecar import SIDECAR
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature
from bdv_io.tracks import Tracks
from howdah.bridge.mastodon_kept import carry_over

SQUARE = np.array([[-1.0, -1.0], [-1.0, 2.0], [2.0, 2.0], [2.0, -1.0]])
STRANGE = "features/Deep lineage.raw"
STREAM = b"\xac\xed\x00\x05\x77\x04abcd"
PATH = Path("a.mastodon")


def four(**more):
    tracks = Tracks.build(
        [0, 1, 2, 2], [[0, 10, 10], [0, 20, 20], [0, 30, 30], [0, 50, 50]], radius=3.0, links=[[0, 1], [1, 2]]
    )
    return replace(tracks, **more)


def rich():
    rings = Outlines.of_polygons([0, 2], [SQUARE + 10, SQUARE + 30], 0.0)
    tracks = four(outlines=rings, interval=2.5, time_unit="s", id=np.array([7, 9, 11, 40]))
    return tracks.with_feature(Feature("Howdah", "score", np.arange(4.0)))


def entries(folder, tracks, **more):
    write_mastodon(folder / "x.mastodon", tracks)
    return {**{name: bytes(data) for name, data in read_entries(folder / "x.mastodon").items()}, **more}


def as_mastodon_writes(folder, tracks):
    """The entries without those that Mastodon does not know."""
    found = entries(folder, tracks)
    return {name: data for name, data in found.items() if name != SIDECAR}


def carried(old, new, *, known=lambda key: False, also=None):
    kept, lost = carry_over(old, new, known=known, also=also, path=PATH)
    return kept, lost, tracks_of_entries({**new, **kept}, PATH)


def test_what_did_not_change_is_all_there(tmp_path):
    _, lost, there = carried(entries(tmp_path, rich()), as_mastodon_writes(tmp_path, rich()))
    assert lost == []
    assert (there.interval, there.time_unit, there.id.tolist()) == (2.5, "s", [7, 9, 11, 40])
    assert there.outlines.spot.tolist() == [0, 2]
    assert there.feature("Howdah", "score") is not None


def test_rows_follow_their_spots(tmp_path):
    now = rich().select([2, 0, 3])
    now = replace(
        now,
        centre=now.centre + np.array([[0, 0.5, 0.0], [0, 0, 0], [0, 0, 0]]),
        covariance=now.covariance * np.array([1, 4, 1])[:, None, None],
    )
    now = now.concatenate(Tracks.build([3], [[0, 90, 90]], radius=3.0))
    _, lost, there = carried(entries(tmp_path, rich()), as_mastodon_writes(tmp_path, now))
    assert there.id.tolist() == [11, 7, 40, 41]
    assert there.outlines.spot.tolist() == [0]  # moved with its spot; the other one has another size now
    np.testing.assert_allclose(there.outlines.ring(0), SQUARE + np.array([30.5, 30.0]))
    assert lost == ["The outlines of 1 spots that have another size or shape now are left out."]


def test_what_was_written_into_the_open_project_counts_more_than_the_file(tmp_path):
    other = replace(rich(), outlines=Outlines.of_polygons([1], [SQUARE + 20], 0.0))
    _, _, there = carried(
        entries(tmp_path, rich()), as_mastodon_writes(tmp_path, four(centre=rich().centre + 0.1)), also=other
    )
    assert there.outlines.spot.tolist() == [1]
    plain = as_mastodon_writes(tmp_path, four())
    kept, _, there = carried(plain, plain, also=rich())
    assert SIDECAR in kept
    assert (there.interval, len(there.outlines)) == (2.5, 2)


@pytest.mark.parametrize("change", [False, True], ids=["same rows", "a spot moved"])
def test_features_of_other_programs_stay_while_their_rows_do(tmp_path, change):
    old = entries(tmp_path, four(), **{STRANGE: STREAM, "plugin.bin": b"more"})
    now = four().concatenate(Tracks.build([3], [[0, 90, 90]], radius=3.0))
    new = as_mastodon_writes(tmp_path, replace(now, centre=now.centre + change))
    kept, lost, _ = carried(old, new)
    assert kept.get(STRANGE) == (None if change else STREAM)
    assert kept["plugin.bin"] == b"more"
    assert bool(lost) == change
    assert all("because spots or links have changed: Deep lineage." in sentence for sentence in lost)


def test_features_that_mastodon_knows_and_no_longer_has_are_said(tmp_path):
    old = entries(tmp_path, four(), **{"features/Spot intensity.raw": STREAM})
    kept, lost, _ = carried(old, as_mastodon_writes(tmp_path, four()), known=lambda key: True)
    assert kept == {}
    assert lost == ["Features that are no longer in Mastodon are left out: Spot intensity."]


def test_a_damaged_entry_of_ours_does_not_keep_a_project_from_being_saved(tmp_path):
    old = entries(tmp_path, rich(), **{SIDECAR: b"nonsense"})
    kept, lost, _ = carried(old, as_mastodon_writes(tmp_path, four()))
    assert SIDECAR not in kept
    assert lost[0].startswith("Howdah's own entry of the file as it was is left out: ")
