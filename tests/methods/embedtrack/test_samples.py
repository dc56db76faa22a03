from dataclasses import replace

import numpy as np
import pytest
from methods.embedtrack.cells import SHAPE, frame, movie

from howdah.errors import DataError
from howdah.methods.annotation import Annotation
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.samples import Samples

PLAIN = EmbedTrackConfig(
    crop_size=(24, 24),
    batch_size=2,
    n_epochs=2,
    enlarge=1,
    validation_share=0,
    clahe_probability=0,
    blur_probability=0,
    noise_probability=0,
    shift_probability=0,
    flip=False,
    rotate=False,
)


def samples(annotation=None, **changes):
    drawn = Samples(annotation or movie(), PLAIN.but(**changes))
    drawn.resolved()
    return drawn


def batches(drawn):
    return [drawn.batch(step) for step in range(drawn.steps)]


def test_a_step_gives_the_same_crops_whenever_it_is_asked():
    first = samples(shift_probability=0.5, noise_probability=1, rotate=True).batch(3)
    again = samples(shift_probability=0.5, noise_probability=1, rotate=True).batch(3)
    np.testing.assert_array_equal(first.later, again.later)
    np.testing.assert_array_equal(first.earlier, again.earlier)
    assert first.targets.centre.equal(again.targets.centre)
    other = samples(shift_probability=0.5, noise_probability=1, rotate=True, seed=1).batch(3)
    assert not np.array_equal(first.later, other.later)


def test_coverage_says_in_how_many_crops_a_pixel_is():
    annotation = movie(4)
    pixels = 4 * np.prod(SHAPE[-2:])
    drawn = samples(annotation, coverage=11.0, n_epochs=1)
    assert drawn.steps * 2 * 24 * 24 == pytest.approx(11 * pixels, rel=0.1)


@pytest.mark.parametrize("n_frames", [2, 4])
def test_each_pass_sees_every_cell(n_frames):
    drawn = samples(movie(n_frames), n_epochs=3)
    for epoch in range(3):
        times, starts = drawn._plan_of(epoch)
        assert len(times) % 2 == 0
        cells = drawn.store.cells
        inside = [
            ((cells.centre[i] >= starts) & (cells.centre[i] < starts + 24)).all(axis=1)[times == cells.time[i]].any()
            for i in range(len(cells))
        ]
        assert all(inside)


def test_crops_lie_in_their_frames():
    drawn = samples()
    times, starts = drawn._plan_of(0)
    assert set(times.tolist()) == {0, 1, 2, 3}
    assert (starts >= 0).all()
    assert (starts + 24 <= SHAPE[1:]).all()


def test_the_targets_of_a_pair_are_the_cells_of_the_whole_frame():
    drawn = samples()
    cells = drawn.store.cells
    for batch in batches(drawn):
        targets = batch.targets
        assert targets.known[:2].all()
        step = (targets.centre - targets.earlier)[targets.tracked].abs().max() if targets.tracked.any() else 0
        assert step <= 17  # the larger of the two steps of the division
        assert batch.later.shape == (2, 1, 24, 24)
    assert len(cells) == 2 + 2 + 3 + 3


def test_a_first_frame_teaches_no_tracking_but_what_a_shift_does():
    one = movie(1)
    assert not any(batch.targets.tracked.any() for batch in batches(samples(one)))
    first = samples(one).batch(0)
    assert not first.targets.known[2:].any()  # nothing is learned twice from the same image
    shifted = samples(one, shift_probability=1, shift_range=0.2)
    moves = []
    for batch in batches(shifted):
        targets = batch.targets
        assert targets.tracked[(targets.image < 2) & targets.seen].all()
        moves.append((targets.centre - targets.earlier)[targets.tracked].numpy())
    moves = np.concatenate(moves)
    assert 0 < np.abs(moves).max() <= 0.2 * 24
    assert np.allclose(moves, moves.round())


def test_a_shifted_image_is_where_its_target_says():
    drawn = samples(movie(1), shift_probability=1, shift_range=0.2)
    checked = 0
    for batch in batches(drawn):
        targets = batch.targets
        for row in np.flatnonzero(targets.tracked.numpy()):
            item = int(targets.image[row])
            here, there = (v[row].round().int().tolist() for v in (targets.centre, targets.earlier))
            if all(0 <= c < 24 for c in there):
                assert batch.later[item, 0, here[0], here[1]] == batch.earlier[item, 0, there[0], there[1]]
                checked += 1
    assert checked > 3


def test_a_frame_smaller_than_the_crop_is_padded_and_the_rest_unknown():
    drawn = samples(movie(2, shape=(1, 40, 44)), crop_size=(64, 64), shift_probability=0.5)
    for batch in batches(drawn):
        assert batch.later.shape == (2, 1, 64, 64)
        assert 0 < batch.targets.known.float().mean() <= 40 * 44 / 64**2
        assert batch.targets.seen.any()


def test_the_last_frames_are_for_validation_only():
    drawn = samples(movie(5), validation_share=0.4)
    assert drawn.times == [0, 1, 2]
    assert drawn.validation_times == [3, 4]
    assert set(drawn._plan_of(0)[0].tolist()) <= {0, 1, 2}
    held = drawn.held()
    assert len(held) == 2
    assert held[0].links.tolist() == [[1, 1], [3, 3], [4, 4]]
    assert held[0].batch.later.shape[2:] == (48, 72)  # whole crops that hold the frame of 48 x 56


def test_without_cells_in_the_last_frames_there_is_no_validation():
    plain = movie(4)
    bare = replace(plain, labels=lambda t: plain.labels(t) * (t < 3))
    assert samples(bare, validation_share=0.25).validation_times == []


def test_small_cells_are_enlarged_and_the_targets_with_them():
    drawn = samples(enlarge=None, crop_size=None)
    assert drawn.config.enlarge == 3  # cells of 49 pixels are 8 wide
    assert drawn.config.min_size == 24
    assert drawn.store.shapes[0] == (144, 168)
    cells = drawn.store.cells
    first = cells.centre[0]
    labels = drawn.store.frame(0).labels
    assert labels[tuple(first.astype(int))] == 1
    np.testing.assert_allclose(np.argwhere(labels == 1).mean(axis=0), first, atol=1e-6)
    assert drawn.store.voxel_size == (1 / 3, 1 / 3)


def test_sparse_annotation_knows_cells_a_ring_and_what_is_dark():
    drawn = samples(movie(complete=False), dark_quantile=0.0, ring_width=3.0)
    known, labels = drawn.store.frame(0).known, drawn.store.frame(0).labels
    assert known[labels > 0].all()
    assert 0.05 < known.mean() < 0.4
    assert known[12, 12 + 7]  # 3 pixels from the edge of a disk with radius 4
    assert not known[12, 12 + 9]
    darker = samples(movie(complete=False), dark_quantile=0.25, ring_width=3.0).store.frame(0)
    assert darker.known.mean() > known.mean()
    assert drawn.config.annotation == "sparse"


def test_dark_cells_say_nothing_of_dark_pixels():
    plain = movie(complete=False)
    dark = replace(plain, frames=lambda t: 1000 - plain.frames(t))
    drawn = samples(dark, dark_quantile=0.25, ring_width=3.0)
    assert drawn.store.frame(0).known.mean() < 0.4


def test_cells_without_a_former_one_are_new_where_annotation_is_complete():
    plain = movie(2)
    one = replace(plain, earlier={1: np.array([[1, 1]])})  # the other has none

    def tracked(annotation):
        targets = [batch.targets for batch in batches(samples(annotation))]
        moved = [t.earlier[t.tracked] - t.centre[t.tracked] for t in targets]
        return {tuple(way) for rows in moved for way in rows.tolist()}

    assert tracked(one) == {(-1.0, -2.0), (0.0, 0.0)}
    assert tracked(replace(one, complete=False)) == {(-1.0, -2.0)}
    assert tracked(replace(plain, earlier={})) == set()  # nobody linked: nothing is known of movement


def test_volumes_and_their_z():
    drawn = Samples(movie(3, shape=(12, 40, 40), voxel_size=(2.0, 1.0, 1.0)), PLAIN.but(crop_size=None, enlarge=None))
    config = drawn.resolved()
    assert drawn.n_dims == 3
    assert config.keep_axials == 1
    assert config.enlarge == 1
    assert config.crop_size is not None
    assert config.crop_size[0] % 4 == 0
    batch = drawn.batch(0)
    assert batch.later.shape == (2, 1, *config.crop_size)
    assert batch.targets.centre.shape[1] == 3


def test_cells_that_have_just_divided_are_taken_more_often():
    drawn = samples()
    cells = drawn.store.cells
    divided = (cells.time == 2) & (cells.label > 2)
    assert divided.sum() == 2
    np.testing.assert_allclose(drawn._chances[divided], 4 * drawn._chances[~divided][0])


def test_the_ways_of_cells_are_measured_along_their_links():
    store = samples().store
    np.testing.assert_allclose(store.moves([1]), [np.hypot(1, 2), 0.0])
    np.testing.assert_allclose(store.moves([2])[1:], [np.hypot(8, 2), np.hypot(6, 6)])
    assert len(store.moves([0])) == 0


def test_nothing_to_train_on_is_told():
    plain = movie(2)
    with pytest.raises(DataError, match="no cell is outlined in 2 annotated frames"):
        Samples(replace(plain, labels=lambda t: np.zeros(SHAPE, dtype=int)), PLAIN)
    with pytest.raises(DataError, match="has 3 numbers, but the movie has 2"):
        samples(crop_size=(8, 8, 8))
    mixed = Annotation(
        lambda t: frame({1: (0, 9, 9)}, (1 + t, 24, 24))[0],
        lambda t: frame({1: (0, 9, 9)}, (1 + t, 24, 24))[1],
        (0, 1),
        {},
        complete=True,
    )
    with pytest.raises(DataError, match="one plane and others more"):
        Samples(mixed, PLAIN)


def test_frames_that_do_not_fit_into_memory_are_read_in_groups():
    drawn = samples(movie(6), n_crops=24, memory_mb=0.001)
    assert drawn.store.fits == 2
    times = drawn._plan_of(0)[0]
    assert (np.diff(times) != 0).sum() == 5  # each frame once
    assert len(drawn.store._kept) <= 2


def test_crops_do_not_hang_on_the_memory_that_is_free(monkeypatch):
    plans = []
    for free in (0.001, 1000.0):
        monkeypatch.setattr("howdah.methods.embedtrack.frames.free_memory_mb", lambda free=free: free)
        plans.append(samples(movie(6), n_crops=24)._plan_of(0)[0])
    np.testing.assert_array_equal(*plans)
