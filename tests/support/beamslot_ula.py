"""Frames in front of a linear array for tests of directions of arrival, written without the package."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def responses(theta: Any, antennas: int = 32, spacing: float = 0.5) -> NDArray[Any]:
    """Return a(theta), (..., N)."""
    return np.exp(2j * np.pi * spacing * np.arange(antennas) * np.sin(np.asarray(theta))[..., None])


def normal(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    """Return draws of CN(0, 1)."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def observed(theta: Any, gain: NDArray[Any], antennas: int = 32, spacing: float = 0.5) -> NDArray[Any]:
    """Return frames without noise, (F, M, N), of angles (F, K) and gains (F, M, K)."""
    return gain @ responses(theta, antennas, spacing)


def degrees(estimate: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the RMSE in degrees."""
    return float(np.rad2deg(np.sqrt(np.mean((estimate - truth) ** 2))))


THREE = np.radians([[-41.0, 3.0, 12.0], [-20.0, -12.5, 55.0]])
"""Angles of two frames, (F, K), at least 1.5 beams apart."""
