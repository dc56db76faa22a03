"""Segmentation and conversion by two workers of dask, with a real network of random weights: the files of the plain verbs.

The workers are threads of this process, which has torch already; ``long_real.py`` beside this file has processes, and kills them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bdv_io.formats import write_image
from bdv_io.image import ArrayImage
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.nn.checkpoint import Weights, save_weights
from howdah.pipeline import Conversion, Job, convert, finish
from howdah.pipeline.embedtrack import track_embedtrack
from howdah.scale.config import ScaleConfig
from howdah.scale.convert import scale_convert
from howdah.scale.segment import Segmentation, scale_segment

distributed = pytest.importorskip("distributed")
ANY_PORT = {"dashboard_address": "127.0.0.1:0"}  # else its HTTP server warns where another has the usual one

SETTINGS = {"embedtrack": {"device": "cpu", "precision": "float32", "min_size": 10}}


@pytest.fixture(scope="module")
def config() -> Iterator[ScaleConfig]:
    """Two workers that wait for work."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs=ANY_PORT,
        protocol="tcp",
        host="127.0.0.1",
    ) as cluster:
        yield ScaleConfig(scheduler=cluster.scheduler_address, window=2, block=None)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("movie") / "m.xml"
    frames = np.random.default_rng(0).integers(0, 1000, (3, 1, 32, 64)).astype(np.uint16)
    write_image(target, ArrayImage(list(frames), unit="µm"))
    return target


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of EmbedTrack that see some cells everywhere."""
    torch.manual_seed(0)
    network = BranchedERFNet(2, 1, 0).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    segment, seeds, track = (decoder.output_conv for decoder in network.decoders)
    for last in (segment, seeds, track):
        nn.init.normal_(last.weight, 0, 0.02)
        nn.init.zeros_(last.bias)
    nn.init.constant_(seeds.bias, 2.0)
    file = tmp_path_factory.mktemp("weights") / "embedtrack.safetensors"
    form = {"n_dims": 2, "n_channels": 1, "keep_axials": 0}
    save_weights(file, Weights((network.state_dict(),), {"method": "embedtrack", "network": form}))
    return file


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_workers_and_none_give_the_files_of_the_plain_verb(
    movie: Path, weights: Path, config: ScaleConfig, tmp_path: Path
) -> None:
    job, how = Job(movie), Segmentation("embedtrack", weights, SETTINGS)
    for name in ("plain", "two", "none"):
        (tmp_path / name).mkdir()
    said = finish(track_embedtrack(job, tmp_path / "plain" / "01_RES", settings=SETTINGS, weights=weights))
    assert said["links"] > 1
    expected = files(tmp_path / "plain" / "01_RES")
    for name, chosen in (("two", config), ("none", ScaleConfig(workers=0, window=3))):
        finish(scale_segment(job, tmp_path / name / "01_RES", how, config=chosen))
        assert files(tmp_path / name / "01_RES") == expected, name


def test_two_workers_convert(movie: Path, config: ScaleConfig, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    finish(convert(movie, tmp_path / "plain" / "m.ome.zarr", Conversion()))
    facts = finish(scale_convert(movie, tmp_path / "m.ome.zarr", config=config.but(window=1), check=True))
    assert facts["blocks"]["all"] == 3
    assert files(tmp_path / "m.ome.zarr") == files(tmp_path / "plain" / "m.ome.zarr")
