"""Every annotation format under the same contract, on made content and on the samples of the real programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from formats.contract import ANNOTATION_ASPECTS, AnnotationContract, assert_same, plain

from bdv_io.formats import format_named, identify, open_image, read_tracks, write_tracks
from bdv_io.image import ArrayImage, ImageSeries
from bdv_io.tracks import Tracks

ALL = frozenset(ANNOTATION_ASPECTS)
RINGS = "holes, parts and slices of outlines"


class TestMastodon(AnnotationContract):
    key, name = "mastodon", "a.mastodon"
    keeps = ALL
    until_saved = frozenset({"outlines", RINGS, "ids", "frame interval"})
    golden = (
        "tgmm-3d/tgmm-mini.mastodon",
        "tgmm-crop-3d/tgmm-mini_27_31.mastodon",
        "parhyale-3d/sample.mastodon",
        "mastodon-projects/astec/Pm07.mastodon",
        "mastodon-projects/features/mamutproject.mastodon",
        "mastodon-projects/lineages/lineage_clustering.mastodon",
        "mastodon-projects/lineagetree/test.mastodon",
        "mastodon-projects/tags/project6.mastodon",
        "mastodon-projects/tiny/tiny-project.mastodon",
        "mastodon-projects/tiny-missing-hdf5/tiny-project.mastodon",
        "mastodon-projects/tiny-no-image/tiny-project-backup-dataset-xml.mastodon",
        "mastodon-projects/tiny-os/tiny-project-linux.mastodon",
        "mastodon-projects/tiny-os/tiny-project-windows.mastodon",
        "faketracks/mamutproject",
        "written-by-java/synth.mastodon",
    )


class TestMastodonFolder(TestMastodon):
    golden = ()

    def write(self, path: Path, tracks: Tracks, n_frames: int = 3) -> None:
        path.mkdir(exist_ok=True)
        super().write(path, tracks, n_frames)
        assert path.is_dir()


class TestTrackMate(AnnotationContract):
    key, name = "trackmate", "a.xml"
    keeps = ALL - {RINGS, "units and kinds of features", "exact names of features"}
    golden = (
        "faketracks/trackmate-6.0.3/trackmate_tracks_with_gap_closing.xml",
        "faketracks/trackmate-6.0.3/trackmate_tracks_with_merging.xml",
        "faketracks/trackmate-6.0.3/trackmate_tracks_with_splitting.xml",
        "faketracks/trackmate-7.0.5/FakeTracks.xml",
        "faketracks/trackmate-8.0.0-roi/FakeTracks.xml",
        "faketracks/mamutproject/FakeTracks.xml",
        "mamut-xml/test-mamut.xml",
        "written-by-java/synth_mamut.xml",
        "written-by-java/trackmate/labels.xml",
        "written-by-java/trackmate/raw_log.xml",
        "written-by-java/trackmate/synth_3d_log.xml",
    )


class TestMamut(AnnotationContract):
    key, name = "mamut", "a-mamut.xml"
    keeps = TestTrackMate.keeps - {"outlines"}
    golden = (
        "faketracks/mamutproject/FakeTracks.xml",
        "mamut-xml/test-mamut.xml",
        "written-by-java/synth_mamut.xml",
    )

    def test_the_format_is_found_by_the_content(self, tmp_path: Path) -> None:
        self.write(self.written(tmp_path), plain())
        assert identify(self.written(tmp_path)).key == "trackmate"  # one family, one reader


class TestCsv(AnnotationContract):
    key, name = "csv", "a-spots.csv"
    keeps = ALL - {"colours of tags", "units and kinds of features", "whole-number features"}
    golden = ("tgmm-3d/tgmm-mini.mastodon", "faketracks/trackmate-8.0.0-roi/FakeTracks.xml")


class TestParquet(AnnotationContract):
    key, name = "parquet", "a-spots.parquet"
    keeps = ALL
    golden = (*TestMastodon.golden[:4], *TestTrackMate.golden[:5])


class TestGeff(AnnotationContract):
    key, name = "geff", "a.geff"
    keeps = ALL
    golden = ("tgmm-3d/tgmm-mini.geff", *TestMastodon.golden[:4], *TestTrackMate.golden[:5])


class Masks(AnnotationContract):
    """Formats whose spots are areas of pixels."""

    needs_image = True
    keeps = frozenset({"outlines"})

    def many(self, n: int = 3_000) -> Tracks:
        t = np.repeat(np.arange(3, dtype=np.int32), n // 3)
        grid = np.stack(np.meshgrid(np.arange(25), np.arange(40), indexing="ij"), -1).reshape(-1, 2) * 12.0 + 6
        centre = np.concatenate([np.full((n // 3, 1), 5.0), grid], axis=1)
        links = np.stack([np.arange(n - n // 3), np.arange(n // 3, n)], axis=1)
        return Tracks.build(t, np.tile(centre, (3, 1)), radius=3.0, links=links)

    def movie(self, n_frames: int = 3) -> ImageSeries:
        return ArrayImage([np.zeros((12, 320, 500), np.uint8)] * max(n_frames, 1))

    def read(self, path: Path) -> Tracks:
        return read_tracks(path, key=self.key)

    def test_nothing_is_called_lost_that_is_not_there(self, tmp_path: Path) -> None:
        self.write(self.written(tmp_path), plain())
        once = self.read(self.written(tmp_path))
        assert self.format.losses(once if "links" in self.keeps else once.select_links([])) == ()


class TestCtc(Masks):
    key, name = "ctc", "01_RES"
    keeps = frozenset({"links", "outlines", RINGS})


class TestLabels(Masks):
    key, name = "labels", "a.tif"
    keeps = frozenset({"outlines", RINGS})

    def test_the_format_is_found_by_the_content(self, tmp_path: Path) -> None:
        pytest.skip("a label image looks like any image; the user says that it is one")


class TestRois(Masks):
    key, name = "rois", "a.zip"
    keeps = frozenset({"outlines", RINGS, "labels"})

    def many(self, n: int = 3_000) -> Tracks:
        return super().many(n).select_links([])


@pytest.mark.real
@pytest.mark.parametrize(("sample", "spots"), [("tgmm-3d/tgmm-mini-spot.csv", 3087)], ids=["table of Mastodon"])
def test_exported_tables_are_read(real_data: Path, sample: str, spots: int) -> None:
    assert read_tracks(real_data / sample).n_spots == spots


@pytest.mark.real
@pytest.mark.parametrize("sample", ["hela-h2b-2d/01_GT", "c2c12-phase-2d/01_GT", "tgmm-crop-3d/01_GT"])
def test_gold_masks_are_kept_by_ground_truth_and_said_to_be_lost_by_results(
    real_data: Path, sample: str, tmp_path: Path
) -> None:
    truth, movie = read_tracks(real_data / sample), open_image(real_data / sample.removesuffix("_GT"))
    for name in ("01_GT", "01_RES"):
        write_tracks(tmp_path / name, truth, image=movie)
    again = read_tracks(tmp_path / "01_GT")
    assert_same(truth, again, TestCtc.keeps | {"spot features", "whole-number features", "exact names of features"})
    assert any("ends in _GT" in sentence for sentence in format_named("ctc").losses(truth))
