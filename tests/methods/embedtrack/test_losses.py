"""The loss against a plain one, written cell by cell and pixel by pixel from the equations of the paper."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.methods.embedtrack import overlap
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import unit_of
from howdah.methods.embedtrack.losses import embedtrack_loss
from howdah.methods.embedtrack.targets import targets_of

CONFIG = EmbedTrackConfig()
TERMS = ("instance", "variance", "seed", "tracking")


def lovasz(score, mask):
    """The Lovász extension of equation 6: largest hinge error first, each weighted by what it adds to the Jaccard loss."""
    error = torch.relu(1 - score * (2.0 * mask - 1))
    order = torch.argsort(error, descending=True, stable=True)
    total, before, missed, false, size = 0, 0.0, 0, 0, int(mask.sum())
    for wrong, is_own in zip(error[order], mask[order].tolist(), strict=True):
        missed, false = missed + is_own, false + (not is_own)
        now = 1 - (size - missed) / (size + false)  # equation 6, if this one and all before are wrong
        total = total + wrong * (now - before)
        before = now
    return total


def plain(segmentation, tracking, targets, unit, config=CONFIG, *, sums=False):
    """Equations 2 to 12, one cell after the other; means over all cells of the batch, or sums as published."""
    n_dims, shape = tracking.shape[1], segmentation.shape[2:]
    step = torch.tensor(unit).double()
    p = (
        torch.stack(torch.meshgrid(*[torch.arange(n).double() for n in shape], indexing="ij")).flatten(1)
        * step[:, None]
    )
    terms = {name: [] for name in TERMS}
    background = []
    for image in range(len(segmentation)):
        raw = segmentation[image].flatten(1)
        objects, known = targets.objects[image].flatten(), targets.known[image].flatten()
        e, s, seed = p + torch.tanh(raw[:n_dims]), torch.sigmoid(raw[n_dims : 2 * n_dims]), torch.sigmoid(raw[-1])
        outside = known & (objects < 0)
        background.append(seed[outside] ** 2)
        for row in range(len(targets)):
            if targets.image[row] != image or not targets.seen[row]:
                continue
            mask = objects == row
            mean = s[:, mask].mean(1, keepdim=True)  # 2
            terms["variance"].append(((mean - s[:, mask]) ** 2).sum(0).mean())  # 3
            if sums:  # as published: each axis with the mean of every axis
                terms["variance"][-1] = ((s[:, mask][:, None] - mean.detach()[None]) ** 2).mean()
            d = torch.exp(
                -((e - (targets.centre[row] * step)[:, None]) ** 2 / torch.exp(-config.bandwidth_scale * mean)).sum(0)
            )  # 5
            terms["instance"].append(lovasz((2 * d - 1)[known], mask[known]))  # 7
            terms["seed"].append(((d.detach() - seed)[mask] ** 2).mean())  # 9
            if targets.tracked[row]:
                before = p - torch.tanh(tracking[image].flatten(1))
                d = torch.exp(-((before - (targets.earlier[row] * step)[:, None]) ** 2 * torch.exp(10 * mean)).sum(0))
                sisters = torch.zeros_like(mask)
                for other in range(0 if sums else len(targets)):
                    alike = targets.tracked[other] and torch.equal(targets.earlier[other], targets.earlier[row])
                    if other != row and alike and targets.image[other] == image:
                        sisters |= objects == other
                at = known & ~sisters
                terms["tracking"].append(lovasz((2 * d - 1)[at], mask[at]))  # 11

    def mean_of(values):
        return torch.stack(values).mean() if values else torch.zeros(())

    result = {name: mean_of(values) for name, values in terms.items()}
    if sums:
        result = {name: sum(values) for name, values in terms.items()}
        result["tracking"] = mean_of(terms["tracking"])
        result["seed"] = config.foreground_weight * result["seed"] + sum(b.mean() for b in background if len(b))
    else:
        every = torch.cat(background)
        result["seed"] = config.foreground_weight * result["seed"] + (every.mean() if len(every) else 0)
    seg = result["instance"] + 10 * result["variance"] + result["seed"]
    result["loss"] = (seg + result["tracking"]) / (len(segmentation) if sums else 1)
    return result


def example(shape=(20, 24), n_pairs=2, *, seed=0, noise=0.05, bandwidth=1.0, **options):
    """Return segmentation, tracking, targets, unit of blocks that touch, with divisions and new cells."""
    rng = np.random.default_rng(seed)
    edge = [max(2, n // 3) for n in shape]
    where = np.indices(shape)
    later = sum((where[d] // edge[d]) * 4**d for d in range(len(shape)))
    later = np.where(np.isin(later % 7, (2, 5)), 0, later + 1)
    later = np.stack([later, np.where(rng.random(shape) < 0.1, 0, later)] * n_pairs)[:n_pairs]
    earlier = np.roll(later, 1, axis=1)
    ids = np.unique(later)[1:]
    pairs = [
        np.column_stack([ids[:-2], np.roll(ids[:-2], 1)]),
        np.column_stack([ids, np.full(len(ids), ids[0])]),
    ] * n_pairs
    voxel = (1.0,) * 2 if len(shape) == 2 else (3.0, 1.0, 1.0)
    targets = targets_of(later, earlier, pairs[:n_pairs], voxel_size=voxel, **options)
    generator = torch.Generator().manual_seed(seed)
    segmentation = noise * torch.randn(2 * n_pairs, 2 * len(shape) + 1, *shape, generator=generator)
    segmentation[:, len(shape) : -1] += bandwidth
    tracking = noise * torch.randn(n_pairs, len(shape), *shape, generator=generator)
    return segmentation.requires_grad_(), tracking.requires_grad_(), targets, unit_of(voxel, 64)


def both(segmentation, tracking, targets, unit, config=CONFIG, **options):
    """Return values and gradients, ours and those of the plain loss in double precision."""
    ours = embedtrack_loss(segmentation, tracking, targets, unit, config)
    ours["loss"].backward()
    wide = [x.detach().double().requires_grad_() for x in (segmentation, tracking)]
    other = plain(*wide, targets, unit, config, **options)
    other["loss"].backward()
    return ours, [segmentation.grad, tracking.grad], other, [x.grad for x in wide]


def same(ours, gradients, other, expected):
    for name in ("loss", *TERMS):
        assert ours[name].item() == pytest.approx(other[name].item(), rel=2e-5, abs=1e-6), name
    for mine, theirs in zip(gradients, expected, strict=True):
        if theirs is None:
            assert mine is None or float(mine.abs().max()) == 0
            continue
        scale = float(theirs.abs().max())
        assert float((mine.double() - theirs).abs().max()) <= 1e-4 * scale + 1e-7


@pytest.mark.parametrize("shape", [(20, 24), (4, 12, 10)], ids=["2D", "3D anisotropic"])
@pytest.mark.parametrize("sums", [False, True], ids=["means", "sums"])
def test_the_loss_and_its_gradient_are_those_of_the_equations(shape, sums):
    config = CONFIG.but(compat=("loss_sums",)) if sums else CONFIG
    same(*both(*example(shape, 2 if len(shape) == 2 else 1), config, sums=sums))


@pytest.mark.parametrize("bandwidth", [-6.0, 0.0, 1.0, 4.0])
def test_wide_and_narrow_bandwidths(bandwidth):
    same(*both(*example((16, 16), 1, bandwidth=bandwidth)))


def test_in_parts_it_is_the_same(monkeypatch):
    def ours():
        segmentation, tracking, targets, unit = example()
        loss = embedtrack_loss(segmentation, tracking, targets, unit, CONFIG)["loss"]
        loss.backward()
        return loss.item(), segmentation.grad, tracking.grad

    whole = ours()
    monkeypatch.setattr(overlap, "CHUNK", 300)
    parts = ours()
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert torch.allclose(parts[1], whole[1], atol=1e-7)
    assert torch.allclose(parts[2], whole[2], atol=1e-7)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), noise=st.sampled_from([0.02, 0.3, 2.0]), bandwidth=st.floats(-3, 5))
def test_any_prediction(seed, noise, bandwidth):
    same(*both(*example((9, 11), 1, seed=seed, noise=noise, bandwidth=bandwidth)))


def test_unknown_pixels_have_no_loss():
    shape = (20, 24)
    clear = np.zeros((2, *shape), dtype=bool)
    clear[:, :8] = True
    parts = example(known=(clear, clear), complete=False, n_pairs=2)
    same(*both(*parts))
    unknown = ~parts[2].known
    assert unknown.any()
    assert float(parts[0].grad[unknown[:, None].expand(-1, 5, -1, -1)].abs().max()) == 0
    assert float(parts[1].grad[unknown[:2, None].expand(-1, 2, -1, -1)].abs().max()) == 0


def test_a_cell_whose_centre_is_outside_counts_only_as_not_being_the_others():
    labels = np.zeros((1, 8, 12), dtype=int)
    labels[0, :, :3], labels[0, :, 5:9] = 4, 9
    table = np.array([[4, 3.0, -2.0], [9, 4.0, 7.0]])
    targets = targets_of(labels, labels, [[[4, 4], [9, 9]]], voxel_size=(1, 1), centres=([table], [table]))
    assert targets.seen.tolist() == [False, True, False, True]
    segmentation, tracking, *_ = example((8, 12), 1)
    parts = both(segmentation, tracking, targets, unit_of((1, 1), 64))
    same(*parts)
    assert float(segmentation.grad[:, 4, :, :3].abs().max()) == 0  # neither background nor cell
    assert float(segmentation.grad[:, :2, :, :3].abs().max()) > 0


def test_daughters_that_both_point_to_their_mother_are_right():
    mother, daughters = np.zeros((1, 16, 32), dtype=int), np.zeros((1, 16, 32), dtype=int)
    mother[0, 4:12, 12:20] = 1
    daughters[0, 4:12, 4:12], daughters[0, 4:12, 20:28] = 2, 3
    unit = unit_of((1, 1), 64)
    targets = targets_of(daughters, mother, [[[2, 1], [3, 1]]], voxel_size=(1, 1))
    place = np.indices((16, 32)) - targets.earlier[0].numpy()[:, None, None]
    right = torch.atanh(torch.from_numpy(place / 63.0).float())[None]
    right = torch.where(torch.from_numpy(daughters > 0)[:, None], right, 0.9)
    segmentation = torch.zeros(2, 5, 16, 32)
    segmentation[:, 2:4] = 1.0
    assert float(embedtrack_loss(segmentation, right, targets, unit, CONFIG)["tracking"]) < 0.01
    literal = embedtrack_loss(segmentation, right, targets, unit, CONFIG.but(compat=("loss_sums",)))
    assert float(literal["tracking"]) == pytest.approx(1.0, abs=0.02)  # equation 11 by the letter: half of the worst


def test_nothing_there():
    labels = np.zeros((1, 8, 8), dtype=int)
    targets = targets_of(labels, labels, [np.zeros((0, 2))], voxel_size=(1, 1))
    segmentation, tracking = torch.zeros(2, 5, 8, 8).requires_grad_(), torch.zeros(1, 2, 8, 8).requires_grad_()
    terms = embedtrack_loss(segmentation, tracking, targets, unit_of((1, 1), 64), CONFIG)
    assert {name: float(terms[name]) for name in TERMS} == {"instance": 0, "variance": 0, "seed": 0.25, "tracking": 0}
    nowhere = np.zeros((1, 8, 8), dtype=bool)
    targets = targets_of(labels, labels, [np.zeros((0, 2))], voxel_size=(1, 1), known=(nowhere, nowhere))
    terms = embedtrack_loss(segmentation, tracking, targets, unit_of((1, 1), 64), CONFIG)
    terms["loss"].backward()
    assert float(terms["loss"].detach()) == 0


def test_terms_do_not_grow_with_the_number_of_cells():
    def tracked_share(n):
        labels = np.zeros((1, 16 * n, 16), dtype=int)
        for i in range(n):
            labels[0, 16 * i + 4 : 16 * i + 12, 4:12] = i + 1
        ids = np.arange(1, n + 1)
        targets = targets_of(labels, labels, [np.column_stack([ids, ids])], voxel_size=(1, 1))
        zero = torch.zeros(2, 5, 16 * n, 16)
        zero[:, 2:4] = 2.0
        terms = embedtrack_loss(zero, torch.zeros(1, 2, 16 * n, 16), targets, unit_of((1, 1), 256), CONFIG)
        return [float(terms[name]) for name in ("instance", "seed", "tracking")]

    few, many = tracked_share(1), tracked_share(6)
    assert many == pytest.approx(few, rel=0.05)
    assert few[0] == pytest.approx(few[2])


def test_half_precision_predictions_give_a_float32_loss():
    segmentation, tracking, targets, unit = example((16, 16), 1)
    half = [x.detach().to(torch.bfloat16) for x in (segmentation, tracking)]
    wide = embedtrack_loss(*[x.float() for x in half], targets, unit, CONFIG)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = embedtrack_loss(*half, targets, unit, CONFIG)
    assert terms["loss"].dtype == torch.float32
    assert terms["loss"].item() == wide["loss"].item()


def test_a_broken_prediction_gives_a_broken_loss_and_no_crash():
    segmentation, tracking, targets, unit = example((16, 16), 1)
    with torch.no_grad():
        segmentation[:] = math.nan
    assert math.isnan(embedtrack_loss(segmentation, tracking, targets, unit, CONFIG)["loss"].item())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_is_the_same():
    segmentation, tracking, targets, unit = example()
    here = embedtrack_loss(segmentation, tracking, targets, unit, CONFIG)
    there = embedtrack_loss(segmentation.cuda(), tracking.cuda(), targets.to("cuda"), unit, CONFIG)
    for name in here:
        assert there[name].item() == pytest.approx(here[name].item(), rel=1e-4, abs=1e-6)
