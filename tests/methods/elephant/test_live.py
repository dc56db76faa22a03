"""Training that goes on while annotation arrives."""

import numpy as np
import pytest
import torch

from bdv_io.tracks import Tracks
from howdah.errors import DataError, WeightsError
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.live import Pace, _LiveSamples, live
from howdah.methods.elephant.predict import read_weights
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, UNLABELLED_TAG

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])
CENTRES = np.array([[8.0, 12, 12], [8, 12, 36], [8, 36, 12], [8, 36, 36]])  # world
SMALL = ElephantConfig(n_crops=2, crop_size=(8, 16, 16), precision="float32", device="cpu", scale_range=0)


def frame(_time=0):
    grid = np.stack(np.meshgrid(*map(np.arange, (8, 48, 48)), indexing="ij"), -1) * [2, 1, 1]
    image = np.random.default_rng(0).normal(100, 5, (8, 48, 48))
    for centre in CENTRES:
        image += 200 * np.exp(-((grid - centre) ** 2).sum(-1) / 30)
    return image.astype(np.uint16)


def marks(*numbers, t=0):
    return Tracks.build(np.full(len(numbers), t), CENTRES[list(numbers)], radius=5.0)


def start(feed, pace, config=SMALL, **options):
    """Begin with a list of news, one an asking."""
    queue = iter(feed)
    return live(frame, lambda: next(queue, None), config, affine=AFFINE, pace=pace, **options)


def finish(run):
    seen = []
    while True:
        try:
            seen.append(next(run))
        except StopIteration as end:
            return seen, end.value


def test_it_ends_with_the_first_pause_and_returns_weights(tmp_path):
    file = tmp_path / "w.safetensors"
    seen, weights = finish(start([marks(0, 1)], Pace(epochs=2, ends=True), save_to=file))
    assert [p.done for p in seen] == [0, 1, 2, 3, 4]
    assert seen[-1].total == 4
    assert weights.header["passes"] == 2
    assert weights.header["data"]["marks"] == 2
    assert read_weights(file).sha256 == weights.sha256


def test_news_in_between_are_learned_by_the_same_network_and_optimiser():
    run = start([marks(0), None, marks(0, 1)], Pace(epochs=2, poll_s=0))
    session = None
    messages, steps = [], 0
    for progress in run:
        session = session or run.gi_yieldfrom.gi_frame.f_locals["self"]
        messages.append(progress.message)
        steps += progress.stage == "train" and bool(progress.values)
        if len([m for m in messages if "New annotation" in m]) and progress.stage == "wait":
            break
    assert steps == 8, "two passes of two crops after each news"
    assert any("2 marks, news in frames 0" in m for m in messages)
    moments = session.run.optimiser.state[next(session.run.network.parameters())]
    assert int(moments["step"]) == 8, "moments go on"
    run.close()


def test_only_changed_frames_are_drawn_again_and_their_news_are_favoured():
    everything = marks(0).concatenate(marks(0, t=1))
    samples = _LiveSamples(frame, everything, AFFINE, SMALL)
    samples.decide()
    old, changed = samples.marked(0), samples.marked(1)
    fresh = samples.after(everything.concatenate(marks(3, t=1)))
    assert fresh.focus == [1]
    assert fresh.marked(0) is old
    assert fresh.marked(1) is not changed
    assert (fresh.marked(1).marks[:, 1] == 36).sum() == 4, "the new mark stands there four times"
    assert fresh.marked_times == [0, 1]


def test_a_pass_looks_at_news_and_rehearses():
    everything = Tracks.empty()
    for t in range(6):
        everything = everything.concatenate(marks(0, t=t))
    samples = _LiveSamples(frame, everything, AFFINE, SMALL)
    samples.decide()
    fresh = samples.after(everything.concatenate(marks(1, t=4)))
    assert fresh.plan(0, 0.0) == 2
    assert fresh.times == [4]
    seen = set()
    for number in range(40):
        assert fresh.plan(number, 1.0) == 4
        assert fresh.times[0] == 4
        seen.update(fresh.times)
    assert seen == set(range(6))
    fresh.plan(0, np.inf)
    assert sorted(fresh.times) == list(range(6))


def test_open_settings_are_decided_again_when_the_marks_have_doubled():
    samples = _LiveSamples(frame, marks(0), AFFINE, SMALL)
    samples.decide()
    more = Tracks.build([0, 0], CENTRES[:2], radius=[5.0, 8.0])
    assert samples.after(more).config.r_max > samples.config.r_max
    assert samples.after(marks(0).concatenate(marks(0, t=1))).decided_with == 2
    three = _LiveSamples(frame, marks(0, 1, 2), AFFINE, SMALL)
    three.decide()
    assert three.after(marks(0, 1, 2, 3)).config is three.config


def test_the_order_of_spots_is_no_news():
    both = marks(0, 1, 2)
    samples = _LiveSamples(frame, both, AFFINE, SMALL)
    samples.decide()
    assert samples.differ_from(_LiveSamples(frame, both.select([2, 0, 1]), AFFINE, SMALL).after(both).changed) == [0]
    assert samples.after(both.select([2, 0, 1])).changed == {}


def test_what_was_learned_before_is_no_news():
    before = marks(0).concatenate(marks(0, t=1))
    _, weights = finish(start([before], Pace(epochs=1, ends=True)))
    now = before.with_tag(DETECTION, DETECTION_TAGS[0], spots=[1])  # accepted at frame 1
    run = start([now], Pace(epochs=1, ends=True, rehearsal=0), start=weights, before=before)
    seen, again = finish(run)
    assert seen[-1].total == 2, "one frame, two crops"
    assert again.header["passes"] == 2
    assert again.header["start"] == weights.sha256


def test_an_annotation_that_teaches_nothing_is_a_sentence_and_training_goes_on():
    machine = marks(0).with_tag(DETECTION, UNLABELLED_TAG, spots=[0])
    outside = Tracks.build([0], [[8.0, 500, 500]], radius=5.0)
    run = start([marks(0), machine, outside], Pace())
    seen = [next(run) for _ in range(8)]
    run.close()
    told = [p.message for p in seen if "not learned" in p.message]
    assert "nothing to train on" in told[0]
    assert "lies inside its image" in told[1]
    assert seen[-1].values["loss"] > 0


def test_closing_saves_and_a_reader_never_sees_a_half_file(tmp_path):
    file = tmp_path / "w.safetensors"
    run = start([marks(0)], Pace(save_every_s=0), save_to=file)
    next(run)
    hashes = set()
    for _ in range(3):
        next(run)
        hashes.add(read_weights(file).sha256)
    assert len(hashes) == 3, "another process reads what there is now"
    run.close()
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".part"]


def test_no_step_begins_after_the_seconds_but_one_is_made():
    seen, _ = finish(start([marks(0)], Pace(epochs=1000, seconds=0.0, ends=True)))
    assert [bool(p.values) for p in seen] == [False, True]


def test_prior_training_comes_first_only_from_nothing():
    config = SMALL.but(prior_training=True, prior_crops=1, prior_learning_rates=(1e-2,))
    seen, weights = finish(start([marks(0)], Pace(epochs=1, ends=True), config))
    assert [set(p.values) for p in seen[1:2]] == [{"prior"}]
    seen, _ = finish(start([marks(0)], Pace(epochs=1, ends=True), config, start=weights))
    assert "prior" not in seen[1].values


def test_bad_beginnings_are_sentences(tmp_path):
    with pytest.raises(WeightsError, match="no such folder"):
        next(start([marks(0)], Pace(), save_to=tmp_path / "no" / "w.safetensors"))
    with pytest.raises(DataError, match="first news must be one"):
        next(start([], Pace()))
    with pytest.raises(DataError, match="nothing to train on"):
        next(start([Tracks.empty()], Pace()))


def test_a_breakdown_leaves_the_saved_weights(tmp_path):
    file = tmp_path / "w.safetensors"
    run = start([marks(0)], Pace(save_every_s=0), save_to=file)
    next(run)
    next(run)
    kept = read_weights(file).sha256
    session = run.gi_yieldfrom.gi_frame.f_locals["self"]
    with torch.no_grad():
        next(session.run.network.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="broke down"):
        next(run)
    assert read_weights(file).sha256 == kept


def test_the_same_news_give_the_same_weights_in_any_order_of_spots():
    config = SMALL.but(seed=3)
    one = finish(start([marks(0, 1)], Pace(epochs=1, ends=True), config))[1]
    assert one.sha256 == finish(start([marks(1, 0)], Pace(epochs=1, ends=True), config))[1].sha256


def test_steps_grow_after_a_start_from_weights_and_shrink_towards_the_pause():
    _, weights = finish(start([marks(0)], Pace(epochs=1, ends=True)))
    run = start([marks(0)], Pace(epochs=20, ends=True), start=weights)  # 40 steps
    rates = []
    for progress in run:
        if progress.values:
            session = run.gi_yieldfrom.gi_frame.f_locals["self"]
            rates.append(session.run.optimiser.param_groups[0]["lr"] / SMALL.learning_rate)
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == pytest.approx(1.0)
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[21:]) < 0).all()
    assert rates[-1] == pytest.approx(0.05)
