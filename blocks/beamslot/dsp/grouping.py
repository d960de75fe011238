"""Assignments of columns to groups that need no optimisation.

| symbol | name | meaning |
|---|---|---|
| s_g | group == g | the columns of group g |
| G | groups | number of groups |

source: paper 004, eq. (6) and fig. 7 (uniform and random grouping)
"""

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam


def contiguous(n_y: int, groups: int) -> NDArray[np.int16]:
    """Return neighbouring columns in one group, sizes equal to within one (the uniform grouping of the paper).

    n_y, groups: columns and groups, 1 <= groups <= n_y
    returns (y,) int16    raises BadParam
    """
    _check("contiguous", n_y, groups)
    return (np.arange(n_y) * groups // n_y).astype(np.int16)


def interleaved(n_y: int, groups: int) -> NDArray[np.int16]:
    """Return a comb, column n in group n mod G; its period of G columns makes grating lobes every 2/G in u.

    n_y, groups: columns and groups, 1 <= groups <= n_y
    returns (y,) int16    raises BadParam
    """
    _check("interleaved", n_y, groups)
    return (np.arange(n_y) % groups).astype(np.int16)


def balanced_random(n_y: int, groups: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return a uniformly random grouping whose sizes are equal to within one.

    n_y, groups: columns and groups, 1 <= groups <= n_y
    returns (y,) int16    raises BadParam
    """
    return rng.permutation(interleaved(n_y, groups))


def _check(name: str, n_y: int, groups: int) -> None:
    if not 1 <= groups <= n_y:
        raise BadParam(f"{name}: groups is {groups}, wanted 1 .. {n_y}, the number of columns")
