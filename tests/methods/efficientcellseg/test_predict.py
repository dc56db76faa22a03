"""Prediction: maps of a frame, the same whether in tiles, planes, views or at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.maps import Maps
from howdah.methods.efficientcellseg.network import EfficientCellSeg
from howdah.methods.efficientcellseg.picture import picture
from howdah.methods.efficientcellseg.predict import Network
from howdah.methods.efficientcellseg.weights import network_of as network_of_weights
from howdah.nn.checkpoint import Weights

EXACT = {"device": "cpu", "precision": "float32", "input_size": 64}
BOTH = [["cell", "centre"]]
FILTERS = [8, 8, 8, 8]


def network_of(outputs: int = 2, *, seed: int = 0) -> EfficientCellSeg:
    """A small network of random weights whose norms and output do something."""
    torch.manual_seed(seed)
    network = EfficientCellSeg("lite0", filters=FILTERS, outputs=outputs).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    nn.init.normal_(network.last.weight, 0, 3)
    return network


def weights_of(*networks: EfficientCellSeg, outputs: Any = None, **header: Any) -> Weights:
    form = {"encoder": "lite0", "filters": FILTERS, "outputs": outputs or BOTH * len(networks)}
    return Weights(tuple(n.state_dict() for n in networks), {"method": "efficientcellseg", "network": form, **header})


@pytest.fixture(scope="module")
def weights() -> Weights:
    return weights_of(network_of())


@pytest.fixture(scope="module", autouse=True)
def _each_network_is_built_once() -> Iterator[None]:
    built: dict[tuple[int, int], tuple[Weights, nn.Module]] = {}

    def once(weights: Weights, member: int) -> nn.Module:
        key = (id(weights.members[member]["last.weight"]), member)
        if key not in built:
            built[key] = (weights, network_of_weights(weights, member))
        return built[key][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("howdah.methods.efficientcellseg.predict.network_of", once)
        yield


def noise(*shape: int, seed: int = 0, upto: int = 1000) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, upto, shape).astype(np.uint16)


def predictor(weights: Weights, **settings: Any) -> Network:
    return Network(weights, EfficientCellSegConfig.of({**EXACT, **settings}))


def same(a: Maps, b: Maps, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(a.cell, b.cell, atol=atol)
    assert (a.centre is None) == (b.centre is None)
    if a.centre is not None and b.centre is not None:
        np.testing.assert_allclose(a.centre, b.centre, atol=atol)


class Blurred(nn.Module):
    """Stands for a network without squeeze and excitation: what it says of a pixel hangs on its neighbourhood alone; and it turns with
    the picture."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = nn.functional.avg_pool2d(image.mean(1, keepdim=True), 5, 1, 2, count_include_pad=False)
        return torch.cat([mean * 8 - 4 - channel for channel in range(self.outputs)], dim=1)


def faked(network: Network) -> Network:
    network.members = [(Blurred(len(given)), given) for _, given in network.members]
    return network


# ---- what is predicted


@pytest.mark.parametrize("shape", [(1, 32, 48), (1, 37, 41), (3, 17, 30), (1, 5, 3), (1, 1, 1)])
def test_maps_are_those_of_the_network(weights: Weights, shape: tuple[int, int, int]) -> None:
    network, frame, colours = network_of(), noise(*shape), {"colour": "grey"}
    found = predictor(weights, **colours).maps(frame)
    assert found.shape == shape
    assert found.cell.dtype == np.float32
    shown = picture(frame, EfficientCellSegConfig.of({**EXACT, **colours}))
    _, height, width = shape
    padded = np.pad(shown, [(0, 0), (0, 0), (0, -height % 16), (0, -width % 16)], mode="reflect")
    with torch.inference_mode():
        expected = network(torch.from_numpy(padded)).sigmoid()[:, :, :height, :width].numpy()
    same(found, Maps(expected[:, 0], expected[:, 1]))


@pytest.mark.parametrize("shape", [(1, 200, 150), (1, 17, 300), (2, 65, 64), (1, 129, 1)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_tiles_say_what_the_whole_says(weights: Weights, shape: tuple[int, int, int], overlap: float) -> None:
    frame = noise(*shape)
    tiled = faked(predictor(weights, overlap=overlap)).maps(frame)
    whole = faked(predictor(weights, input_size=512)).maps(frame)
    same(tiled, whole, atol=1e-6)


def test_planes_are_exactly_the_maps(weights: Weights) -> None:
    frame, asked = noise(5, 70, 90), set()
    network = predictor(weights)

    def read(z: int) -> npt.NDArray[Any]:
        asked.add(z)
        return frame[z]

    expected = network.maps(frame)
    found = list(network.planes(read, (5, 70, 90)))
    assert [z for z, _ in found] == list(range(5))
    assert asked == set(range(5))
    for z, maps in found:
        assert maps.shape == (1, 70, 90)
        np.testing.assert_array_equal(maps.cell[0], expected.cell[z])
        np.testing.assert_array_equal(maps.centre[0], expected.centre[z])  # type: ignore[index]


def test_parts_together_are_the_parts_one_by_one(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = noise(5, 70, 50)
    one = predictor(weights).maps(frame)
    monkeypatch.setattr("howdah.methods.efficientcellseg.predict.MOST_AT_ONCE", {"cpu": 5})
    same(one, predictor(weights).maps(frame))


def test_a_volume_is_seen_in_the_colours_of_its_neighbours(weights: Weights) -> None:
    frame = noise(3, 32, 32)
    one = predictor(weights).maps(frame)
    frame[2] = frame[2].T.copy()  # the same percentiles
    other = predictor(weights).maps(frame)
    np.testing.assert_array_equal(one.cell[0], other.cell[0])
    assert not np.array_equal(one.cell[1], other.cell[1])


@pytest.mark.parametrize("which", ["flips", "all"])
def test_views_of_what_turns_with_the_picture_change_nothing(weights: Weights, which: str) -> None:
    frame = noise(1, 70, 45)
    expected = faked(predictor(weights)).maps(frame)
    same(faked(predictor(weights, test_time=which)).maps(frame), expected, atol=1e-6)


def test_views_are_averaged(weights: Weights) -> None:
    frame = noise(1, 32, 32)
    network = predictor(weights)
    flips = [(1, 1), (-1, 1), (1, -1), (-1, -1)]
    views = [network.maps(frame[:, ::y, ::x]).cell[:, ::y, ::x] for y, x in flips]
    found = predictor(weights, test_time="flips").maps(frame).cell
    np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-5)


@pytest.mark.parametrize("times", [2, 0.5])
def test_maps_have_the_pixels_of_the_frame_whatever_the_network_sees(weights: Weights, times: float) -> None:
    frame = noise(1, 41, 27)
    found = predictor(weights, enlarge=times).maps(frame)
    assert found.shape == frame.shape
    assert 0 < found.cell.min() < found.cell.max() < 1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_the_type_of_the_numbers_does_not_matter(weights: Weights, kind: type) -> None:
    frame = noise(2, 32, 40, upto=250)
    same(predictor(weights).maps(frame.astype(kind)), predictor(weights).maps(frame), atol=1e-6)


def test_a_frame_of_one_value_gives_numbers(weights: Weights) -> None:
    assert np.isfinite(predictor(weights).maps(np.zeros((2, 20, 20), np.uint8)).cell).all()


# ---- several networks


def test_maps_of_the_same_name_are_averaged() -> None:
    one, other, frame = network_of(), network_of(seed=1), noise(1, 32, 32)
    first, second = (predictor(weights_of(n)).maps(frame) for n in (one, other))
    both = predictor(weights_of(one, other)).maps(frame)
    np.testing.assert_allclose(both.cell, (first.cell + second.cell) / 2, atol=1e-6)


def test_centres_may_come_from_a_second_network() -> None:
    cells, centres, frame = network_of(1), network_of(1, seed=1), noise(1, 32, 32)
    found = predictor(weights_of(cells, centres, outputs=[["cell"], ["centre"]])).maps(frame)
    np.testing.assert_array_equal(found.cell, predictor(weights_of(cells, outputs=[["cell"]])).maps(frame).cell)
    assert found.centre is not None
    expected = predictor(weights_of(centres, outputs=[["cell"]])).maps(frame).cell
    np.testing.assert_array_equal(found.centre, expected)


def test_without_centres_there_is_no_map_of_them() -> None:
    found = predictor(weights_of(network_of(1), outputs=[["cell"]]))
    assert found.maps_given == ("cell",)
    assert found.maps(noise(1, 16, 16)).centre is None


# ---- squeezed, as in the paper


def test_a_frame_is_squeezed_into_the_square_and_brought_back(weights: Weights) -> None:
    frame, network = noise(1, 96, 150), network_of()
    found = predictor(weights, fit_frame=True, colour="grey").maps(frame)
    shown = torch.from_numpy(picture(frame, EfficientCellSegConfig.of({**EXACT, "colour": "grey"})).copy())
    with torch.inference_mode():
        small = nn.functional.interpolate(shown, size=(64, 64), mode="bilinear")
        expected = nn.functional.interpolate(network(small).sigmoid(), size=(96, 150), mode="bilinear")[0].numpy()
    same(found, Maps(expected[:1], expected[1:]))


@pytest.mark.parametrize("settings", [{"fit_frame": True}, {"fit_frame": True, "grid": (2, 3)}])
def test_windows_that_overlap_cover_the_frame(weights: Weights, settings: dict[str, Any]) -> None:
    frame = noise(1, 101, 139)
    found = faked(predictor(weights, **settings)).maps(frame)
    assert found.cell.min() > 0.01
    flat = faked(predictor(weights, **settings)).maps(np.full_like(frame, 7))
    np.testing.assert_allclose(flat.cell, flat.cell[0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("squeezed", [True, False])
def test_published_windows_lose_the_remainder(weights: Weights, squeezed: bool) -> None:
    settings = {"fit_frame": squeezed, "grid": (2, 3), "compat": ("plain_grid",)}
    found = faked(predictor(weights, **settings)).maps(noise(1, 41, 50))
    assert (found.cell[0, 40:] == 0).all()
    assert (found.cell[0, :, 48:] == 0).all()
    assert (found.cell[0, :40, :48] > 0).all()


# ---- time


def test_time_colours_a_movie_also_at_its_ends(weights: Weights) -> None:
    frames = [noise(1, 32, 32, seed=n) for n in range(3)]
    network = predictor(weights, colour="time")
    middle = network.maps(frames[1], earlier=frames[0], later=frames[2], time=1)
    first = network.maps(frames[1], later=frames[2], time=0)
    last = network.maps(frames[1], earlier=frames[0], time=2)
    alone = network.maps(frames[1])
    assert len({maps.cell.tobytes() for maps in (middle, first, last, alone)}) == 4
    stream = dict(network.planes(lambda z: frames[1][z], (1, 32, 32), earlier=frames[0], later=frames[2], time=1))
    np.testing.assert_array_equal(stream[0].cell, middle.cell)


def test_neighbours_in_time_of_another_size_are_told(weights: Weights) -> None:
    with pytest.raises(
        DataError, match=r"frame 4 failed: it has shape \(1, 16, 16\), and a frame beside it \(1, 16, 8\)"
    ):
        predictor(weights, colour="time").maps(noise(1, 16, 16), earlier=noise(1, 16, 8), time=4)


def test_time_colours_each_plane_of_a_volume(weights: Weights) -> None:
    frames = [noise(2, 32, 32, seed=n) for n in range(3)]
    network = predictor(weights, colour="time")
    one = network.maps(frames[1], earlier=frames[0], later=frames[2])
    assert not np.array_equal(one.cell, network.maps(frames[1]).cell)
    assert not np.array_equal(one.cell, network.maps(frames[1], earlier=frames[2], later=frames[0]).cell)


def test_planes_settle_what_the_colours_carry(weights: Weights) -> None:
    asked = EfficientCellSegConfig.of(EXACT)
    assert [Network(weights, asked, planes=n).config.colour for n in (1, 2)] == ["grey", "context"]
    assert Network(weights, asked).config.colour == "auto"


# ---- what is wrong is told


def test_values_that_are_no_numbers_are_told_with_their_frame(weights: Weights) -> None:
    frame = np.zeros((2, 16, 16))
    frame[1, 3, 3] = np.nan
    with pytest.raises(DataError, match=r"frame 4 failed.*no numbers"):
        predictor(weights).maps(frame, time=4)


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 4, 0), (4, 4)])
def test_frames_without_pixels_are_told(weights: Weights, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="frame 2 failed"):
        predictor(weights).maps(np.zeros(shape), time=2)


@pytest.mark.parametrize("settings", [{}, {"fit_frame": True}])
def test_too_little_memory_is_told(weights: Weights, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Allow more memory"):
        predictor(weights, memory_mb=0.01, **settings).maps(noise(1, 64, 64))


def test_tiles_shrink_where_memory_is_short(weights: Weights) -> None:
    frame = noise(1, 300, 300)
    small = faked(predictor(weights, input_size=256, memory_mb=20))
    assert small._tile() < 256
    same(small.maps(frame), faked(predictor(weights, input_size=512)).maps(frame), atol=1e-6)


def test_no_weights_are_told() -> None:
    with pytest.raises(WeightsError, match="hold no network"):
        Network(Weights(()))


def test_weights_of_another_method_are_told(weights: Weights) -> None:
    with pytest.raises(WeightsError, match="made by 'embedtrack'"):
        Network(Weights(weights.members, {**weights.header, "method": "embedtrack"}))


@pytest.mark.parametrize("outputs", [[["cell"], ["centre"]], [["dog"]], "cell", [[]], [3]])
def test_headers_that_name_other_maps_are_told(outputs: Any) -> None:
    with pytest.raises(WeightsError, match="header of the weights is damaged"):
        Network(weights_of(network_of(), outputs=outputs))


def test_a_header_that_does_not_fit_the_network_is_told() -> None:
    with pytest.raises(WeightsError, match=r"names 1 maps \(cell\), but the network gives 2"):
        predictor(weights_of(network_of(), outputs=[["cell"]]))


def test_weights_without_cells_are_told() -> None:
    with pytest.raises(WeightsError, match="find only centres"):
        Network(weights_of(network_of(1), outputs=[["centre"]]))
