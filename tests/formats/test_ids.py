"""From ids to rows: by a table where ids ascend without large gaps, else by search; both say the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.ids import rows_of_ids


@settings(deadline=None, max_examples=100)
@given(
    ids=st.lists(st.integers(-50, 50) | st.sampled_from([-(2**62), 2**62]), min_size=1, max_size=30),
    ends=st.lists(st.tuples(st.integers(-60, 60), st.sampled_from([0, 3, -(2**62), 2**62])), min_size=1, max_size=30),
    ordered=st.booleans(),
    kind=st.sampled_from([np.int64, np.float64]),
)
def test_the_first_row_of_each_id_is_found(ids, ends, ordered, kind):
    column = np.array(sorted(set(ids)) if ordered else ids, dtype=np.int64)
    wanted = np.array(ends, dtype=np.int64).astype(kind)
    rows, known = rows_of_ids(column, wanted)
    first = {}
    for row, name in enumerate(column.tolist()):
        first.setdefault(name, row)
    for (source, target), found, good in zip(wanted.tolist(), rows.tolist(), known.tolist(), strict=True):
        assert good == (source in first and target in first)
        assert found == ([first[source], first[target]] if good else [-1, -1])


@pytest.mark.parametrize(("n_ids", "n_ends"), [(0, 2), (2, 0), (0, 0)])
def test_nothing_is_known_of_nothing(n_ids, n_ends):
    rows, known = rows_of_ids(np.arange(n_ids), np.zeros((n_ends, 2), np.int64))
    assert rows.tolist() == [[-1, -1]] * n_ends
    assert known.tolist() == [False] * n_ends
