from dataclasses import replace

import numpy as np
import pytest
import torch

from bdv_io.tracks import Tracks
from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.network import UNet
from howdah.methods.elephant.predict import Detector, read_weights
from howdah.methods.elephant.preprocess import prepare
from howdah.methods.elephant.samples import Samples
from howdah.methods.elephant.status import DETECTION, UNLABELLED_TAG
from howdah.methods.elephant.train import following, train
from howdah.nn.checkpoint import Weights

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])
CENTRES = np.array([[8.0, 12, 12], [8, 12, 36], [8, 36, 12], [8, 36, 36]])  # world
SMALL = ElephantConfig(
    prior_training=True,
    n_epochs=2,
    n_crops=2,
    crop_size=(8, 16, 16),
    prior_crops=1,
    prior_learning_rates=(1e-2,),
    precision="float32",
    device="cpu",
    scale_range=0,
    rescale=(1, 1, 1),
)


def frame(_time=0):
    grid = np.stack(np.meshgrid(*map(np.arange, (8, 48, 48)), indexing="ij"), -1) * [2, 1, 1]
    image = np.random.default_rng(0).normal(100, 5, (8, 48, 48))
    for centre in CENTRES:
        image += 200 * np.exp(-((grid - centre) ** 2).sum(-1) / 30)
    return image.astype(np.uint16)


def marks(n=2, t=0):
    return Tracks.build(np.full(n, t), CENTRES[:n], radius=5.0)


def finish(run):
    seen = []
    while True:
        try:
            seen.append(next(run))
        except StopIteration as end:
            return seen, end.value


def test_a_training_counts_its_steps_and_returns_weights():
    seen, weights = finish(train(frame, marks(), SMALL, affine=AFFINE))
    assert [p.done for p in seen] == list(range(1 + 4 + 1))
    assert seen[0].message.startswith("Computing on the CPU")
    assert set(seen[1].values) == {"prior"}
    assert set(seen[-1].values) == {"loss", "nll", "dice", "smooth"}
    header = weights.header
    assert header["method"] == "elephant-detection"
    assert header["config"]["background_threshold"] is None
    assert header["resolved"]["background_threshold"] > 0
    assert header["resolved"]["suppression_distance"] == pytest.approx(5)
    assert header["data"]["marks"] == 2
    assert Detector(weights).config.r_max == pytest.approx(10)


def test_prior_training_is_for_new_networks_only():
    _, weights = finish(train(frame, marks(), SMALL.but(n_epochs=1), affine=AFFINE))
    seen, again = finish(train(frame, marks(), SMALL.but(n_epochs=1), affine=AFFINE, start=weights))
    assert seen[-1].total == 2
    assert again.header["start"] == weights.sha256


def test_the_seed_decides_everything():
    _, first = finish(train(frame, marks(), SMALL, affine=AFFINE))
    torch.rand(7)
    _, second = finish(train(frame, marks(), SMALL, affine=AFFINE))
    assert first.sha256 == second.sha256


def test_a_cancelled_training_resumes_as_if_nothing_had_happened(tmp_path):
    _, whole = finish(train(frame, marks(), SMALL, affine=AFFINE))
    file = tmp_path / "w.safetensors"
    run = train(frame, marks(), SMALL, affine=AFFINE, save_to=file)
    for _ in range(4):
        next(run)
    run.close()
    assert not file.exists()
    seen, resumed = finish(train(frame, marks(), SMALL, affine=AFFINE, save_to=file))
    assert seen[0].done == 3
    assert "Resumed after 3 of 5 steps" in seen[0].message
    assert resumed.sha256 == whole.sha256 == read_weights(file).sha256
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(
    ("movie", "matrix"),
    [(lambda t: frame() + np.uint16(np.eye(48) * 99), AFFINE), (frame, AFFINE @ np.diag([1, 1, 1.0, 1.1]))],
)
def test_another_movie_starts_afresh(tmp_path, movie, matrix):
    file = tmp_path / "w.safetensors"
    run = train(frame, marks(), SMALL.but(background_threshold=0.2), affine=AFFINE, save_to=file)
    next(run), next(run), next(run)
    run.close()
    first = next(train(movie, marks(), SMALL.but(background_threshold=0.2), affine=matrix, save_to=file))
    assert "is not continued" in first.message


def test_a_crop_larger_than_the_frame_is_cut_to_it():
    samples = Samples(frame, marks(), AFFINE, SMALL.but(crop_size=(999, 999, 40)))
    assert samples.resolved().crop_size == (8, 48, 40)


def test_training_in_float16_is_refused():
    with pytest.raises(ConfigError, match="Use precision bfloat16"):
        next(train(frame, marks(), SMALL.but(precision="float16"), affine=AFFINE))


def test_a_background_threshold_of_one_means_all_voxels():
    samples = Samples(frame, marks(), AFFINE, SMALL.but(background_threshold=1))
    assert (samples.marked(0).labels > 0).all()


def test_a_gradient_that_is_no_number_changes_neither_weights_nor_state(tmp_path, monkeypatch):
    file, state = tmp_path / "w.safetensors", tmp_path / "w.safetensors.training"
    run = train(frame, marks(), SMALL, affine=AFFINE, save_to=file)
    next(run), next(run), next(run)
    run.close()
    before = state.read_bytes()
    monkeypatch.setattr("howdah.methods.elephant.train.detection_loss", no_gradient)
    with pytest.raises(DataError, match="gradient is no longer a number"):
        finish(train(frame, marks(), SMALL, affine=AFFINE, save_to=file))
    assert state.read_bytes() == before
    assert not file.exists()


def no_gradient(log_p, *_):
    return {"loss": (log_p - log_p.detach()).abs().sqrt().sum()}  # 0, with a gradient of 0 times infinity


def test_other_marks_start_afresh(tmp_path):
    file = tmp_path / "w.safetensors"
    run = train(frame, marks(), SMALL, affine=AFFINE, save_to=file)
    next(run), next(run), next(run)
    run.close()
    seen, _ = finish(train(frame, marks(3), SMALL, affine=AFFINE, save_to=file))
    assert seen[0].done == 0
    assert "is not continued" in seen[0].message


def test_a_killed_training_leaves_the_former_weights(tmp_path):
    file = tmp_path / "w.safetensors"
    finish(train(frame, marks(), SMALL.but(n_epochs=1), affine=AFFINE, save_to=file))
    before = file.read_bytes()
    run = train(frame, marks(), SMALL, affine=AFFINE, save_to=file)
    next(run), next(run)
    run.close()
    assert file.read_bytes() == before


def test_predictions_that_nobody_looked_at_are_not_trained_on():
    tracks = marks(4).with_tag(DETECTION, UNLABELLED_TAG, spots=[0, 1, 2, 3])
    with pytest.raises(DataError, match="nothing to train on"):
        next(train(frame, tracks, SMALL, affine=AFFINE))


def test_marks_outside_the_image_are_a_sentence():
    tracks = replace(marks(), centre=CENTRES[:2] + 1000)
    with pytest.raises(DataError, match=r"None of the 2 marks of frame 0 lies inside"):
        finish(train(frame, tracks, SMALL.but(background_threshold=0), affine=AFFINE))


def test_a_frame_of_the_wrong_shape_is_a_sentence():
    with pytest.raises(DataError, match=r"shape \(48, 48\)"):
        next(train(lambda t: frame()[0], marks(), SMALL, affine=AFFINE))


def test_a_bad_affine_is_a_sentence():
    with pytest.raises(DataError, match="4x4 matrix that can be inverted"):
        next(train(frame, marks(), SMALL, affine=np.zeros((4, 4))))


def test_a_folder_that_is_not_there_is_found_out_before_training(tmp_path):
    with pytest.raises(WeightsError, match="no such folder"):
        next(train(frame, marks(), SMALL, affine=AFFINE, save_to=tmp_path / "no" / "w.safetensors"))


def test_every_marked_frame_is_seen_equally_often_and_read_once_a_pass():
    reads = []

    def read(time):
        reads.append(time)
        return frame()

    tracks = marks(2, 0).concatenate(marks(2, 3)).concatenate(marks(2, 7))
    samples = Samples(read, tracks, AFFINE, SMALL.but(background_threshold=0.2, memory_mb=200))
    assert samples.times == [0, 3, 7]
    assert samples.steps == 2 * 2 * 3
    for step in range(samples.steps):
        samples.batch(step)
    assert sorted(reads) == [0, 3, 7]


def test_frames_are_let_go_when_memory_is_short():
    big = np.zeros((12, 1000, 1000), np.uint8)  # 60 MB with its labels: two are more than half of 200
    big[5, 5, 5] = 1
    tracks = marks(2, 0).concatenate(marks(2, 1)).concatenate(marks(2, 2))
    samples = Samples(lambda t: big, tracks, AFFINE, SMALL.but(background_threshold=0, memory_mb=200))
    for time in samples.times:
        samples.marked(time)
    assert len(samples._kept) == 1


def test_it_learns(tmp_path):
    config = SMALL.but(n_epochs=20, n_crops=5, precision="auto", crop_size=(8, 32, 32))
    _, weights = finish(train(frame, marks(3), config, affine=AFFINE))
    spots = Detector(weights).predict_spots(frame(), AFFINE)
    nearest = np.linalg.norm(spots.centre[:, None] - CENTRES, axis=-1)
    assert (nearest.min(axis=0) < 3).all()
    assert (nearest.min(axis=1) < 5).all()


def test_an_ensemble_holds_networks_of_different_seeds_and_resumes(tmp_path):
    config = SMALL.but(n_members=2)
    _, whole = finish(train(frame, marks(), config, affine=AFFINE))
    _, alone = finish(train(frame, marks(), SMALL.but(seed=1), affine=AFFINE))
    assert len(whole.members) == 2
    key = "out_conv.weight"
    torch.testing.assert_close(whole.members[1][key], alone.members[0][key])
    assert not torch.equal(whole.members[0][key], whole.members[1][key])
    file = tmp_path / "w.safetensors"
    run = train(frame, marks(), config, affine=AFFINE, save_to=file)
    for _ in range(9):  # into the second network
        next(run)
    run.close()
    seen, resumed = finish(train(frame, marks(), config, affine=AFFINE, save_to=file))
    assert resumed.sha256 == whole.sha256
    assert len([p for p in seen if p.values]) < 4
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_the_paper_s_range_of_scales():
    samples = Samples(frame, marks(), AFFINE, SMALL.but(scale_range=(0.5, 2)))
    samples.config = samples.resolved()
    assert samples._how(0, samples.config.scale_range).scale == ((0.75, 1.5), (0.5, 2), (0.5, 2))
    with pytest.raises(ConfigError, match="scale_range must not fall"):
        SMALL.but(scale_range=(2, 0.5))


def test_guesses_add_the_nuclei_that_nobody_marked():
    without, with_ = (
        Samples(frame, marks(2), AFFINE, SMALL.but(background_threshold=0, guesses=guesses))
        for guesses in (False, True)
    )
    at = (4, 36, 36)  # the fourth nucleus
    assert without.marked(0).labels[at] == 0
    assert with_.marked(0).labels[at] == 3
    assert with_.marked(0).labels[4, 12, 12] == 6


def test_dark_nuclei_are_not_guessed():
    samples = Samples(lambda t: 1000 - frame().astype(np.int32), marks(3), AFFINE, SMALL.but(background_threshold=0))
    assert set(np.unique(samples.marked(0).labels)) <= {0, 5, 6}


@pytest.mark.parametrize("setting", [{"slice_median": True}, {"rescale": (1, 0.5, 0.5)}, {"normalisation": "local"}])
def test_samples_are_prepared_as_set(setting):
    samples = Samples(frame, marks(3), AFFINE, SMALL.but(**setting))
    samples.config = samples.resolved()
    expected = prepare(frame(), AFFINE, samples.config)
    np.testing.assert_array_equal(samples.marked(0).image, expected.image)
    np.testing.assert_array_equal(samples.marked(0).affine, expected.affine)


@pytest.mark.parametrize(
    ("header", "normalisation", "rescale"),
    [
        ({}, None, None),  # published
        ({"resolved": {"normalisation": "local", "rescale": [1, 0.4, 0.4]}, "config": {"rescale": None}}, None, None),
        ({"resolved": {"normalisation": "local"}, "config": {"rescale": [1, 0.5, 0.5]}}, None, (1, 0.5, 0.5)),
        ({"resolved": {"normalisation": "local"}, "passes": 3}, "local", None),  # of a loop
        ({"resolved": "damaged", "config": 3, "passes": 3}, "minmax", None),
    ],
)
def test_a_network_sees_what_it_knows(header, normalisation, rescale):
    start = Weights(({},), header)
    found = following(start, ElephantConfig())
    assert (found.normalisation, found.rescale) == (normalisation, rescale)
    assert following(start, ElephantConfig(normalisation="percentile")).normalisation == "percentile"
    assert following(None, ElephantConfig()).normalisation is None


def test_what_a_network_is_not_used_to_is_said(caplog):
    following(Weights(({},), {"resolved": {"temporal_mean": 2, "slice_median": False}}), ElephantConfig())
    assert "trained with temporal_mean = 2; now it is 0" in caplog.text
    assert "slice_median" not in caplog.text


def test_each_network_of_an_ensemble_goes_on_from_its_own():
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        states.append(UNet().state_dict())
    config = SMALL.but(n_epochs=1, n_crops=1, n_members=3, learning_rate=1e-12, averaging=0)
    _, weights = finish(train(frame, marks(), config, affine=AFFINE, start=Weights(tuple(states))))
    for member, state in zip(weights.members, [*states, states[0]], strict=True):
        torch.testing.assert_close(member["out_conv.weight"], state["out_conv.weight"])
