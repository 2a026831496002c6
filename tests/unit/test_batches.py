# SPDX-License-Identifier: GPL-2.0-or-later
"""Many things some at a time: none is left out, none comes twice."""

from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.batches import batches
from bdcs.store.slices import SLICE, slices


@given(st.lists(st.integers()), st.integers(1, 5))
def test_batches_are_all_in_their_order(values: list[int], most: int) -> None:
    found = list(batches(iter(values), most))
    assert [value for some in found for value in some] == values
    assert all(len(some) == most for some in found[:-1])
    assert all(found)


def test_slices_have_each_value_once() -> None:
    found = list(slices([*range(SLICE + 1, -1, -1), 0, 1]))
    assert found == [list(range(SLICE)), [SLICE, SLICE + 1]]
    assert list(slices(())) == []
