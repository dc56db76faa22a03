from dataclasses import replace

import numpy as np
import pytest
import torch

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods import FlowEstimator
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.flow.predict import Flow, FlowMap, read_flow_weights
from howdah.methods.elephant.flow.samples import FlowSamples
from howdah.methods.elephant.flow.train import train_flow
from howdah.nn.checkpoint import Weights

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])
WAY = np.array([0.0, 3.0, -2.0])  # world, backwards in time
CENTRES = np.array([[8.0, 12, 12], [8, 12, 36], [8, 36, 12], [8, 30, 30]])
SMALL = FlowConfig(
    n_epochs=2,
    n_crops=2,
    crop_size=(8, 16, 16),
    precision="float32",
    device="cpu",
    scale_range=0,
    learning_rates=(1e-3,),
)


def frame(time=0):
    grid = np.stack(np.meshgrid(*map(np.arange, (8, 48, 48)), indexing="ij"), -1) * [2, 1, 1]
    image = np.random.default_rng(time).normal(100, 5, (8, 48, 48))
    for centre in CENTRES - WAY * time:
        image += 200 * np.exp(-((grid - centre) ** 2).sum(-1) / 30)
    return image.astype(np.uint16)


def marks(n=2, affine=None):
    centre = np.concatenate([CENTRES[:n], CENTRES[:n] - WAY])
    links = np.stack([np.arange(n), np.arange(n) + n], 1)
    return Tracks.build(np.repeat([0, 1], n), centre, radius=5.0, links=links)


def finish(run):
    seen = []
    while True:
        try:
            seen.append(next(run))
        except StopIteration as end:
            return seen, end.value


@pytest.fixture(scope="module")
def weights():
    return finish(train_flow(frame, marks(), SMALL.but(n_epochs=1), affine=AFFINE))[1]


def test_a_training_counts_its_steps_and_returns_weights():
    seen, weights = finish(train_flow(frame, marks(), SMALL, affine=AFFINE))
    assert [p.done for p in seen] == list(range(4 + 1))
    assert seen[0].message.startswith("Computing on the CPU")
    assert set(seen[-1].values) == {"loss", "mad", "ssim", "smooth", "error"}
    header = weights.header
    assert header["method"] == "elephant-flow"
    assert header["config"]["max_displacement"] is None
    assert header["resolved"]["max_displacement"] == [5, 10, 10]  # voxels: a nucleus wide, since they move less
    assert header["data"]["links"] == 2
    assert Flow(weights).config.max_displacement == (5, 10, 10)


def test_a_cancelled_training_resumes_as_if_nothing_had_happened(tmp_path):
    _, whole = finish(train_flow(frame, marks(), SMALL, affine=AFFINE))
    file = tmp_path / "w.safetensors"
    run = train_flow(frame, marks(), SMALL, affine=AFFINE, save_to=file)
    for _ in range(3):
        next(run)
    run.close()
    assert not file.exists()
    seen, resumed = finish(train_flow(frame, marks(), SMALL, affine=AFFINE, save_to=file))
    assert seen[0].done == 2
    assert "Resumed after 2 of 4 steps" in seen[0].message
    assert resumed.sha256 == whole.sha256 == read_flow_weights(file).sha256
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("other", ["links", "movie"])
def test_other_links_or_another_movie_start_afresh(tmp_path, other):
    file = tmp_path / "w.safetensors"
    run = train_flow(frame, marks(), SMALL, affine=AFFINE, save_to=file)
    next(run), next(run)
    run.close()
    tracks, movie = (
        (marks(3), frame) if other == "links" else (marks(), lambda t: frame(t) + np.uint16(np.eye(48) * 99))
    )
    first = next(train_flow(movie, tracks, SMALL, affine=AFFINE, save_to=file))
    assert first.done == 0
    assert "is not continued" in first.message


def test_prior_steps_are_for_new_networks_only(weights):
    config = SMALL.but(n_epochs=1, n_crops=1, prior_steps=2)
    seen, first = finish(train_flow(frame, marks(), config, affine=AFFINE))
    assert seen[-1].total == first.header["steps"] == 3
    assert finish(train_flow(frame, marks(), config, affine=AFFINE, start=weights))[0][-1].total == 1


def test_learning_rates_share_the_passes():
    samples = FlowSamples(frame, marks(), AFFINE, SMALL.but(n_epochs=4, learning_rates=(5e-5, 5e-6)))
    assert [samples.rate(step) for step in range(samples.steps)] == [5e-5] * 4 + [5e-6] * 4


def test_labels_of_a_step_are_the_ways_turned_with_the_crop():
    config = SMALL.but(rotation_degrees=180, crop_size=(8, 32, 32))
    samples = FlowSamples(frame, marks(), AFFINE, config)
    samples.config = samples.resolved()
    for step in range(4):
        batch = samples.batch(step)
        assert batch.images.shape == (1, 2, 8, 32, 32)
        lengths = np.linalg.norm(batch.displacement, axis=1)
        assert len(lengths) > 9
        np.testing.assert_allclose(lengths, np.hypot(3, 2), atol=1e-5)


def test_each_frame_may_have_its_own_affine():
    moved = AFFINE.copy()
    moved[:3, 3] = 0, 3, -2  # registration that takes the motion out: in the world nothing moves
    still = replace(marks(), centre=np.concatenate([CENTRES[:2], CENTRES[:2]]))
    samples = FlowSamples(frame, still, lambda t: moved if t else AFFINE, SMALL)
    np.testing.assert_allclose(samples.pair(1).displacement, [[0, 3, -2]] * 2)


def test_links_longer_than_the_limit_are_said(caplog):
    FlowSamples(frame, marks(), AFFINE, SMALL.but(max_displacement=(4, 2, 8))).resolved()
    assert "2 of 2 links are longer than max_displacement" in caplog.text


def test_training_goes_on_from_weights_with_their_scaling(weights):
    _, again = finish(train_flow(frame, marks(), SMALL.but(n_epochs=1), affine=AFFINE, start=weights))
    assert again.header["start"] == weights.sha256
    published = Weights(weights.members, {"method": "elephant-flow"})
    _, other = finish(train_flow(frame, marks(), SMALL.but(n_epochs=1), affine=AFFINE, start=published))
    assert other.header["resolved"]["max_displacement"] == [10, 80, 80]


def test_links_of_a_machine_are_not_trained_on():
    tracks = marks().with_tag("Tracking", Tag("unlabeled"), links=[0, 1])
    with pytest.raises(DataError, match="nothing to train the flow on"):
        next(train_flow(frame, tracks, SMALL, affine=AFFINE))


def test_links_outside_of_the_image_are_a_sentence():
    with pytest.raises(DataError, match=r"None of the 2 linked spots of frame 1 lies inside"):
        next(train_flow(frame, replace(marks(), centre=marks().centre + 999), SMALL, affine=AFFINE))


def test_training_in_float16_is_refused():
    with pytest.raises(ConfigError, match="Use precision bfloat16"):
        next(train_flow(frame, marks(), SMALL.but(precision="float16"), affine=AFFINE))


def test_a_folder_that_is_not_there_is_found_out_before_training(tmp_path):
    with pytest.raises(WeightsError, match="no such folder"):
        next(train_flow(frame, marks(), SMALL, affine=AFFINE, save_to=tmp_path / "no" / "w.safetensors"))


def test_frames_of_two_sizes_are_a_sentence():
    with pytest.raises(DataError, match="different sizes"):
        next(train_flow(lambda t: frame()[t:], marks(), SMALL, affine=AFFINE))


# ---- prediction


def shift_map(way, shape=(8, 48, 48), affine=AFFINE, earlier_affine=AFFINE):
    flow = np.broadcast_to(np.reshape(way, (3, 1, 1, 1)), (3, *shape)).astype(np.float32)
    return FlowMap(flow, affine, earlier_affine)


def test_positions_are_the_mean_flow_over_the_ellipsoid_in_world_units():
    tracks = marks()
    found = shift_map([1, 2, -3]).positions(tracks.centre, tracks.covariance)
    np.testing.assert_allclose(found, tracks.centre + np.array([2, 2, -3]), atol=1e-5)
    ramp = np.zeros((3, 8, 48, 48), np.float32)
    ramp[1] = np.arange(48)[:, None]
    found = FlowMap(ramp, AFFINE, AFFINE).positions(tracks.centre, tracks.covariance)
    np.testing.assert_allclose(found[:, 1], 2 * tracks.centre[:, 1], atol=0.1)


def test_what_is_no_ellipsoid_or_not_in_the_map_has_no_position():
    centre = np.array([[8.0, 12, 12], [np.nan, 0, 0], [8, 999, 12], [8, 12, 12]])
    covariance = np.repeat(np.eye(3)[None] * 9, 4, axis=0)
    covariance[3, 0, 0] = -1
    found = shift_map([0, 0, 0]).positions(centre, covariance)
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, False, False]


def test_an_earlier_frame_with_another_affine():
    other = AFFINE.copy()
    other[:3, 3] = 1, 10, 100
    found = shift_map([1, 2, -3], earlier_affine=other).positions(CENTRES, np.repeat(np.eye(3)[None] * 9, 4, axis=0))
    np.testing.assert_allclose(found, CENTRES + np.array([3, 12, 97]), atol=1e-5)


def test_flow_is_a_flow_estimator(weights):
    flow = Flow(weights)
    assert isinstance(flow, FlowEstimator)
    found = flow.predict_flow(frame(0), frame(1), AFFINE)
    assert found.shape == (3, 8, 48, 48)
    assert found.dtype == np.float32
    assert (np.abs(found) <= np.reshape([5, 10, 10], (3, 1, 1, 1))).all()


def test_tiles_and_boxes_give_what_the_whole_frame_gives(weights):
    big = [np.tile(frame(t)[2:6], (1, 3, 2)) for t in (0, 1)]
    flow = Flow(weights)
    whole = flow.predict_flow(*big, AFFINE)
    tiled = Flow(weights, SMALL.but(tile_size=(4, 96, 64))).predict_flow(*big, AFFINE)
    assert np.abs(whole - tiled).max() < 0.2 * np.abs(whole).max()
    centre = np.array([[4.0, 40, 50], [4, 60, 44], [4, 130, 80]])
    covariance = np.repeat(np.eye(3)[None] * 16, 3, axis=0)
    everywhere = flow.positions(*big, AFFINE, centre, covariance)
    boxed = flow.positions(*big, AFFINE, centre, covariance, box=([0, 30, 30], [15, 70, 60]))
    np.testing.assert_allclose(boxed[:2], everywhere[:2], atol=0.02)
    assert np.isnan(boxed[2]).all()


def test_a_box_has_the_right_origin():
    class Place(torch.nn.Module):
        def forward(self, x, flags):
            return torch.cat([x[:, :1] * 0, x[:, :1], x[:, 1:]], 1)  # what the network sees comes back

    flow = Flow.__new__(Flow)
    flow.config = SMALL.but(max_displacement=(10, 10, 10))
    flow.place, flow.networks = torch_place(), [Place()]
    image = np.broadcast_to(np.arange(160.0)[:, None], (8, 160, 160))
    centre = np.array([[8.0, 100, 90]])
    found = flow.positions(image, image, AFFINE, centre, np.eye(3)[None] * 9, box=([0, 90, 80], [15, 110, 99]))
    np.testing.assert_allclose(found - centre, [[0, 1000 / 159, 1000 / 159]], atol=1e-3)


def torch_place():
    from howdah.nn.device import pick

    return pick("cpu", precision="float32")


def test_a_box_outside_of_the_frame_is_a_sentence(weights):
    with pytest.raises(DataError, match="lies outside of the frame"):
        Flow(weights).positions(frame(), frame(), AFFINE, CENTRES, np.eye(3)[None], box=([0, 500, 0], [1, 600, 9]))
    with pytest.raises(DataError, match="needs a low and a high corner"):
        Flow(weights).positions(frame(), frame(), AFFINE, CENTRES, np.eye(3)[None], box=([9, 0, 0], [1, 9, 9]))


def test_a_working_grid_gives_the_flow_on_the_voxels_of_the_frame(weights):
    half = Flow(weights, SMALL.but(rescale=(1, 0.5, 0.5)))
    half._compute = lambda pair, flags, multiple: np.ones((3, *pair.shape[1:]), np.float32)
    found = half.predict_flow(frame(0), frame(1), AFFINE)
    assert found.shape == (3, 8, 48, 48)
    np.testing.assert_allclose(found[:, 4, 20, 20], [1, 2, 2])
    place = half.positions(frame(0), frame(1), AFFINE, CENTRES[:1], np.eye(3)[None] * 9)
    np.testing.assert_allclose(place - CENTRES[:1], [[2, 2, 2]], atol=1e-5)


def test_frames_that_do_not_fit_are_sentences(weights):
    with pytest.raises(DataError, match="two frames"):
        Flow(weights).predict_flow(frame(), frame()[1:], AFFINE)
    with pytest.raises(DataError, match="the earlier frame holds values that are no numbers"):
        Flow(weights).predict_flow(np.full((2, 4, 4), np.nan), np.ones((2, 4, 4)), AFFINE)


def test_a_damaged_header_is_a_sentence(weights):
    with pytest.raises(WeightsError, match="'max_displacement'"):
        Flow(Weights(weights.members, {"resolved": {"seed": 1}}))


def test_another_scaling_than_that_of_the_weights_is_said(weights, caplog):
    assert Flow(weights, SMALL.but(max_displacement=(1, 2, 3))).config.max_displacement == (5, 10, 10)
    assert "max_displacement = (1.0, 2.0, 3.0) is not used" in caplog.text


def test_published_weights_mean_what_the_settings_say(weights):
    published = Weights(weights.members, {"method": "elephant-flow"})
    assert Flow(published).config.max_displacement == (10, 80, 80)
    own = Flow(published, SMALL.but(max_displacement=(20, 40, 40)))
    assert own.config.max_displacement == (20, 40, 40)
    paper = Flow(published, SMALL).predict_flow(frame(0), frame(1), AFFINE)
    ratio = np.reshape([2, 0.5, 0.5], (3, 1, 1, 1))
    np.testing.assert_allclose(own.predict_flow(frame(0), frame(1), AFFINE), paper * ratio, rtol=1e-4, atol=1e-5)


def test_two_dimensions():
    tracks = replace(marks(), centre=marks().centre * [0, 1, 1])
    config = SMALL.but(crop_size=None)
    _, weights = finish(train_flow(lambda t: frame(t)[4:5], tracks, config, affine=np.eye(4)))
    found = Flow(weights).positions(frame(0)[4:5], frame(1)[4:5], np.eye(4), tracks.centre[2:], tracks.covariance[2:])
    assert np.isfinite(found).all()


def test_a_small_training_learns_the_shift():
    config = SMALL.but(n_epochs=10, crop_size=(8, 32, 32), flip=False, rotation_degrees=0, precision="auto")
    _, weights = finish(train_flow(frame, marks(3), config, affine=AFFINE))
    tracks = marks(4)
    found = Flow(weights).positions(frame(0), frame(1), AFFINE, tracks.centre[4:], tracks.covariance[4:])
    assert (np.linalg.norm(found - tracks.centre[:4], axis=1) < 0.5 * np.linalg.norm(WAY)).all()
