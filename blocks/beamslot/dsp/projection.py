"""Variable projection: what directions say of observations once the gains are fitted away.

| symbol | name | meaning |
|---|---|---|
| X | atoms | (K, R) what paths of unit gain leave in an observation of R entries |
| D | slopes | (c K, R) their derivatives in c coordinates, by coordinate, then path |
| y_m, a_m | observation, gain | M of them share the directions; a_m = (X^H X)^-1 X^H y_m |

source: Golub and Pereyra, SIAM J. Numer. Anal. 10(2), 1973, in the form of Kaufman (BIT 15, 1975)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def curvature(
    gram: NDArray[Any], matched: NDArray[Any], inverse: NDArray[Any], gain: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Gauss-Newton matrix H of sum_m ||y_m - X a_m||^2 / 2 in the directions, and its descent.

    gram: (F, (1 + c) K, (1 + c) K) inner products of [X; D]    matched: (F, (1 + c) K, M) those of [X; D] with the y_m
    inverse: (F, K, K) of X^H X, regularised or not    gain: (F, K, M), F for any leading axes or none
    returns H (F, c K, c K) and the descent (F, c K), so that H^-1 descent is a step; H / sigma^2 * 2 is Fisher's
        information
    source: the module's
    """
    paths = gain.shape[-2]
    cross = gram[..., paths:, :paths]
    coordinates = gram.shape[-1] // paths - 1 if paths else 0
    gains = gain if coordinates == 1 else np.tile(gain, (coordinates, 1))
    descent: Any = np.sum(gains.conj() * (matched[..., paths:, :] - cross @ gain), axis=-1)
    inner = gram[..., paths:, paths:] - cross @ inverse @ np.swapaxes(cross.conj(), -1, -2)
    bend: Any = gains.conj() @ np.swapaxes(gains, -1, -2) * inner
    return bend.real, descent.real
