"""MODE against truth without noise, its criterion minimised by scipy, and the bound."""

from typing import Any

import numpy as np
import pytest
from beamslot_ula import THREE, degrees, normal, observed, responses
from numpy.typing import NDArray
from scipy.optimize import minimize

from beamslot.dsp.doa.esprit import esprit
from beamslot.dsp.doa.mode import mode
from beamslot.dsp.doa_bounds import crb_conditional
from beamslot.dsp.ula import UlaScene
from beamslot.errors import BadParam

RNG = np.random.default_rng(8)


@pytest.mark.parametrize("spacing", [0.5, 0.4])
@pytest.mark.parametrize("rounds", [1, 2])
def test_without_noise_angles_are_exact(spacing: float, rounds: int) -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3), spacing=spacing)
    np.testing.assert_allclose(mode(observation, 3, spacing, rounds=rounds), THREE, atol=1e-6)
    away = mode(observation, 3, spacing, rounds=rounds, start=THREE + 0.02)
    np.testing.assert_allclose(away, THREE, atol=1e-6)


def test_coherent_users_share_an_eigenvector() -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 1) * [1, 1j, -1])
    np.testing.assert_allclose(mode(observation, 3, rank=1), THREE, atol=1e-6)
    np.testing.assert_allclose(mode(observation[:, :1], 3), THREE, atol=1e-6)


def test_rounds_end_at_the_minimum_of_weighted_subspace_fitting() -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3)) + 0.1 * normal(RNG, 2, 40, 32)
    made = mode(observation, 3, rounds=6)
    for frame, angles in zip(observation, made, strict=True):
        values, vectors = np.linalg.eigh(frame.T @ frame.conj() / 40)
        noise_var = values[:-3].mean()
        weighted = vectors[:, -3:] * (values[-3:] - noise_var) / np.sqrt(values[-3:])

        def misfit(theta: NDArray[Any], weighted: NDArray[Any] = weighted) -> float:
            atoms = responses(theta).T
            left = weighted - atoms @ np.linalg.lstsq(atoms, weighted, rcond=None)[0]
            return float(np.sum(np.abs(left) ** 2))

        best = minimize(misfit, angles, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
        np.testing.assert_allclose(angles, best.x, atol=2e-5)  # a fiftieth of its deviation


@pytest.mark.parametrize("correlation", [0.0, 0.99])
def test_errors_are_at_the_bound(correlation: float) -> None:
    frames = UlaScene(correlation=correlation).frames(np.random.default_rng(9), 250, 10)
    bound = np.sqrt(crb_conditional(frames.theta, frames.gain, frames.noise_var, 32, 0.5).mean())
    error = np.sqrt(np.mean((mode(frames.observation, 3) - frames.theta) ** 2))
    assert 0.92 < error / bound < 1.08


def test_at_low_snr_a_start_avoids_outliers() -> None:
    frames = UlaScene().frames(np.random.default_rng(10), 100, -10)
    start = esprit(frames.observation, 3, subarray=24)
    assert degrees(mode(frames.observation, 3), frames.theta) > 2
    assert degrees(mode(frames.observation, 3, rounds=1, start=start), frames.theta) < 0.3


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(BadParam) as caught:
        mode(np.ones((1, 4, 8)), 8, rank=9, rounds=0)
    assert str(caught.value).splitlines() == [
        "doa.users is 8, wanted 1 .. 7, fewer than the antennas",
        "mode.rank is 9, wanted 1 .. 8, the users",
        "mode.rounds is 0, wanted at least 1",
    ]
