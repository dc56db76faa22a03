"""Folds are blocks of frames, and neighbours of a block are not learned from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import DataError
from howdah.methods.tap.crossing import crossed, folds_of
from howdah.methods.tap.examples import Examples
from howdah.progress import finish


def of(t: list[int], label: list[int], movie: list[int] | None = None) -> Examples:
    n = len(t)
    names = tuple("abc"[: max(label) + 1])
    return Examples(
        np.array(movie or [0] * n), np.array(t), np.zeros((n, 3)), np.tile(np.eye(3), (n, 1, 1)), np.array(label), names
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_no_frame_of_a_test_is_near_what_is_learned_from(apart: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    examples = of(rng.integers(0, 40, 80).tolist(), rng.integers(0, 2, 80).tolist(), rng.integers(0, 2, 80).tolist())
    folds = folds_of(examples, n=n, apart=apart)
    tested = np.concatenate([fold.test for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    for fold in folds:
        for movie in (0, 1):
            mine = examples.t[fold.train[examples.movie[fold.train] == movie]]
            other = examples.t[fold.test[examples.movie[fold.test] == movie]]
            assert not len(mine) or not len(other) or np.abs(mine[:, None] - other).min() > apart


def test_rare_labels_are_spread_over_the_folds() -> None:
    t = [*range(100), 10, 11, 12, 13]
    folds = folds_of(of(t, [0] * 100 + [1] * 4), apart=0)
    assert len(folds) == 2
    assert sorted(int((fold.test >= 100).sum()) for fold in folds) == [2, 2]


def test_labels_of_one_frame_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="the 4 labels are in 1 frames"):
        folds_of(of([5] * 4, [0, 0, 1, 1]))


def test_out_of_fold_probabilities_and_their_summary() -> None:
    examples = of([0, 0, 5, 5, 9], [0, 1, 0, 1, 1])

    def learn(train, test):
        yield from ()
        right = np.eye(2, dtype=np.float32)[examples.label[test]] * 0.8 + 0.1
        return right[:, ::-1] if 4 in test else right

    folds = folds_of(examples, n=3, apart=1)
    found = finish(crossed(learn, examples, folds)).to_dict()
    assert found["judged"] == 5
    assert found["confusion"] == [[2, 0], [1, 2]]
    assert found["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-5)
    assert found["classes"]["b"]["chance"] == pytest.approx(0.6)
    assert found["classes"]["b"]["labels"] == 3
