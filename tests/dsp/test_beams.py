"""Analog beams: truth is the Dirichlet kernel and the width asked for."""

import numpy as np
import pytest
from scipy.special import diric

from beamslot.dsp.beams import group_beams, random_beams, wide_beams
from beamslot.dsp.combine import response

GROUP = np.array([0, 1, 2, 3, 3, 2, 1, 0], np.int16)
INTERVAL = (-0.5, 0.0)


def power(weights: np.ndarray, v: np.ndarray, spacing: float = 0.5) -> np.ndarray:
    """Return the power gain of the first chain of each column over v, (y, v)."""
    return np.abs(response(weights, v, spacing)[:, 0]) ** 2


@pytest.mark.parametrize(
    "weights",
    [
        random_beams(8, 6, 12, np.random.default_rng(0)),
        wide_beams(8, 6, 12, INTERVAL),
        group_beams(GROUP, INTERVAL, 6, 12),
    ],
)
def test_phase_shifters_have_unit_modulus(weights: np.ndarray) -> None:
    assert (weights.shape, weights.dtype) == ((8, 6, 12), np.complex64)
    np.testing.assert_allclose(np.abs(weights), 1, atol=1e-6)


@pytest.mark.parametrize("spacing", [0.5, 0.4])
def test_a_group_beam_is_a_dirichlet_kernel_about_the_centre_of_its_part(spacing: float) -> None:
    v, centre = np.linspace(-0.6, 0.1, 701), np.array([-0.4375, -0.3125, -0.1875, -0.0625])[GROUP]
    expected = 144 * diric(2 * np.pi * spacing * (v - centre[:, None]), 12) ** 2
    np.testing.assert_allclose(power(group_beams(GROUP, INTERVAL, 6, 12, spacing), v, spacing), expected, atol=2e-4)


def test_a_matched_path_adds_up_in_phase_in_every_chain() -> None:
    weights = group_beams(GROUP, INTERVAL, 6, 12)
    np.testing.assert_allclose(np.abs(response(weights, np.array([-0.4375]))[0]), 12, rtol=1e-6)


def test_the_conjugate_matters_without_it_the_array_gain_is_gone() -> None:
    weights, centre = group_beams(GROUP, INTERVAL, 6, 12), np.array([-0.4375])
    assert power(weights.conj(), centre)[0, 0] < 0.1 * power(weights, centre)[0, 0]


def test_columns_without_a_group_are_switched_off() -> None:
    weights = group_beams(np.array([0, -1, 1], np.int16), INTERVAL, 2, 4)
    assert not weights[1].any()
    np.testing.assert_allclose(np.abs(weights[[0, 2]]), 1, atol=1e-6)
    assert not group_beams(np.array([-1, -1], np.int16), INTERVAL, 2, 4).any()


def test_a_wide_beam_covers_its_interval_evenly_and_little_else() -> None:
    v = np.linspace(-1, 1, 2000, endpoint=False)
    gain = power(wide_beams(1, 1, 12, INTERVAL), v)[0]
    inside = (v > -0.5) & (v < 0)
    assert gain[inside].sum() > 0.8 * gain.sum()
    # The mean over all v is M (Parseval), so a perfect quarter of the range would have 4 M everywhere.
    assert gain[inside].min() > 12
    assert gain[inside].max() < 8 * 12


def test_random_beams_are_uniform_in_phase_and_keyed_by_their_generator() -> None:
    weights = random_beams(64, 6, 12, np.random.default_rng(3))
    np.testing.assert_array_equal(weights, random_beams(64, 6, 12, np.random.default_rng(3)))
    # The mean of n unit phasors has a standard deviation of n^-1/2 = 0.015; its square likewise.
    assert abs(weights.mean()) < 0.06
    assert abs((weights**2).mean()) < 0.06
