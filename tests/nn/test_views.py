"""Views of an image: how many, which, and back."""

from __future__ import annotations

import pytest
import torch

from howdah.nn.views import View, views_of


@pytest.mark.parametrize(
    ("which", "dims", "n"), [("none", 2, 1), ("flips", 2, 4), ("all", 2, 8), ("flips", 3, 8), ("all", 3, 16)]
)
def test_number_of_views(which: str, dims: int, n: int) -> None:
    found = views_of(which, dims)  # type: ignore[arg-type]
    assert len(set(found)) == n
    assert found[0] == View(swap=False, mirror=(False,) * dims)


def test_no_quarter_turns_of_oblong_pixels() -> None:
    assert len(views_of("all", 2, unit=(1.0, 2.0))) == 4


@pytest.mark.parametrize("view", views_of("all", 2))
def test_turned_back_is_where_it_was(view: View) -> None:
    image = torch.rand(2, 3, 6, 9)
    turned = view.turned(image)
    assert turned.shape[2:] == ((9, 6) if view.swap else (6, 9))
    torch.testing.assert_close(view.turned_back(turned), image, rtol=0, atol=0)
