import numpy as np
import pytest
import torch
from scipy import ndimage

from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.flow.losses import Labels, flow_loss, ssim, warped

LIMIT = (2.0, 8.0, 4.0)
CONFIG = FlowConfig(max_displacement=LIMIT, dim_weights=(8, 1, 1))


def movie(shape=(6, 24, 28), seed=0):
    image = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0.7, 1.5, 1.5))
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def paper(flow, images, voxel, value, config):
    """The paper's formulas, voxel by voxel, in numpy; what lies outside of the volume is left out."""
    summed = config.loss == "sum"
    n, shape = flow[0].size, flow.shape[1:]
    wd = np.array(config.dim_weights) / (1 if summed else sum(config.dim_weights))
    mad = (wd * np.abs(flow.reshape(3, -1).T[voxel] - value)).sum() / (n if summed else len(voxel))
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")) + flow * np.reshape(LIMIT, (3, 1, 1, 1))
    ends = np.reshape(shape, (3, 1, 1, 1)) - 1
    known = ((places >= 0) & (places <= ends)).all(0)
    moved = ndimage.map_coordinates(images[0], places, order=1, mode="nearest")
    values = []
    offsets = np.stack(np.meshgrid([-1, 0, 1], range(-3, 4), range(-3, 4), indexing="ij"), -1).reshape(-1, 3)
    for at in np.argwhere(known):
        around = at + offsets
        within = ((around >= 0) & (around < shape)).all(1)
        around, steps = around[within], offsets[within]
        weight = np.exp(-(steps**2).sum(1) / (2 * 1.5**2)) * known[tuple(around.T)]
        weight /= weight.sum()
        a, b = moved[tuple(around.T)], images[1][tuple(around.T)]
        ma, mb = weight @ a, weight @ b
        va, vb, ab = weight @ a**2 - ma**2, weight @ b**2 - mb**2, weight @ (a * b) - ma * mb
        values.append((2 * ma * mb + 1e-4) * (2 * ab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return mad, 1 - np.mean(values)


@pytest.mark.parametrize("form", ["normalised", "sum"])
def test_the_loss_is_the_papers(form):
    rng = np.random.default_rng(1)
    config = CONFIG.but(loss=form)
    shape = (4, 9, 10)
    images = np.stack([movie(shape, 1), movie(shape, 2)])
    flow = ndimage.gaussian_filter(rng.normal(0, 1, (3, *shape)), (0, 1, 2, 2)).astype(np.float32)
    voxel = np.sort(rng.choice(360, 20, replace=False))
    value = rng.uniform(-1, 1, (20, 3)).astype(np.float32)
    labels = Labels(torch.from_numpy(voxel), torch.from_numpy(value))
    terms = flow_loss(torch.from_numpy(flow)[None], torch.from_numpy(images)[None], labels, config)
    mad, like = paper(flow, images, voxel, value, config)
    assert terms["mad"].item() == pytest.approx(mad, rel=1e-5)
    assert terms["ssim"].item() == pytest.approx(like, rel=1e-3)
    total = mad + 0.01 * like + 0.01 * terms["smooth"].item()
    assert terms["loss"].item() == pytest.approx(total / (1.02 if form == "normalised" else 1), rel=1e-4)
    apart = np.linalg.norm((flow.reshape(3, -1).T[voxel] - value) * LIMIT, axis=1).mean()
    assert terms["error"].item() == pytest.approx(apart, rel=1e-5)


@pytest.mark.parametrize("way", [(0, 3, -2), (1, 0, 0), (-1, -4, 3), (0, 0, 0)])
def test_the_true_shift_makes_the_frames_equal(way):
    earlier = movie()
    later = np.roll(earlier, [-w for w in way], axis=(0, 1, 2))  # a nucleus at x was at x + way
    flow = torch.tensor(way, dtype=torch.float32).view(1, 3, 1, 1, 1).expand(1, 3, *earlier.shape)
    first, second = (torch.from_numpy(image)[None, None] for image in (earlier, later))
    moved, inside = warped(first, flow)
    assert inside.mean().item() == pytest.approx(
        np.prod([1 - abs(w) / n for w, n in zip(way, earlier.shape, strict=True)])
    )
    assert ssim(moved, second, inside).item() == pytest.approx(1, abs=1e-4)
    if any(way):
        wrong, seen = warped(first, -flow)
        assert ssim(wrong, second, seen).item() < 0.9


def test_a_stretch_is_exact_too_since_the_flow_lives_on_the_later_frame():
    grid = np.stack(np.meshgrid(*map(np.arange, (1, 40, 40)), indexing="ij")).astype(np.float32)
    earlier = np.sin(grid[1] / 4) * np.sin(grid[2] / 5) / 2 + 0.5
    way = np.zeros_like(grid)
    way[1] = 0.25 * (20 - grid[1])  # the tissue grows away from its middle
    later = np.sin((grid + way)[1] / 4) * np.sin(grid[2] / 5) / 2 + 0.5
    moved, inside = warped(torch.from_numpy(earlier)[None, None], torch.from_numpy(way)[None])
    assert ssim(moved, torch.from_numpy(later)[None, None], inside).item() > 0.999


def test_the_frames_alone_pull_the_flow_to_the_shift():
    earlier = movie((4, 32, 32))
    later = np.roll(earlier, -2, axis=2)
    images = torch.from_numpy(np.stack([earlier, later]))[None]
    flow = torch.zeros(1, 3, 4, 32, 32, requires_grad=True)
    none = Labels(torch.empty(0, dtype=torch.int64), torch.empty(0, 3))
    flow_loss(flow, images, none, CONFIG)["loss"].backward()
    inner = flow.grad[0, 2, :, 8:24, 8:24]
    assert inner.mean() < 0  # descending makes x displacements positive


def test_weights_of_the_axes_act():
    flow, images = torch.zeros(1, 3, 1, 16, 16), torch.rand(1, 2, 1, 16, 16)
    labels = Labels(torch.tensor([5]), torch.tensor([[1.0, 0, 0]]))
    weighed = [flow_loss(flow, images, labels, CONFIG.but(dim_weights=w))["mad"].item() for w in [(8, 1, 1), (1, 1, 1)]]
    assert weighed == pytest.approx([0.8, 1 / 3])


def test_scaling_follows_the_setting():
    earlier = movie()
    later = np.roll(earlier, -4, axis=1)
    images = torch.from_numpy(np.stack([earlier, later]))[None]
    flow = torch.zeros(1, 3, *earlier.shape)
    flow[:, 1] = 0.5  # 4 of 8 voxels
    none = Labels(torch.empty(0, dtype=torch.int64), torch.empty(0, 3))
    right = flow_loss(flow, images, none, CONFIG)["ssim"]
    wrong = flow_loss(flow, images, none, CONFIG.but(max_displacement=(2, 16, 4)))["ssim"]
    assert right < 1e-3 < 0.1 < wrong


def test_a_volume_of_which_nothing_stays_inside_gives_no_loss():
    flow, images = torch.ones(1, 3, 1, 4, 4), torch.rand(1, 2, 1, 4, 4)
    none = Labels(torch.empty(0, dtype=torch.int64), torch.empty(0, 3))
    terms = flow_loss(flow, images, none, CONFIG)
    assert terms["ssim"].item() == 0
    assert terms["mad"].item() == 0
    assert terms["smooth"].item() == pytest.approx(0, abs=1e-6)
