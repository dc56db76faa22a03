"""Views of a frame, and fields turned back: vectors, bandwidths, scalars."""

from __future__ import annotations

import pytest
import torch

from howdah.methods.embedtrack.views import View, views_of

SHAPES = {2: (6, 9), 3: (4, 6, 9)}
EVERY = [(dims, view) for dims in (2, 3) for view in views_of("all", dims)]


def gradient(image: torch.Tensor, dims: int) -> torch.Tensor:
    """Central differences (B, D, *S) of (B, 1, *S), periodic: a network that turns with its input, by construction."""
    axes = range(-dims, 0)
    return torch.cat([image.roll(-1, axis) - image.roll(1, axis) for axis in axes], dim=1)


def spread(image: torch.Tensor, dims: int) -> torch.Tensor:
    """Squared differences along each axis (B, D, *S): one positive number an axis, like bandwidths."""
    return gradient(image, dims) ** 2


@pytest.mark.parametrize(
    ("which", "dims", "n"), [("none", 2, 1), ("flips", 2, 4), ("all", 2, 8), ("flips", 3, 8), ("all", 3, 16)]
)
def test_number_of_views(which: str, dims: int, n: int) -> None:
    found = views_of(which, dims)  # type: ignore[arg-type]
    assert len(set(found)) == n
    assert found[0] == View(swap=False, mirror=(False,) * dims)


def test_no_quarter_turns_of_oblong_pixels() -> None:
    assert len(views_of("all", 2, unit=(1.0, 2.0))) == 4
    assert len(views_of("all", 3, unit=(5.0, 1.0, 1.01))) == 16


def test_all_are_the_eight_turns_of_a_square() -> None:
    image = torch.arange(9).reshape(3, 3)
    turns = {
        tuple(torch.rot90(mirrored, k).flatten().tolist()) for k in range(4) for mirrored in (image, image.flip(0))
    }
    assert {tuple(view.turned(image).flatten().tolist()) for view in views_of("all", 2)} == turns


@pytest.mark.parametrize(("dims", "view"), EVERY)
def test_turned_back_is_where_it_was(dims: int, view: View) -> None:
    image = torch.rand(2, 3, *SHAPES[dims])
    torch.testing.assert_close(view.turned_back(view.turned(image)), image, rtol=0, atol=0)


@pytest.mark.parametrize(("dims", "view"), EVERY)
def test_what_turns_with_the_frame_is_the_same_in_every_view(dims: int, view: View) -> None:
    image = torch.rand(2, 1, *SHAPES[dims])
    expected = torch.cat([gradient(image, dims), spread(image, dims), image], dim=1)
    turned = view.turned(image)
    found = torch.cat([gradient(turned, dims), spread(turned, dims), turned], dim=1)
    torch.testing.assert_close(view.segmentation_back(found), expected)
    torch.testing.assert_close(view.vectors_back(gradient(turned, dims)), expected[:, :dims])


def test_bandwidths_of_a_quarter_turn_belong_to_the_other_axis() -> None:
    """The published code gives (1.5, 1.5) for a field that is (1, 2) everywhere."""
    field = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    views = views_of("all", 2)
    seen = [field.flip(1) if view.swap else field for view in views]  # what a right network says of the turned frame
    mean = sum(view.widths_back(one) for view, one in zip(views, seen, strict=True)) / len(views)
    torch.testing.assert_close(mean, field)


@pytest.mark.parametrize(("dims", "view"), EVERY)
def test_vectors_point_to_the_same_place(dims: int, view: View) -> None:
    """A frame with one bright pixel, and offsets that point to it, in pixels."""
    shape = SHAPES[dims]
    target = tuple(n // 3 for n in shape)
    image = torch.zeros(shape)
    image[target] = 1

    def offsets(frame: torch.Tensor) -> torch.Tensor:
        centre = torch.stack(torch.where(frame == 1)).float().reshape(dims, *(1 for _ in shape))
        grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in frame.shape), indexing="ij"))
        return centre - grid

    torch.testing.assert_close(view.vectors_back(offsets(view.turned(image))), offsets(image))
