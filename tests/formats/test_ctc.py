"""Cell Tracking Challenge folders: real ones come back pixel by pixel, and what cannot be said is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.ctc import is_ctc, lost_in_ctc, read_ctc, write_ctc
from bdv_io.ctc.read import GOLD
from bdv_io.ctc.table import TRACK
from bdv_io.errors import FormatError, MissingDataError, ValidationError
from bdv_io.formats import identify, read_tracks, write_tracks
from bdv_io.image import ArrayImage, Hints
from bdv_io.outlines import Outlines
from bdv_io.safe_write import previous_version
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Tracks

REAL = (
    "hela-h2b-2d/01_GT/TRA",
    "c2c12-phase-2d/01_GT/TRA",
    "t98g-phase-2d/01_GT/TRA",
    "tgmm-3d/01_GT/TRA",
    "tgmm-crop-3d/01_GT/TRA",
    "written-by-java/export/ctc",
)


def save(folder, masks, table="", *, mask="mask", name="res_track.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    for t, labels in enumerate(masks):
        labels = np.asarray(labels, dtype=np.uint16)
        tifffile.imwrite(folder / f"{mask}{t:03d}.tif", labels, photometric="minisblack", metadata=None)
    if name:
        (folder / name).write_text(table)
    return folder


def row_of(*cells, height=3):
    return np.tile(np.array(cells), (height, 1))


def table_of(path):
    return np.loadtxt(path, dtype=int, ndmin=2).tolist()


def masks_of(folder):
    return [tifffile.imread(file) for file in sorted(folder.glob("*.tif"))]


def discs(t, y, links=(), **columns):
    centre = np.stack([np.zeros(len(t)), np.asarray(y, float), np.full(len(t), 5.0)], axis=1)
    return Tracks.build(t, centre, radius=1.5, links=np.reshape(links, (-1, 2)), **columns)


def movie(n_frames, shape=(1, 20, 11)):
    return ArrayImage(np.zeros((n_frames, *shape), dtype=np.uint8))


@pytest.mark.real
class TestRealFolders:
    @pytest.mark.parametrize("name", REAL)
    def test_read_and_written_back_is_the_same(self, real_data, tmp_path, name):
        tracks = read_ctc(real_data / name).validate()
        (tmp_path / "01_GT").mkdir()
        write_ctc(tmp_path / "01_GT" / "TRA", tracks)
        for file in (real_data / name).glob("*.tif"):
            assert (tifffile.imread(tmp_path / "01_GT" / "TRA" / file.name) == tifffile.imread(file)).all()
        assert sorted(table_of(real_data / name / "man_track.txt")) == table_of(tmp_path / "01_GT/TRA/man_track.txt")

    @pytest.mark.parametrize("name", REAL)
    def test_official_rules_hold(self, real_data, tmp_path, name):
        validate = pytest.importorskip("ctc_metrics.scripts.validate")
        tracks = read_ctc(real_data / name)
        # By ellipsoids and numbered anew, as from any other source.
        write_ctc(tmp_path / "01_RES", replace(tracks, outlines=Outlines.empty(), features=()))
        assert validate.validate_sequence(str(tmp_path / "01_RES"), threads=1)["Valid"] == 1

    def test_lineage(self, real_data):
        tracks = read_ctc(real_data / "hela-h2b-2d/01_GT")
        assert (tracks.n_spots, tracks.n_links, tracks.n_frames) == (615, 593, 30)
        number = tracks.feature(TRACK).values
        births = [(number[a], number[b], tracks.t[b]) for a, b in tracks.links.tolist() if number[a] != number[b]]
        assert births == [(4, 19, 4), (4, 20, 4), (2, 22, 8), (9, 23, 8), (9, 24, 8), (2, 25, 8)]
        assert tracks.attributes["image"].endswith("hela-h2b-2d/01")

    def test_gold_masks_are_sparse(self, real_data, caplog):
        tracks = read_ctc(real_data / "t98g-phase-2d/01_GT")
        gold = tracks.feature(GOLD).values
        assert set(tracks.t[gold == 1]) == {0}
        assert (gold == 1).sum() == 23
        assert "has 1 masks without a marker of their own in TRA" in caplog.text
        markers = read_ctc(real_data / "t98g-phase-2d/01_GT/TRA")
        first = int(np.flatnonzero(gold)[0])
        row = int(
            np.flatnonzero((markers.t == 0) & (markers.feature(TRACK).values == tracks.feature(TRACK).values[first]))[0]
        )
        assert markers.covariance[row, 1, 1] != tracks.covariance[first, 1, 1]

    def test_silver_masks_have_no_links(self, real_data):
        tracks = read_tracks(real_data / "t98g-phase-2d/01_ST")
        assert tracks.n_spots > 400
        assert tracks.n_links == 0
        assert tracks.feature("LABEL") is not None


class TestReading:
    def test_what_is_recognised(self, tmp_path):
        result = save(tmp_path / "01_RES", [row_of(0, 1, 0)], "1 0 0 0\n")
        truth = save(tmp_path / "01_GT/TRA", [row_of(0, 1, 0)], "1 0 0 0\n", mask="man_track", name="man_track.txt")
        silver = save(tmp_path / "01_ST/SEG", [row_of(0, 1, 0)], mask="man_seg", name="")
        for path in (result, result / "res_track.txt", truth, truth.parent, silver, silver.parent):
            assert identify(path).key == "ctc"
            assert read_tracks(path).n_spots == 1
        plain = save(tmp_path / "01", [row_of(0, 1, 0)], mask="t", name="")
        assert not is_ctc(plain)
        assert not is_ctc(plain / "t000.tif")
        assert not is_ctc(tmp_path / "nowhere")

    def test_spots_links_and_calibration(self, tmp_path):
        masks = [row_of(1, 1, 0, 0, 0), row_of(0, 1, 1, 0, 0), row_of(2, 2, 0, 3, 3)]
        folder = save(tmp_path / "01_RES", masks, "1 0 1 0\n2 2 2 1\n3 2 2 1\n")
        tracks = read_ctc(folder, hints=Hints(voxel_size=(1, 0.5, 0.5), unit="µm", interval=(3.0, "min"))).validate()
        assert tracks.centre.tolist() == [[0, 0.5, 0.25], [0, 0.5, 0.75], [0, 0.5, 0.25], [0, 0.5, 1.75]]
        assert tracks.links.tolist() == [[0, 1], [1, 2], [1, 3]]
        assert (tracks.space_unit, tracks.interval, tracks.time_unit) == ("µm", 3.0, "min")
        assert tracks.outlines.ring(1).tolist() == [[-0.25, 0.25], [1.25, 0.25], [1.25, 1.25], [-0.25, 1.25]]
        assert len(read_ctc(folder, outlines=False).outlines) == 0

    def test_parent_over_a_gap(self, tmp_path):
        folder = save(
            tmp_path / "01_RES", [row_of(5, 0), row_of(0, 0), row_of(0, 0), row_of(0, 7)], "5 0 0 0\n7 3 3 5\n"
        )
        tracks = read_ctc(folder)
        assert tracks.t[tracks.links].tolist() == [[0, 3]]
        write_ctc(tmp_path / "02_RES", tracks)
        assert table_of(tmp_path / "02_RES/res_track.txt") == [[5, 0, 0, 0], [7, 3, 3, 5]]

    def test_gold_masks_replace_the_markers_they_cover(self, tmp_path, caplog):
        markers = [row_of(1, 0, 0, 2, 0, 0, 3, 0)] * 2
        save(tmp_path / "01_GT/TRA", markers, "1 0 1 0\n2 0 1 0\n3 0 1 0\n", mask="man_track", name="man_track.txt")
        gold = row_of(7, 7, 0, 9, 9, 0, 0, 4)
        save(tmp_path / "01_GT/SEG", [gold], mask="man_seg", name="")
        tracks = read_ctc(tmp_path / "01_GT")
        assert tracks.feature(GOLD).values.tolist() == [1, 1, 0, 0, 0, 0]
        assert tracks.centre[:3, 2].tolist() == [0.5, 3.5, 6]
        assert "1 masks without a marker of their own in TRA, the first with label 4" in caplog.text
        write_ctc(tmp_path / "02_GT", tracks)
        assert masks_of(tmp_path / "02_GT/SEG")[0].tolist() == row_of(1, 1, 0, 2, 2, 0, 0, 0).tolist()
        again = read_ctc(tmp_path / "02_GT")
        assert (again.centre == tracks.centre).all()
        assert again.feature(GOLD).values.tolist() == [1, 1, 0, 0, 0, 0]

    def test_gold_mask_of_one_plane(self, tmp_path):
        volume = np.zeros((3, 4, 4))
        volume[:, 1, 1] = 6
        save(tmp_path / "01_GT/TRA", [volume], "6 0 0 0\n", mask="man_track", name="man_track.txt")
        (tmp_path / "01_GT/SEG").mkdir()
        plane = np.zeros((4, 4), dtype=np.uint16)
        plane[1:3, 1:3] = 2
        tifffile.imwrite(tmp_path / "01_GT/SEG/man_seg_000_001.tif", plane)
        tracks = read_ctc(tmp_path / "01_GT")
        assert tracks.feature(GOLD).values.tolist() == [2]
        assert tracks.outlines.z.tolist() == [0, 1, 2]
        assert tracks.outlines.areas().tolist() == [1, 4, 1]
        assert "Which planes of a spot have a gold mask." in lost_in_ctc(tracks)
        with pytest.raises(FormatError, match="masks of single planes"):
            read_ctc(tmp_path / "01_GT/SEG")

    def test_masks_and_table_that_disagree(self, tmp_path, caplog):
        masks = [row_of(1, 2), row_of(0, 2), row_of(1, 0)]
        tracks = read_ctc(save(tmp_path / "01_RES", masks, "1 0 2 0\n4 0 1 0\n"))
        assert tracks.t[tracks.links].tolist() == [[0, 2], [0, 1]]
        for part in (
            "names 1 tracks that no mask has, the first 4",
            "1 labels that it does not name, the first 2",
            "gap",
        ):
            assert part in caplog.text

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("1 0 0\n", "line 1 is '1 0 0'; expected four whole numbers"),
            ("1 0 0 0\n\n2 0 x 0\n", "line 3 is '2 0 x 0'"),
            ("1 0 -1 0\n", "expected four whole numbers"),
            ("1 0 0 0\n1 0 0 0\n", "has a label that an earlier row has too"),
            ("1 1 0 0\n", "ends before it begins"),
            ("1 0 0 9\n", "a parent that the table does not have"),
            ("1 0 0 2\n2 0 0 0\n", "begins before its parent"),
            ("0 0 0 0\n", "the label 0"),
        ],
    )
    def test_damaged_tables(self, tmp_path, table, message):
        with pytest.raises(FormatError, match=message):
            read_ctc(save(tmp_path / "01_RES", [row_of(1, 2)], table))

    def test_table_that_is_no_text(self, tmp_path):
        folder = save(tmp_path / "01_RES", [row_of(1, 2)])
        (folder / "res_track.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(FormatError, match=r"Reading the table of tracks .*res_track\.txt failed"):
            read_ctc(folder)

    def test_missing_and_damaged_masks(self, tmp_path):
        with pytest.raises(MissingDataError, match="no annotation of the Cell Tracking Challenge"):
            read_ctc(tmp_path)
        folder = save(tmp_path / "01_RES", [], "1 0 0 0\n")
        with pytest.raises(MissingDataError, match="a table of tracks, but no masks"):
            read_ctc(folder)
        save(folder, [row_of(1, 2), row_of(1, 2, 0)], "1 0 0 0\n")
        with pytest.raises(
            FormatError, match=r"mask001\.tif failed: it has .* = .1, 3, 3. voxels, the first one .1, 3, 2."
        ):
            read_ctc(folder)
        (folder / "mask001.tif").write_bytes((folder / "mask000.tif").read_bytes()[:40])
        with pytest.raises(FormatError, match=r"mask001\.tif failed: the file is damaged"):
            read_ctc(folder)
        tifffile.imwrite(folder / "mask001.tif", np.full((3, 2), 0.5, np.float32))
        with pytest.raises(FormatError, match="no whole numbers, so it is no label image"):
            read_ctc(folder)
        tifffile.imwrite(folder / "mask001.tif", np.full((3, 2), -1, np.int16))
        with pytest.raises(FormatError, match="found the label -1"):
            read_ctc(folder)
        save(folder, [row_of(1, 2)], mask="MASK_")
        with pytest.raises(FormatError, match="are masks of frame 0"):
            read_ctc(folder)

    def test_absurd_size_is_refused_before_allocating(self, tmp_path):
        folder = save(tmp_path / "01_RES", [np.ones((4, 4))], "1 0 0 0\n")
        data = bytearray((folder / "mask000.tif").read_bytes())
        with tifffile.TiffFile(folder / "mask000.tif") as file:
            for tag in ("ImageWidth", "ImageLength"):
                at = file.pages[0].tags[tag].valueoffset
                data[at : at + 2] = (60000).to_bytes(2, "little")
        (folder / "mask000.tif").write_bytes(data)
        with pytest.raises(FormatError, match="was refused: it claims to have 3600000000 voxels"):
            read_ctc(folder)


class TestWriting:
    def test_divisions_and_gaps_cut_tracks(self, tmp_path):
        tracks = discs(
            [0, 1, 2, 2, 3, 5], [9, 9, 6, 12, 6, 6], [(0, 1), (1, 2), (1, 3), (2, 4), (4, 5)], label=[None] * 5 + ["a"]
        )
        write_tracks(tmp_path / "01_RES", tracks, image=movie(7))
        assert table_of(tmp_path / "01_RES/res_track.txt") == [[1, 0, 1, 0], [2, 2, 3, 1], [3, 2, 2, 1], [4, 5, 5, 2]]
        masks = masks_of(tmp_path / "01_RES")
        assert [sorted(set(mask.ravel().tolist()) - {0}) for mask in masks] == [[1], [1], [2, 3], [2], [], [4], []]
        assert lost_in_ctc(tracks) == [
            "1 links skip frames: the cell becomes a new track there, whose parent is the old one.",
            "6 spots have no outline: their ellipsoids become voxels.",
            "Labels of 1 spots: masks have numbers only.",
        ]

    def test_of_two_parents_the_first_stays(self, tmp_path):
        tracks = discs([0, 0, 1], [5, 15, 10], [(0, 2), (1, 2)])
        assert lost_in_ctc(tracks)[0].startswith("1 links to a spot that has a parent already")
        write_ctc(tmp_path / "01_RES", tracks, image=movie(2))
        assert table_of(tmp_path / "01_RES/res_track.txt") == [[1, 0, 1, 0], [2, 0, 0, 0]]

    def test_numbers_stay_where_they_can(self, tmp_path):
        tracks = discs([0, 1, 0, 1, 2], [5, 5, 15, 15, 15], [(0, 1), (2, 3), (3, 4)])
        had = Feature(TRACK, "", np.array([9, 9, 9, 9, 4]))
        write_ctc(tmp_path / "01_RES", tracks.with_feature(had), image=movie(3))
        assert table_of(tmp_path / "01_RES/res_track.txt") == [[1, 0, 2, 0], [9, 0, 1, 0]]

    def test_parent_with_one_child_stays_until_its_link_is_made_anew(self, tmp_path):
        folder = save(tmp_path / "01_RES", [row_of(3, 0), row_of(8, 0)], "3 0 0 0\n8 1 1 3\n")
        tracks = read_ctc(folder)
        write_ctc(tmp_path / "02_RES", tracks)
        assert table_of(tmp_path / "02_RES/res_track.txt") == [[3, 0, 0, 0], [8, 1, 1, 3]]
        write_ctc(tmp_path / "02_RES", tracks.select_links([]).with_links([[0, 1]]))
        assert table_of(tmp_path / "02_RES/res_track.txt") == [[1, 0, 1, 0]]

    def test_more_tracks_than_16_bits(self, tmp_path, caplog):
        n = 65_600
        y, x = np.divmod(np.arange(n), 300)
        tracks = Tracks.build(np.zeros(n), np.stack([np.zeros(n), y, x], axis=1), radius=0.4)
        write_ctc(tmp_path / "01_RES", tracks, image=movie(1, (1, 220, 300)))
        mask = masks_of(tmp_path / "01_RES")[0]
        assert mask.dtype == np.uint32
        assert (mask.ravel()[:n] == np.arange(1, n + 1)).all()
        assert "the masks have 32 bits" in caplog.text

    def test_numbers_beyond_16_bits_are_not_kept_for_few_tracks(self, tmp_path):
        tracks = discs([0, 0], [5, 15]).with_feature(Feature(TRACK, "", np.array([70_000, 3])))
        write_ctc(tmp_path / "01_RES", tracks, image=movie(1))
        assert table_of(tmp_path / "01_RES/res_track.txt") == [[1, 0, 0, 0], [2, 0, 0, 0]]

    def test_covered_spots_keep_a_voxel_and_overlap_is_said(self, tmp_path, caplog):
        small, big = [0, 9, 5], [0, 9.2, 5]
        tracks = Tracks.build([0, 0], [small, big], radius=[1.2, 4])
        write_ctc(tmp_path / "01_RES", tracks, image=movie(1))
        mask = masks_of(tmp_path / "01_RES")[0]
        assert (mask == 1).sum() == 1
        assert mask[9, 5] == 1
        assert "voxels lie in several spots" in caplog.text

    def test_spot_outside_is_named(self, tmp_path):
        tracks = discs([0, 0], [5, 500], id=[3, 17], label=[None, "lost"])
        with pytest.raises(
            ValidationError, match=r"spot 17 \('lost'\) in frame 0 at z, y, x = 0, 500, 5 failed: it lies outs"
        ):
            write_ctc(tmp_path / "01_RES", tracks, image=movie(1))
        assert not (tmp_path / "01_RES").exists()
        twins = Tracks.build([0, 0], [[0, 1, 1], [0, 1, 1]], radius=0.1)
        with pytest.raises(ValidationError, match="other spots with a single voxel cover it wholly"):
            write_ctc(tmp_path / "01_RES", twins, image=movie(1))

    def test_no_image_no_masks(self, tmp_path):
        with pytest.raises(MissingDataError, match="Name the image with --image"):
            write_ctc(tmp_path / "01_RES", discs([0], [5]))
        with pytest.raises(ValidationError, match=r"a spot is in frame 5, but the image has 2 frames"):
            write_ctc(tmp_path / "01_RES", discs([5], [5]), image=movie(2))

    def test_nothing_in_it(self, tmp_path):
        write_ctc(tmp_path / "01_RES", Tracks.empty(), image=movie(2))
        assert (tmp_path / "01_RES/res_track.txt").read_text() == ""
        tracks = read_ctc(tmp_path / "01_RES")
        assert (tracks.n_spots, tracks.n_links) == (0, 0)

    def test_the_version_before_is_kept(self, tmp_path):
        write_ctc(tmp_path / "01_RES", discs([0], [5]), image=movie(1))
        write_ctc(tmp_path / "01_RES", Tracks.empty(), image=movie(1))
        assert table_of(previous_version(tmp_path / "01_RES") / "res_track.txt") == [[1, 0, 0, 0]]

    def test_what_else_is_lost(self):
        tracks = discs([0], [5], quality=[1.0], space_unit="µm").with_feature(Feature("Size", "", np.ones(1)))
        lost = lost_in_ctc(tracks.with_tag("Fate", Tag("dies"), spots=[0]))
        assert lost[1:] == [
            "The quality of spots.",
            "Tags: Fate.",
            "Features: Size.",
            "Voxel size, unit and frame interval: masks are plain TIFFs.",
        ]

    def test_spots_between_the_planes_are_not_lost(self, tmp_path):
        image = ArrayImage(np.zeros((1, 4, 60, 60), np.uint8), voxel_size=(5, 1, 1))
        y, x = np.divmod(np.arange(900), 30)
        tracks = Tracks.build(np.zeros(900), np.stack([np.full(900, 7.4), y * 2, x * 2], axis=1), radius=2)
        write_ctc(tmp_path / "01_RES", tracks, image=image)
        assert (np.unique(masks_of(tmp_path / "01_RES")[0]) == np.arange(901)).all()


@st.composite
def lineages(draw):
    """Spots on separate rows, each linked back to at most one earlier spot."""
    n = draw(st.integers(0, 12))
    t = [draw(st.integers(0, 4)) for _ in range(n)]
    links = []
    for row in range(n):
        earlier = [other for other in range(n) if t[other] < t[row]]
        if earlier and draw(st.booleans()):
            links.append((draw(st.sampled_from(earlier)), row))
    return discs(t, [6 * row + 2 for row in range(n)], links)


@settings(deadline=None, max_examples=60)
@given(lineages())
def test_any_lineage_comes_back(tmp_path_factory, tracks):
    folder = tmp_path_factory.getbasetemp()
    write_ctc(folder / "01_RES", tracks, image=movie(5, (1, 80, 11)))
    found = read_ctc(folder / "01_RES").validate()
    y = found.centre[:, 1].round().astype(int)
    row = (y - 2) // 6
    assert sorted(row.tolist()) == list(range(tracks.n_spots))
    assert sorted(map(tuple, row[found.links].tolist())) == sorted(map(tuple, tracks.links.tolist()))
    table = table_of(folder / "01_RES/res_track.txt") if tracks.n_spots else []
    present = {(label, t) for t, mask in enumerate(masks_of(folder / "01_RES")) for label in set(mask.ravel().tolist())}
    assert all((label, t) in present for label, begin, end, _ in table for t in range(begin, end + 1))
    write_ctc(folder / "02_RES", found)
    assert (folder / "02_RES/res_track.txt").read_text() == (folder / "01_RES/res_track.txt").read_text()
