import numpy as np
import pytest
import torch

from howdah.ellipsoids import radii_and_axes, runs_of, transform
from howdah.errors import DataError, WeightsError
from howdah.methods import SpotDetector
from howdah.methods.elephant.box import box_around, in_box
from howdah.methods.elephant.calibration import DEFAULT, Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.network import UNet
from howdah.methods.elephant.predict import Detector, read_weights, spots_from_probability
from howdah.nn.checkpoint import Weights

CONFIG = ElephantConfig(r_min=1, r_max=100, suppression_distance=1, device="cpu", precision="float32")


def cores(centre, covariance, shape, ratio=0.4):
    probability = np.full(shape, 0.1, np.float32)
    flat, _ = runs_of(np.asarray(centre), np.asarray(covariance) * ratio**2, shape, min_voxels=1).voxels()
    probability.reshape(-1)[flat] = 0.8
    return probability


def random_shapes(radii, seed, n):
    turns = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, 3, 3)))[0]
    return turns @ np.diag(np.array(radii, float) ** 2) @ turns.transpose(0, 2, 1)


@pytest.mark.parametrize(
    ("radii", "tolerance"), [((8, 8, 8), 0.03), ((12, 12, 12), 0.02), ((25, 25, 25), 0.01), ((8, 11, 14), 0.03)]
)
def test_sizes_come_back(radii, tolerance):
    rng = np.random.default_rng(0)
    ratios = []
    for covariance in random_shapes(radii, 1, 40):
        centre = 16 + rng.uniform(-0.5, 0.5, 3)
        spots = spots_from_probability(cores([centre], [covariance], (33, 33, 33)), CONFIG, affine=np.eye(4))
        assert len(spots) == 1
        np.testing.assert_allclose(spots.centre[0], centre, atol=0.4)
        ratios.append(radii_and_axes(spots.covariance)[0][0] / np.sort(radii))
    assert np.mean(ratios) == pytest.approx(1, abs=tolerance)
    assert np.mean(np.prod(ratios, axis=1)) == pytest.approx(1, abs=tolerance)


def test_world_coordinates_and_anisotropy():
    affine = np.array([[2.0, 0, 0, 10], [0, 1, 0, -3], [0, 0, 1, 5], [0, 0, 0, 1]])
    world = np.diag([12.0, 14, 18])[None] ** 2
    centre, covariance = transform(np.array([[70.0, 20, 30]]), world, np.linalg.inv(affine))
    spots = spots_from_probability(cores(centre, covariance, (60, 60, 60)), CONFIG, affine=affine)
    np.testing.assert_allclose(spots.centre, [[70, 20, 30]], atol=0.5)
    np.testing.assert_allclose(np.sqrt(np.diagonal(spots.covariance[0])), [12, 14, 18], rtol=0.15)
    assert spots.quality == pytest.approx(0.8)


def test_an_image_of_one_slice_gives_discs_made_round():
    probability = cores([[0, 30, 30]], np.diag([1.0, 400, 225])[None], (1, 61, 61))
    spots = spots_from_probability(probability, CONFIG, affine=np.eye(4))
    axes = np.sqrt(np.diagonal(spots.covariance[0]))
    assert axes[1:] == pytest.approx([20, 15], rel=0.05)
    assert axes[0] == pytest.approx((20 * 15) ** 0.5, rel=0.05)


@pytest.mark.parametrize("depth", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("edge", [0.5, 1.0, 3.0])
def test_a_disc_is_as_thick_as_wide_whatever_the_depth_of_the_slice(depth, edge):
    probability = cores([[0, 30, 30]], np.diag([1.0, 400, 400])[None], (1, 61, 61))
    limits = CONFIG.but(r_min=18 * edge, r_max=22 * edge)
    spots = spots_from_probability(probability, limits, affine=np.diag([depth, edge, edge, 1]))
    assert radii_and_axes(spots.covariance)[0] == pytest.approx(20 * edge * np.ones((1, 3)), rel=0.05)
    assert spots.centre == pytest.approx(np.array([[0, 30, 30]]) * edge)


def test_a_disc_of_a_turned_slice_stands_on_its_plane():
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([7.0, 1, 2])
    probability = cores([[0, 30, 30]], np.diag([1.0, 400, 400])[None], (1, 61, 61))
    spots = spots_from_probability(probability, CONFIG, affine=affine)
    assert radii_and_axes(spots.covariance)[0][0] == pytest.approx([20, 20 * 2**0.5, 40], rel=0.05)
    assert abs(turn[:, 0] @ spots.covariance[0] @ turn[:, 0]) == pytest.approx(800, rel=0.1)


def test_radius_limits():
    probability = cores([[16, 16, 16]], np.eye(3)[None] * 100, (33, 33, 33))
    assert not len(spots_from_probability(probability, CONFIG.but(r_min=20), affine=np.eye(4)))
    clamped = spots_from_probability(probability, CONFIG.but(r_max=5), affine=np.eye(4))
    np.testing.assert_allclose(radii_and_axes(clamped.covariance)[0], 5)


def test_a_single_voxel_has_a_size():
    probability = np.zeros((5, 5, 5), np.float32)
    probability[2, 2, 2] = 1
    spots = spots_from_probability(probability, CONFIG, affine=np.eye(4))
    assert radii_and_axes(spots.covariance)[0][0] == pytest.approx((3 / (4 * np.pi)) ** (1 / 3) / 0.4)


def test_threshold_is_strict_and_nothing_is_no_spots():
    probability = np.full((4, 4, 4), 0.5, np.float32)
    assert len(spots_from_probability(probability, CONFIG, affine=np.eye(4))) == 0


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(1)
    return Weights((UNet().state_dict(),), {"method": "elephant-detection"})


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 500, (6, 40, 70)).astype(np.uint16)


def test_a_detector_is_a_spot_detector(weights):
    assert isinstance(Detector(weights, CONFIG), SpotDetector)


def test_probabilities_have_the_size_of_the_frame(weights, image):
    centre = Detector(weights, CONFIG).predict_centre(image, np.diag([4.0, 1, 1, 1])).image
    assert centre.shape == image.shape
    assert (centre >= 0).all()
    assert (centre <= 1).all()


def test_tiles_stay_probabilities_and_have_no_seam(weights, image):
    image = np.tile(image, (1, 2, 3))
    whole = Detector(weights, CONFIG).predict_centre(image, np.diag([4.0, 1, 1, 1])).image
    tiled = Detector(weights, CONFIG.but(tile_size=(6, 80, 144))).predict_centre(image, np.diag([4.0, 1, 1, 1])).image
    assert tiled.shape == whole.shape
    assert (tiled <= 1).all()
    assert (
        np.corrcoef(whole.ravel(), tiled.ravel())[0, 1] > 0.75
    )  # norms see the tile: alike, not equal (untrained weights on noise)


def test_tiling_is_told_once_with_the_memory_that_avoids_it(weights, image, caplog):
    detector = Detector(weights, CONFIG.but(tile_size=(6, 32, 48)))
    for _ in range(2):
        detector.predict_centre(image, np.diag([4.0, 1, 1, 1]))
    said = [record.getMessage() for record in caplog.records if record.name == "howdah"]
    assert len(said) == 1
    assert "tiles of 8 x 32 x 48 voxels" in said[0]
    assert "about 358 MiB (memory_mb)" in said[0]


def test_one_tile_says_nothing(weights, image, caplog):
    Detector(weights, CONFIG).predict_centre(image, np.eye(4))
    assert not caplog.records


def test_an_ensemble_is_the_mean_of_its_members(weights, image):
    torch.manual_seed(2)
    other = Weights((UNet().state_dict(),))
    both = Weights((*weights.members, *other.members))
    single = [Detector(w, CONFIG).predict_centre(image, np.eye(4)).image for w in (weights, other)]
    np.testing.assert_allclose(
        Detector(both, CONFIG).predict_centre(image, np.eye(4)).image, np.mean(single, 0), atol=1e-5
    )


def test_a_published_file_loads_and_runs(weights, image, tmp_path):
    torch.save([weights.members[0]], tmp_path / "detection.pth")
    read = read_weights(tmp_path / "detection.pth")
    found = Detector(read, CONFIG).predict_centre(image, np.eye(4)).image
    np.testing.assert_array_equal(found, Detector(weights, CONFIG).predict_centre(image, np.eye(4)).image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_frame_with_values_that_are_no_numbers_is_a_sentence(weights, image, value):
    broken = image.astype(np.float32)
    broken[3, 4, 5] = value
    with pytest.raises(DataError, match=r"no numbers .* Replace them"):
        Detector(weights, CONFIG).predict_centre(broken, np.eye(4))


def trained(weights, **settings):
    resolved = ElephantConfig(**settings).model_dump(mode="json")
    return Weights(weights.members, {"method": "elephant-detection", "resolved": resolved})


def test_without_settings_those_of_the_training_count(weights, caplog):
    found = Detector(
        trained(weights, threshold=0.3, n_keep_axials=2, r_max=7, normalisation="percentile", memory_mb=2000)
    ).config
    assert (found.threshold, found.n_keep_axials, found.r_max, found.normalisation) == (0.3, 2, 7, "percentile")
    assert found.memory_mb is None
    assert not caplog.records


@pytest.mark.parametrize("header", [[1, 2], "text", 3, None])
def test_a_header_without_settings_is_a_sentence(weights, header):
    with pytest.raises(WeightsError, match="'resolved' shall hold the settings"):
        Detector(Weights(weights.members, {"resolved": header}), CONFIG)


def test_settings_that_do_not_fit_the_training_are_told(weights, caplog):
    learned = trained(weights, centre_ratio=0.3, n_keep_axials=2)
    assert Detector(learned, CONFIG.but(centre_ratio=0.3)).config.n_keep_axials == 2
    assert not caplog.records
    Detector(learned, CONFIG.but(n_keep_axials=1))
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "centre_ratio = 0.3, but 0.4 is set" in said
    assert "n_keep_axials = 2, but 1 is set" in said
    assert "normalisation" not in said


def test_a_frame_must_have_three_axes(weights, image):
    with pytest.raises(DataError, match=r"found shape \(40, 70\)"):
        Detector(weights, CONFIG).predict_spots(image[0], np.eye(4))


AFFINE = np.diag([4.0, 1, 1, 1])


def test_mirrored_frames_are_averaged(weights, image):
    detector = Detector(weights, CONFIG.but(test_time_flips=True, n_keep_axials=2))
    image = image[:4, :16, :32]
    found = detector.predict_centre(image, AFFINE).image
    for axis in (1, 2):  # the average does not care which way round the frame is
        mirrored = detector.predict_centre(np.flip(image, axis).copy(), AFFINE).image
        np.testing.assert_allclose(np.flip(mirrored, axis), found, atol=1e-4)
    assert np.abs(found - Detector(weights, CONFIG).predict_centre(image, AFFINE).image).max() > 1e-3


def test_a_frame_too_large_for_the_network_at_once_gives_the_same(weights, image, monkeypatch, caplog):
    whole = Detector(weights, CONFIG).predict_centre(image, AFFINE).image
    monkeypatch.setattr("howdah.methods.elephant.predict.BYTES_PER_VOXEL", 1e12)
    streamed = Detector(weights, CONFIG.but(n_keep_axials=2)).predict_centre(image, AFFINE).image
    np.testing.assert_allclose(streamed, whole, atol=1e-3)  # untrained weights on noise
    assert not caplog.records


def blobs(shape=(8, 96, 160), n=40, seed=2):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 1, (n, 3)) * np.array(shape)
    flat = runs_of(centre, np.tile(np.diag([1.5, 25, 25.0]), (n, 1, 1)), shape).flat()
    image = rng.normal(100, 3, shape)
    image.reshape(-1)[flat] += 80
    return image.astype(np.uint16)


class Bright(torch.nn.Module):
    """A network that takes bright voxels for centres, and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, flags):
        self.seen.append(tuple(x.shape[2:]))
        centre = x.clamp(0.01, 0.98)
        return torch.cat([0.99 - centre, torch.full_like(x, 0.01), centre], dim=1).log()


@pytest.mark.parametrize("tile", [None, (8, 64, 64)])
def test_a_box_gives_what_the_whole_frame_gives_in_it(weights, tile):
    detector = Detector(weights, CONFIG.but(tile_size=tile, split=False, n_keep_axials=3))
    detector.networks = [Bright()]
    frame, box = blobs(), box_around((16.0, 15, 15), (24, 30, 30))
    whole = detector.predict_spots(frame, AFFINE)
    computed = sum(map(np.prod, detector.networks[0].seen))
    detector.networks[0].seen.clear()
    part = detector.predict_spots(frame, AFFINE, box=box)
    inside = whole.take(np.flatnonzero(in_box(whole.centre, box)))
    assert 0 < len(part) < len(whole)
    np.testing.assert_allclose(part.centre, inside.centre, atol=1e-6)
    np.testing.assert_allclose(part.covariance, inside.covariance, atol=1e-6)
    np.testing.assert_allclose(part.quality, inside.quality, atol=1e-6)
    assert sum(map(np.prod, detector.networks[0].seen)) < 0.75 * computed


def test_tiles_that_touch_a_box_give_just_the_result_of_the_frame(weights):
    detector = Detector(weights, CONFIG.but(tile_size=(8, 64, 64), n_keep_axials=3))
    detector.networks = [Bright()]
    region = (slice(0, 8), slice(30, 60), slice(40, 70))
    image = blobs().astype(np.float32) / 200
    layout = detector.layout(image.shape, AFFINE)
    assert layout.flags == (True, True, True, False)
    whole = detector._probabilities(image, layout, (0, 2))
    part = detector._probabilities(image, layout, (0, 2), only=region)
    np.testing.assert_array_equal(part[(slice(None), *region)], whole[(slice(None), *region)])
    assert (part[:, :, :, 150:] == 0).all()


def test_a_box_beside_the_frame_holds_nothing(weights, image):
    assert len(Detector(weights, CONFIG).predict_spots(image, AFFINE, box=box_around((0, -500, 0), 3))) == 0


def test_the_background_is_asked_for_only_where_it_is_needed(weights, image, monkeypatch):
    given, asked = [], Detector._probabilities

    def told(self, image, flags, classes, **options):
        given.append(classes)
        return asked(self, image, flags, classes, **options)

    monkeypatch.setattr(Detector, "_probabilities", told)
    Detector(weights, CONFIG).predict_spots(image, AFFINE)
    Detector(weights, CONFIG.but(denoise_edges=True)).predict_spots(image, AFFINE)
    assert given == [(2,), (2, 0)]


def test_the_calibration_of_the_weights_counts(weights):
    kept = Calibration((1.0, 0.0, 0.0, 0.0, 0.0), 5)
    assert Detector(Weights(weights.members, {"calibration": kept.to_header()}), CONFIG).calibration == kept
    assert Detector(weights, CONFIG).calibration == DEFAULT


def test_nuclei_are_lifted_after_denoising(monkeypatch):
    detector = Detector(
        Weights((UNet().state_dict(),)),
        CONFIG.but(denoise_edges=True, guess_height=0.1, nucleus_size=(3, 3, 3), split=False),
    )
    centre = np.full((8, 32, 32), 0.2, np.float32)
    background = np.zeros((8, 32, 32), np.float32)
    background[:, :, 18:] = 1  # an edge through the nucleus
    monkeypatch.setattr(detector, "_probabilities", lambda *_: np.stack([centre, background]))
    grid = np.stack(np.meshgrid(*map(np.arange, centre.shape), indexing="ij"), -1)
    image = np.exp(-((grid - [4, 16, 16]) ** 2).sum(-1) / 18)
    away = np.abs(detector.predict_spots(image, np.eye(4)).centre - [4, 16, 16]).max(axis=1)
    assert (away < 1).sum() == 1
