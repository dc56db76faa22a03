"""Synthetic embryos: the truth is sound, the images show it, marks resemble it."""

from __future__ import annotations

import numpy as np
import pytest

from bdv_io.image import ImageSeries
from howdah.ellipsoids import equivalent_radius, overlap, radii_and_axes, rasterise
from howdah.errors import ConfigError, DataError
from howdah.synthetic import EmbryoSettings, embryo, marks

SMALL = {"shape": (16, 72, 72), "n_nuclei": 8, "n_divisions": 2}


@pytest.fixture(scope="module")
def movie():
    return embryo(seed=0)


def test_a_frame_is_a_16_bit_stack_and_always_the_same():
    movie, again = embryo(seed=4, **SMALL), embryo(seed=4, **SMALL)
    late = movie.frame(7)
    assert late.shape == (16, 72, 72)
    assert late.dtype == np.uint16
    assert (again.frame(0) == movie.frame(0)).all()
    assert (again.frame(7) == late).all()
    assert (again.truth.centre == movie.truth.centre).all()
    assert (embryo(seed=5, **SMALL).frame(7) != late).any()


@pytest.mark.parametrize("seed", range(6))
def test_the_truth_is_sound(seed):
    truth = embryo(seed=seed).truth.validate()
    assert (np.diff(truth.t) >= 0).all()
    assert (np.diff(truth.t[truth.links], axis=1) == 1).all()
    assert len(truth.divisions()) == 6
    assert truth.n_children().max() == 2
    # nothing vanishes, and nothing comes from nowhere
    assert (truth.n_children()[truth.t < 11] >= 1).all()
    assert (truth.n_parents()[truth.t > 0] == 1).all()
    assert np.bincount(truth.t)[[0, -1]].tolist() == [32, 38]
    assert truth.space_unit == "micrometer"


@pytest.mark.parametrize("seed", range(6))
def test_nuclei_stay_in_the_volume_move_smoothly_and_keep_apart(seed):
    movie = embryo(seed=seed)
    truth = movie.truth
    last_voxel = (np.array(movie.settings.shape) - 1) * movie.settings.voxel_size
    assert (truth.centre > 0).all()
    assert (truth.centre < last_voxel).all()
    steps = np.linalg.norm(np.diff(truth.centre[truth.links], axis=1)[:, 0], axis=1)
    divides = truth.n_children()[truth.links[:, 0]] > 1
    assert np.median(steps[~divides]) < 1.5
    assert steps.max() < 5.0
    i, j = np.triu_indices(truth.n_spots, 1)
    near = (truth.t[i] == truth.t[j]) & (np.linalg.norm(truth.centre[i] - truth.centre[j], axis=1) < 12)
    i, j = i[near], j[near]
    iou, _ = overlap(truth.centre[i], truth.covariance[i], truth.centre[j], truth.covariance[j])
    assert iou.max() < 0.08


def test_nuclei_are_tilted_ellipsoids_of_varying_size(movie):
    radii, axes = radii_and_axes(movie.truth.covariance)
    assert 2.5 < radii.mean() < 4.0
    assert (radii[:, 2] / radii[:, 0]).mean() > 1.1
    assert np.abs(axes[:, 0]).max(axis=1).min() < 0.9


@pytest.mark.parametrize("seed", range(4))
def test_mothers_condense_and_brighten_and_daughters_part(seed):
    movie = embryo(seed=seed)
    truth, light = movie.truth, movie.lineage.brightness
    size = equivalent_radius(truth.covariance)
    parent = np.full(truth.n_spots, -1)
    parent[truth.links[:, 1]] = truth.links[:, 0]
    for mother in truth.divisions():
        before = parent[mother]
        assert light[mother] > 1.2 * light[before]
        assert size[mother] < size[before]
        daughters = truth.links[truth.links[:, 0] == mother, 1]
        names = sorted(truth.label[daughters])
        assert names == [truth.label[mother] + "a", truth.label[mother] + "b"]
        first = np.linalg.norm(np.subtract(*truth.centre[daughters]))
        assert first > size[daughters].sum() * 0.7
        later = truth.links[np.isin(truth.links[:, 0], daughters), 1]
        if len(later) == 2:
            assert np.linalg.norm(np.subtract(*truth.centre[later])) > first


def test_the_image_shows_the_truth_but_not_too_plainly(movie):
    truth, settings = movie.truth, movie.settings
    now = np.flatnonzero(truth.t == 3)
    labels = rasterise(truth.centre[now], truth.covariance[now], settings.shape, voxel_size=settings.voxel_size)
    image = movie.frame(3).astype(float)
    inside, outside = image[labels > 0], image[labels == 0]
    assert inside.mean() > outside.mean() + 40
    # Brighter than its surroundings nearly always, but no single threshold tells nuclei from the rest.
    wrong = [((inside <= level).sum() + (outside > level).sum()) / (labels > 0).sum() for level in range(100, 300, 5)]
    assert 0.2 < min(wrong) < 0.9


def test_light_is_lost_with_depth():
    movie = embryo(seed=1, attenuation_um=15.0, **SMALL)
    image = movie.frame(0).astype(float) - movie.settings.offset
    assert image[2:5].mean() > 1.5 * image[-5:-2].mean()


def test_the_movie_is_an_image_series():
    image = embryo(seed=1, n_frames=2, **SMALL).image()
    assert isinstance(image, ImageSeries)
    assert image.n_frames == 2
    assert image.setups[0].voxel_size == (2.0, 0.5, 0.5)
    assert image.interval == (120.0, "second")


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5])
def test_short_movies_have_fewer_divisions_or_none(n_frames):
    movie = embryo(seed=2, n_frames=n_frames, **SMALL)
    assert movie.truth.n_frames == n_frames
    assert len(movie.truth.divisions()) <= max(n_frames - 3, 0) * 2
    assert movie.frames().shape == (n_frames, 16, 72, 72)


def test_marks_are_some_of_the_truth_a_little_off(movie):
    marked = marks(movie, 10, seed=3)
    assert marked.validate().n_spots == 10
    assert (marked.t == 0).all()
    assert marked.label.tolist() == [None] * 10
    truth = movie.truth.select(np.flatnonzero(np.isin(movie.truth.id, marked.id)))
    off = np.linalg.norm(marked.centre - truth.centre, axis=1)
    assert 0 < off.mean() < 0.7
    iou, _ = overlap(marked.centre, marked.covariance, truth.centre, truth.covariance)
    assert 0.6 < iou.mean() < 0.99
    assert marks(movie, 10, seed=3).centre.tolist() == marked.centre.tolist()
    assert set(marks(movie, 10, seed=4).id) != set(marked.id)


def test_marks_may_be_spread_over_frames_and_followed(movie):
    spread = marks(movie, 10, frames=range(5))
    assert np.bincount(spread.t).tolist() == [2] * 5
    assert spread.n_links <= 8
    followed = marks(movie, 4, frames=[2], follow=3)
    assert np.bincount(followed.t)[2] == 4
    assert set(followed.t) == {2, 3, 4}
    assert followed.n_links == followed.n_spots - 4


def test_what_cannot_be_grown_is_refused(movie):
    with pytest.raises(ConfigError, match="Did you mean 'n_nuclei'"):
        embryo(n_nucleus=3)
    with pytest.raises(ConfigError, match="too small for nuclei"):
        embryo(shape=(4, 64, 64))
    with pytest.raises(ConfigError, match="at most"):
        EmbryoSettings.of({"n_nuclei": 900})
    with pytest.raises(DataError, match="frames 0 to 11"):
        movie.frame(12)
    with pytest.raises(DataError, match="have 32"):
        marks(movie, 33)
