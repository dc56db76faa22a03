"""Examples from tags and from lineages."""

import numpy as np
import pytest

from howdah.errors import DataError
from howdah.methods.tap.examples import Examples, division_examples, joined, tagged_examples


def some(n: int) -> dict[str, np.ndarray]:
    return {"t": np.arange(n), "centre": np.zeros((n, 3)), "covariance": np.tile(np.eye(3), (n, 1, 1))}


def test_a_spot_without_a_tag_is_unknown() -> None:
    found = tagged_examples(**some(4), tag=[1, -1, 0, 1], classes=("a", "b"), name="state")
    assert found.t.tolist() == [0, 2, 3]
    assert found.label.tolist() == [1, 0, 1]
    assert found.counts.tolist() == [1, 2]


@pytest.mark.parametrize(("untagged", "classes", "label"), [("rest", ("a", "rest"), [0, 1]), ("a", ("a",), [0, 0])])
def test_untagged_spots_can_be_a_class(untagged, classes, label) -> None:
    found = tagged_examples(**some(2), tag=[0, -1], classes=("a",), untagged=untagged)
    assert found.classes == classes
    assert found.label.tolist() == label


def test_divisions_and_what_is_ambiguous_near_them() -> None:
    # 0-1-2-3-4 divides into 5 and 6 (t 5), 5-7-8-9-10; 6 ends; 11 stands alone
    links = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (4, 6), (5, 7), (7, 8), (8, 9), (9, 10)]
    t = [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 0]
    found = division_examples(t, np.arange(36).reshape(12, 3), np.tile(np.eye(3), (12, 1, 1)), links, leave_out=2)
    rows = (found.centre[:, 0] / 3).astype(int).tolist()
    assert dict(zip(rows, found.label.tolist(), strict=True)) == {0: 0, 1: 0, 4: 1, 8: 0, 9: 0}
    near = division_examples(t, np.zeros((12, 3)), np.tile(np.eye(3), (12, 1, 1)), links, leave_out=0)
    assert near.counts.tolist() == [8, 1]


def test_movies_are_joined() -> None:
    a = tagged_examples(**some(2), tag=[0, 1], classes=("a", "b"))
    b = tagged_examples(**some(1), tag=[1], classes=("a", "b"), movie=1)
    assert joined([a, b]).movie.tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="classes are a, b in one movie and b, a in another"):
        joined([a, tagged_examples(**some(1), tag=[1], classes=("b", "a"))])
    with pytest.raises(DataError, match="there are none"):
        joined([])


def of(label: list[int]) -> Examples:
    return tagged_examples(**some(len(label)), tag=label, classes=("a", "b", "c"), name="state")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([], "'state' failed: no spot is labelled"),
        ([1, 1], "all 2 labelled spots are 'b'"),
        ([0, 0, 1, 2], "'b' has 1, 'c' has 1 labelled spots; each class needs at least 2"),
    ],
)
def test_too_little_to_learn_from_is_said(label, message) -> None:
    with pytest.raises(DataError, match=message):
        of(label).checked()


def test_classes_that_nobody_used_are_left_out() -> None:
    found = of([2, 2, 0, 0]).checked()
    assert found.classes == ("a", "c")
    assert found.label.tolist() == [1, 1, 0, 0]


def test_a_tag_out_of_range_is_said() -> None:
    with pytest.raises(DataError, match="run from 0 to 2, but there are 2 classes"):
        tagged_examples(**some(2), tag=[0, 2], classes=("a", "b"), name="state")
