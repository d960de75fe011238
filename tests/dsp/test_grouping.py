"""Groupings without optimisation: every property is checked by counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamslot.dsp.grouping import balanced_random, contiguous, interleaved
from beamslot.errors import BadParam

SIZES = st.integers(1, 100).flatmap(lambda n_y: st.tuples(st.just(n_y), st.integers(1, n_y)))


@given(SIZES)
def test_every_grouping_is_balanced_and_uses_every_group(size: tuple[int, int]) -> None:
    n_y, groups = size
    for group in (contiguous(*size), interleaved(*size), balanced_random(*size, np.random.default_rng(n_y))):
        counts = np.bincount(group, minlength=groups)
        assert group.dtype == np.int16
        assert (len(group), len(counts)) == (n_y, groups)
        assert counts.max() - counts.min() <= 1


@given(SIZES)
def test_contiguous_groups_are_neighbours_and_interleaved_ones_a_comb(size: tuple[int, int]) -> None:
    n_y, groups = size
    assert set(np.diff(contiguous(*size)).tolist()) <= {0, 1}
    assert interleaved(*size).tolist() == [n % groups for n in range(n_y)]


def test_random_groups_depend_on_the_generator_alone() -> None:
    first, again, other = (balanced_random(64, 4, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).sum() > 20


@pytest.mark.parametrize("groups", [0, 9])
def test_more_groups_than_columns_or_none_are_refused(groups: int) -> None:
    with pytest.raises(BadParam, match=rf"contiguous: groups is {groups}, wanted 1 \.\. 8"):
        contiguous(8, groups)
    with pytest.raises(BadParam, match="interleaved"):
        balanced_random(8, groups, np.random.default_rng(0))
