import numpy as np
import pytest
from methods.efficientcellseg.disks import annotation, disks

from howdah.errors import DataError
from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.samples import Samples

PLAIN = EfficientCellSegConfig(encoder="lite0", enlarge=1, crop_size=48, n_crops=8, batch_size=4)
STILL = PLAIN.but(
    flip=False, rotate=False, scale_range=0.0, intensity_range=0.0, blur_probability=0.0, noise_probability=0.0
)


def test_settings_follow_from_the_cells():
    config = Samples(annotation(3), EfficientCellSegConfig(encoder="lite0")).config
    assert config.enlarge == 2  # 15 pixels become 30
    assert config.crop_size == 112  # four cells
    assert config.min_size == 74
    assert config.annotation == "complete"
    assert config.ring_width == pytest.approx(3.4, abs=0.4)
    assert config.colour_area == pytest.approx(2 * 4 * 149 / 64**2, rel=0.02)


def test_settings_that_are_given_stay():
    config = Samples(annotation(3), PLAIN.but(min_size=3, ring_width=1.0, colour_area=0.5)).config
    assert (config.enlarge, config.crop_size, config.min_size) == (1, 48, 3)
    assert (config.ring_width, config.colour_area) == (1.0, 0.5)


def test_the_same_step_gives_the_same_crops():
    one, other = Samples(annotation(2), PLAIN), Samples(annotation(2), PLAIN)
    assert np.array_equal(one.batch(3).picture, other.batch(3).picture)
    assert not np.array_equal(one.batch(3).picture, one.batch(4).picture)


def test_crops_have_pictures_and_targets_that_fit():
    samples = Samples(annotation(3), STILL)
    for step in range(samples.steps_a_pass):
        batch = samples.batch(step)
        assert batch.picture.shape == (4, 3, 48, 48)
        assert batch.picture.dtype == np.float32
        assert 0 <= batch.picture.min() <= batch.picture.max() <= 1
        bright = batch.picture[:, 0] > 0.5
        assert np.mean(bright == (batch.cell > 0)) > 0.97
        assert set(np.unique(batch.cell)) <= {0, 1}
        assert batch.known.all()
        assert batch.heat.max() == 1


def test_turns_and_scales_change_picture_and_targets_together():
    samples = Samples(annotation(3), PLAIN.but(intensity_range=0.0, blur_probability=0.0, noise_probability=0.0))
    for step in range(3):
        batch = samples.batch(step)
        bright = batch.picture[:, 0] > 0.5
        assert np.mean(bright == (batch.cell > 0)) > 0.95


def test_frames_of_different_sizes_and_smaller_than_a_crop():
    made = [
        disks((1, 64, 64)),
        disks((1, 40, 90), centres=((20, 20), (20, 60))),
        disks((1, 30, 30), centres=((15, 15),)),
    ]
    mixed = Annotation(lambda t: made[t][0], lambda t: made[t][1], (0, 1, 2), {}, True)
    samples = Samples(mixed, STILL.but(validation_share=0.0, n_crops=40))
    known = [samples.batch(step).known.mean(axis=(1, 2)) for step in range(10)]
    small = 30 * 30 / 48**2
    assert np.min(known) == pytest.approx(small, rel=1e-6)
    assert np.max(known) == 1


def test_of_one_frame_a_strip_is_kept_that_no_crop_shows():
    image, labels = disks((1, 64, 160), centres=[(y, x) for y in (16, 46) for x in (16, 40, 64, 88, 112, 136)])
    image[:, :, 128:] = 5000.0  # what is kept is bright, all else dark
    one = Annotation(lambda _: image, lambda _: labels, (0,), {}, True)
    samples = Samples(one, STILL.but(percentiles=(0.0, 100.0), scale_range=0.2, n_crops=40))
    assert [part.low for part in samples.held_back] == [(0, 128)]
    assert samples.learned[0].high[1] <= 128 - 7
    assert samples.validation_times == []
    for step in range(10):
        assert samples.batch(step).picture.max() < 0.5
    held = samples.held()
    assert held[0].known.any()
    assert np.all(held[0].picture[:, 0][held[0].known > 0] > 0.5)


def test_of_more_frames_the_last_ones_are_kept():
    samples = Samples(annotation(5), PLAIN)
    assert samples.validation_times == [4]
    assert set(samples.learned) == {0, 1, 2, 3}
    assert len(samples.held()) == 1


def test_three_cells_are_all_learned_from():
    few = annotation(1, centres=((16, 16), (16, 46), (44, 20)), complete=False)
    samples = Samples(few, PLAIN)
    assert samples.held() == []
    batch = samples.batch(0)
    assert 0 < batch.known.mean() < 1
    assert samples.config.annotation == "sparse"


def test_volumes_are_cut_plane_by_plane_mostly_where_cells_are():
    volume = annotation(1, shape=(7, 64, 64), voxel_size=(3.0, 1.0, 1.0))
    samples = Samples(volume, STILL.but(n_crops=40, validation_share=0.0))
    with_cells = np.concatenate([samples.batch(step).cell.any(axis=(1, 2)) for step in range(10)])
    assert with_cells.mean() > 0.8
    held = Samples(annotation(3, shape=(7, 64, 64)), STILL).held()
    assert [batch.cell.any() for batch in held] == [True] * 5  # the planes with cells


def test_planes_that_are_not_annotated_are_not_learned():
    image, labels = disks((7, 64, 64))
    labels[[1, 2, 4, 5]] = 0
    one = Annotation(lambda _: image, lambda _: labels, (0,), {}, True, planes={0: (3, 6)})
    samples = Samples(one, STILL.but(validation_share=0.0, n_crops=40))
    assert np.mean([samples.batch(step).known.all() for step in range(10)]) == 1
    assert samples.store.frame(0)[:, 5].mean(axis=(1, 2)).tolist() == [0, 0, 0, 1, 0, 0, 1]


def test_squeezed_frames_fill_the_square():
    samples = Samples(annotation(1, shape=(1, 40, 64)), STILL.but(fit_frame=True, input_size=96, crop_size=None))
    assert samples.crop == 96
    assert samples.store.shapes[0] == (1, 96, 96)
    windows = STILL.but(fit_frame=True, input_size=48, crop_size=None, grid=(1, 2), compat=("plain_grid",))
    samples = Samples(annotation(1, shape=(1, 40, 64)), windows)
    assert samples.crop == 48
    assert samples.store.shapes[0] == (1, 48, 96)


def test_no_cells_are_an_error():
    with pytest.raises(DataError, match="no cell is outlined in 2 annotated frames"):
        Samples(annotation(2, centres=()), PLAIN)


def test_images_beside_volumes_are_coloured_as_volumes_are():
    made = [disks((1, 64, 64)), disks((5, 64, 64))]
    mixed = Annotation(lambda t: made[t][0], lambda t: made[t][1], (0, 1), {}, True)
    samples = Samples(mixed, STILL)
    assert samples.config.colour == "context"
    assert samples.store.frame(0)[:, :3].max() == 0.5
