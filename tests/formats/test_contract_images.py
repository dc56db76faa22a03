"""Every image format under the same contract, on made movies and on the samples of the real programs."""

from __future__ import annotations

from formats.contract_images import IMAGE_ASPECTS, ImageContract

ALL = frozenset(IMAGE_ASPECTS)
MOVIES = (
    "written-by-java/synth.xml",
    "parhyale-3d/sample.xml",
    "tgmm-crop-3d/tgmm_mini_27_31.xml",
    "faketracks/mamutproject/FakeTracksBDV.xml",
    "mitosis-bdv-formats/mitosis_small_hdf5.xml",
    "mitosis-bdv-formats/mitosis_small_n5.xml",
    "mitosis-bdv-formats/mitosis_small_omezarr.xml",
    "mitosis-bdv-formats/mitosis_small.ome.zarr",
    "mitosis-bdv-formats/mitosis-small.tif",
)


class TestBdv(ImageContract):
    key, name = "bdv", "a.xml"
    keeps = ALL
    golden = (*MOVIES, "faketracks/trackmate-7.0.5/FakeTracks.tif", "hela-h2b-2d/01")


class TestOmeZarr(ImageContract):
    key, name = "ome-zarr", "a.ome.zarr"
    keeps = ALL - {"views of different size and type"}
    golden = (*MOVIES, "faketracks/trackmate-7.0.5/FakeTracks.tif", "hela-h2b-2d/01")


class TestImageJTiff(ImageContract):
    key, name = "tiff", "a.tif"
    keeps = ALL - {
        "32-bit whole numbers",
        "rotations and shifts",
        "missing views",
        "angles and illuminations",
        "numbers of time points",
        "views of different size and type",
    }
    golden = (
        "faketracks/trackmate-7.0.5/FakeTracks.tif",
        "drosophila-h2b-2d/sequence1-2.tif",
        "parhyale-3d/sample.xml",
    )


class TestOmeTiff(ImageContract):
    key, name = "tiff", "a.ome.tif"
    keeps = TestImageJTiff.keeps | {"32-bit whole numbers"}
    golden = TestImageJTiff.golden
