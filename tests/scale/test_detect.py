"""``scale predict`` gives what ``predict`` gives, bit for bit, however frames are cut and whoever does the blocks."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from typer.testing import CliRunner

from bdv_io.formats import read_tracks
from bdv_io.image import ArrayImage
from bdv_io.tracks import Tracks
from howdah import pipeline
from howdah.cli import app
from howdah.errors import ConfigError
from howdah.methods.elephant import predict as elephant
from howdah.methods.elephant.calibration import DEFAULT
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.network import UNet
from howdah.nn.checkpoint import Weights, save_weights
from howdah.pipeline.sources import Source
from howdah.progress import finish
from howdah.scale.config import ScaleConfig
from howdah.scale.detect import plan_predict, scale_predict
from howdah.scale.detect_blocks import blend, frame, levels, nuclei, tile
from howdah.scale.detect_plan import Blocks, network_mb
from howdah.scale.folder import work_folder

DOES = {"frame": frame, "levels": levels, "tile": tile, "blend": blend, "nuclei": nuclei}
BASE = {
    "device": "cpu",
    "precision": "float32",
    "memory_mb": 2000.0,
    "suppression_distance": 1.0,
    "nucleus_size": (2, 2, 2),
}
AFFINE = np.diag([2.0, 1, 1, 1])


class Tinted(torch.nn.Module):
    """A network that takes bright voxels for centres, and sees, as norms do, how bright all that it is given is."""

    def load_state_dict(self, state):
        pass

    def forward(self, x, flags):
        centre = (x - 0.2 * x.mean()).clamp(0.001, 0.9)
        background = (0.95 - centre) * (0.2 + 0.8 * x.clamp(0, 1))
        return torch.cat([background, 1 - centre - background, centre], dim=1).log()


class Here:
    """A call whose movie and results are in memory; what travels has been through JSON."""

    def __init__(self, block, shared, image, store, kept):
        self.arguments = json.loads(json.dumps(block.arguments))
        self.shared, self.image, self.store, self.needs, self._kept = shared, image, store, set(block.needs), kept

    def read(self, key):
        assert key in self.needs
        return self.store[key]

    def kept(self, name, make):
        if name == "movie":
            return self.image
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def cut(frame_, config, box=None, **how):
    """The spots of a frame by its blocks, and how many blocks there were."""
    image = ArrayImage(frame_[None] if frame_.ndim == 3 else frame_, voxel_size=(2.0, 1, 1))
    blocks = Blocks(Source(image, Tracks.empty(), ()), config, ScaleConfig(**how), box, 1)
    blocks.add(0)
    shared = {
        "movie": "",
        "hints": None,
        "setup": 0,
        "weights": "weights",
        "elephant": config.model_dump(mode="json"),
        "calibration": DEFAULT.to_header(),
        "threads": torch.get_num_threads(),
        "box": None if box is None else [list(corner) for corner in box],
        "layouts": blocks.layouts,
    }
    shared = json.loads(json.dumps(shared))
    store, kept = {}, {}
    for block in blocks.all:
        result = DOES[block.does.partition(":")[2]](Here(block, shared, image, store, kept))
        json.dumps(dict(result.facts))
        store[block.key] = result
    return store["spots/t00000"].arrays, len(blocks.all)


def assert_same(found, spots):
    for column in ("centre", "covariance", "quality"):
        np.testing.assert_array_equal(found[column], getattr(spots, column))


@pytest.fixture(autouse=True)
def tinted(monkeypatch, request):
    """No test but those marked waits for the true network."""
    if request.node.get_closest_marker("real") is None:
        monkeypatch.setattr(elephant, "UNet", Tinted)
        monkeypatch.setattr("howdah.pipeline.weights_of.read_weights_of", lambda method, path: WEIGHTS)


WEIGHTS = Weights(({},), {"method": "elephant-detection"})


def noise(seed, shape, sigma):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return (
        ((values - values.min()) / np.ptp(values) * 1000).astype(np.uint16) if np.ptp(values) else np.zeros(shape, "u2")
    )


@st.composite
def cases(draw):
    shape = draw(st.tuples(st.sampled_from([1, 2, 5, 9, 16]), st.integers(18, 60), st.integers(18, 60)))
    config = ElephantConfig.of(
        {
            **BASE,
            "tile_size": draw(st.tuples(st.sampled_from([1, 4, 8]), st.integers(8, 40), st.integers(8, 40))),
            "threshold": draw(st.sampled_from([0.3, 0.4, 0.5, 0.6])),
            "n_keep_axials": draw(st.sampled_from([2, 3, 4])),
            "denoise_edges": draw(st.booleans()),
            "test_time_flips": draw(st.booleans()),
            "normalisation": draw(st.sampled_from(["minmax", "percentile", "local"])),
            "rescale": draw(st.sampled_from([None, (1.0, 0.7, 0.8)])),
            "r_max": draw(st.sampled_from([None, 2.0])),
            "r_min": draw(st.sampled_from([None, 1.5])),
            "r_usual": draw(st.sampled_from([None, 2.5])),
            "split": draw(st.booleans()),
        }
    )
    block = draw(st.tuples(st.integers(1, 9), st.integers(3, 40), st.integers(6, 40)))
    return noise(draw(st.integers(0, 2**16)), shape, draw(st.sampled_from([1.0, 2.0, 3.0]))), config, block


@given(case=cases(), boxed=st.booleans())
@settings(deadline=None, max_examples=10)
def test_however_a_frame_is_cut_the_nuclei_are_those_of_predict(case, boxed):
    image, config, block = case
    box = ((2.0, 5.0, 4.0), (12.0, 30.0, 20.0)) if boxed else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elephant, "UNet", Tinted)
        patch.setattr("howdah.pipeline.weights_of.read_weights_of", lambda method, path: WEIGHTS)
        plain = elephant.Detector(WEIGHTS, config).predict_spots(image, AFFINE, box=box)
        found, _ = cut(image, config, box, block=block)
    assert_same(found, plain)


def snake(shape=(4, 64, 64)):
    """One component from corner to corner, to and fro, and many small ones beside it."""
    image = np.zeros(shape, np.uint16)
    for n, y in enumerate(range(4, 60, 8)):
        image[1:3, y : y + 2, 4:60] = 900
        image[1:3, y : y + 10, 58 if n % 2 == 0 else 4] = 900
    image[1:3, 8::8, 20:50:6] = 800
    return image


def test_a_component_may_lie_in_all_regions():
    config = ElephantConfig.of({**BASE, "tile_size": (4, 32, 32), "split": False, "n_keep_axials": 2})
    plain = elephant.Detector(WEIGHTS, config).predict_spots(snake(), AFFINE)
    assert len(plain) > 20
    for block in ((4, 64, 64), (4, 16, 16), (2, 9, 13)):
        found, n = cut(snake(), config, block=block)
        assert_same(found, plain)
        assert n == 1 + 9 + np.prod(-(-np.array((4, 64, 64)) // block)) + 1


def test_frames_with_nothing_in_them():
    config = ElephantConfig.of({**BASE, "tile_size": (4, 32, 32)})
    found, n = cut(np.zeros((4, 64, 64), np.uint16), config)
    assert n > 10
    assert found["centre"].shape == (0, 3)
    found, n = cut(snake(), config, box=((1e4, 0, 0), (1e4 + 5, 5, 5)))  # beside the frame: nothing is read
    assert n == 1
    assert len(found["quality"]) == 0


def test_what_needs_the_whole_frame_is_refused_before_the_run():
    config = ElephantConfig.of({**BASE, "tile_size": (4, 32, 32), "guess_height": 0.3})
    with pytest.raises(ConfigError, match=r"guess_height = 0\.3 looks for hills in the whole frame"):
        cut(snake(), config)
    assert len(cut(snake(), config.but(tile_size=None))[0]["centre"])


@dataclass
class Huge:
    """A frame that nobody could hold; it is never read."""

    size: tuple
    path = None

    def __post_init__(self):
        self.setups = (ArrayImage(np.zeros((1, 1, 1, 1), np.uint16)).setups[0],)

    def shape(self, frame, setup=0, level=0):
        return self.size

    def affine(self, frame, setup=0, level=0):
        return AFFINE


@pytest.mark.parametrize(
    "also", [{}, {"normalisation": "local", "rescale": (0.5, 0.25, 0.25)}, {"denoise_edges": True}]
)
@pytest.mark.parametrize("memory", [4000])
def test_blocks_of_a_frame_of_32_gib_fit_into_a_worker(memory, also):
    scale = ScaleConfig(worker_memory_mb=memory)
    config = ElephantConfig.of({**BASE, "memory_mb": network_mb(scale, rescaled="rescale" in also), **also})
    blocks = Blocks(Source(Huge((1024, 4096, 4096)), Tracks.empty(), ()), config, scale, None, 1)
    blocks.add(0)
    largest = max(blocks.all, key=lambda block: block.memory_mb)
    assert largest.memory_mb + 600 <= memory, largest.key
    assert 20 < len(blocks.all) < 30_000


@dataclass
class Given:
    """A job whose movie is in memory; frames 1 and 3 of its four are missing and dark."""

    path: object
    hints: object = pipeline.Job("x").hints

    def open(self):
        image = ArrayImage(
            np.stack([snake(), snake(), noise(4, (4, 64, 64), 2.0), 0 * snake()]), voxel_size=(2.0, 1, 1)
        )
        image.path = self.path
        image.is_missing = lambda number, setup=0: number == 1
        return Source(image, Tracks.empty(), (self.path,)), [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stopped_and_resumed_it_gives_what_predict_gives(tmp_path, monkeypatch, caplog):
    movie, weights = tmp_path / "movie.tif", tmp_path / "weights.safetensors"
    movie.write_bytes(b"movie")
    weights.write_bytes(b"weights")
    job = Given(movie)
    monkeypatch.setattr("howdah.scale.detect_blocks.open_image", lambda path, hints=None: job.open()[0].image)
    sections = {"elephant": {**BASE, "tile_size": (4, 32, 32), "r_max": 5.0}}
    given_ = {"weights": weights, "settings": sections}
    plain = finish(pipeline.predict(job, tmp_path / "plain.mastodon", **given_))
    assert plain["spots"] > 20
    scale = ScaleConfig(workers=0, block=(4, 20, 40))
    target = tmp_path / "scale.mastodon"
    steps = scale_predict(job, target, **given_, config=scale)
    for _ in range(30):  # then the power fails
        next(steps)
    steps.close()
    assert work_folder(target).is_dir()
    assert not target.exists()
    result = finish(scale_predict(job, target, **given_, config=scale))
    assert result["spots"] == plain["spots"]
    assert result["blocks"]["done_before"] > 10
    one, other = read_tracks(tmp_path / "plain.mastodon"), read_tracks(target)
    for column in ("t", "centre", "covariance"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
    assert [feature.key for feature in one.features] == [feature.key for feature in other.features]
    for mine, theirs in zip(one.features, other.features, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values)
    assert not work_folder(target).exists()
    assert "Frame 1 of" in caplog.text
    assert "in tiles (frame 0 in" in caplog.text
    record = json.loads((tmp_path / "scale.mastodon.howdah.json").read_text())
    assert record["task"] == "scale predict"
    assert record["blocks"]["done_before"] == result["blocks"]["done_before"]
    assert record["settings_used"]["tile_size"] == [4, 32, 32]


def test_the_plan_follows_from_the_settings_alone(tmp_path):
    movie, weights = tmp_path / "movie.tif", tmp_path / "weights.safetensors"
    for file in (movie, weights):
        file.write_bytes(b"")
    how = {"weights": weights, "settings": {"elephant": {"r_max": 5.0}}}
    one, other = (
        plan_predict(Given(movie), tmp_path / "a.mastodon", ScaleConfig(workers=workers), **how) for workers in (1, 7)
    )
    assert one.blocks == other.blocks
    assert one.shared == other.shared
    assert [block.key for block in one.blocks] == ["spots/t00000", "spots/t00002", "spots/t00003"]


def test_frames_that_are_cut_alike_share_their_layout(monkeypatch):
    config = ElephantConfig.of({**BASE, "tile_size": (16, 64, 64)})
    image = Huge((32, 256, 256))
    blocks = Blocks(Source(image, Tracks.empty(), ()), config, ScaleConfig(), None, 1)
    for number in range(50):
        monkeypatch.setattr(image, "affine", lambda *_, n=number: AFFINE + n * np.eye(4, k=3) * (np.arange(4) == 3))
        blocks.add(number)
    assert len(blocks.layouts) == 1  # the frames drift, but are cut alike
    assert len({block.key for block in blocks.all}) == len(blocks.all) == 50 * len(blocks.all[: len(blocks.all) // 50])
    one, other = blocks.all[1], blocks.all[2]
    assert one.needs is other.needs  # memory of large plans
    assert sum(len(block.needs) for block in blocks.all) < 6 * len(blocks.all)


def test_blocks_that_would_be_countless_are_refused():
    config = ElephantConfig.of({**BASE, "tile_size": (16, 64, 64)})
    blocks = Blocks(Source(Huge((64, 512, 512)), Tracks.empty(), ()), config, ScaleConfig(block=(1, 1, 1)), None, 1)
    with pytest.raises(ConfigError, match="block"):
        ScaleConfig.of({"block": (-4, 8, 8)})
    with pytest.raises(ConfigError, match="into 16777216; at most 10000 are sensible"):
        blocks.add(0)


@pytest.mark.real
def test_a_real_movie_by_the_command_line(real_data, tmp_path):
    torch.manual_seed(3)
    weights = tmp_path / "w.safetensors"
    save_weights(weights, Weights((UNet().state_dict(),), {"method": "elephant-detection"}))
    movie = real_data / "tgmm-crop-3d" / "tgmm_mini_27_31.xml"
    options = ["--weights", str(weights), "--tile-size", "32,32,48", "--threshold", "0.4", "--frames", "1", "--json"]
    options += [
        "--suppression-distance",
        "1",
        "--split",
        "false",
        "--memory-mb",
        "2000",
        "--precision",
        "float32",
        "--device",
        "cpu",
    ]
    runner = CliRunner()
    for verb, more in ((["predict"], []), (["scale", "predict"], ["--workers", "0", "--block", "16,20,40"])):
        target = tmp_path / f"{verb[0]}.mastodon"
        answer = runner.invoke(app, [*verb, str(movie), *options, *more, "--out", str(target)])
        assert answer.exit_code == 0, answer.output
    one, other = (read_tracks(tmp_path / f"{name}.mastodon") for name in ("predict", "scale"))
    assert one.n_spots > 5
    for column in ("t", "centre", "covariance"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
