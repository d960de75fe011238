"""What every estimator returns, in one shape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """Channels of a batch, the paths they were built from, and how the estimator got there.

    B stands for any leading axes (slot, user); K for the estimator's largest number of paths.

    channel: (B, y, z) complex64 [sqrt(W)], the full N_r-dimensional channel
    gain: (B, K) complex64 [sqrt(W)], path gains, 0 where masked out
    u, v: (B, K) float32, direction coordinates u = sin(theta) cos(phi), v = sin(phi)
    mask: (B, K) bool, which paths exist
    noise_var: (B,) float32 [W], estimated variance of w per complex entry of y
    error_var: (B,) float32 [W], predicted E ||h_hat - h||^2 / N_r per antenna
    iterations: (B,) int32    converged: (B,) bool
    """

    channel: NDArray[np.complex64]
    gain: NDArray[np.complex64]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    mask: NDArray[np.bool_]
    noise_var: NDArray[np.float32]
    error_var: NDArray[np.float32]
    iterations: NDArray[np.int32]
    converged: NDArray[np.bool_]
