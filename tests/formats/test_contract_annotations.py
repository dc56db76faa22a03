"""Every annotation format under the same contract, on made content and on the samples of the real programs."""

from __future__ import annotations

from pathlib import Path

from formats.contract import ANNOTATION_ASPECTS, AnnotationContract

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


class TestTrackMate(AnnotationContract):
    key, name = "trackmate", "a.xml"
    keeps = ALL - {RINGS}
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


class TestCsv(AnnotationContract):
    key, name = "csv", "a.csv"
    keeps = ALL - {"colours of tags", "outlines", RINGS}

    def written(self, folder: Path) -> Path:
        return folder / "a-spots.csv"
