"""Resolution limits: truth is finite differences through the dense operator, and inverses of what they give."""

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.ambiguity import centre_cosines, membership
from beamslot.dsp.beams import group_beams
from beamslot.dsp.combine import dense
from beamslot.dsp.resolution import crb_difference, fisher, matched_snr, resolution_limit

INTERVAL = (-0.5, 0.0)
GROUP = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1])
CHAINS, M = 2, 3
MEMBERS, COSINE = membership(GROUP, 2).astype(float), centre_cosines(INTERVAL, 2)
DIFFERENCE = np.array([1, -1, 0, 0, 0, 0])


def observation(mu: NDArray[np.float64], g: int, spacing: float) -> NDArray[np.complex128]:
    """Return b of eq. (38), through a dense F_a, of mu = (sin theta, Re alpha, Im alpha) of two paths."""
    v = (-0.375, -0.125)[g]
    weights = group_beams(GROUP, INTERVAL, CHAINS, M).astype(complex) * (g == GROUP)[:, None, None]
    n, z = np.arange(len(GROUP)), np.arange(CHAINS * M)
    columns = np.exp(2j * np.pi * spacing * np.outer(mu[:2] * np.sqrt(1 - v**2), n))
    field = (mu[2:4] + 1j * mu[4:]) @ columns
    return dense(weights) @ np.kron(field, np.exp(1j * np.pi * z * v))


def numeric_fisher(g: int, first: float, delta: float, noise_var: float, spacing: float) -> NDArray[np.float64]:
    mu = np.array([first, first + delta, 1, 1, 0, 0])
    # Amplitudes of 1 in phase at column 0, wherever the paths are.
    step = 1e-5 * np.eye(6)
    slopes = np.stack([(observation(mu + d, g, spacing) - observation(mu - d, g, spacing)) / 2e-5 for d in step], -1)
    return 2 / noise_var * (slopes.conj().T @ slopes).real


@pytest.mark.parametrize("spacing", [0.5, 0.65])
@pytest.mark.parametrize("first", [0.0, -0.4])
def test_the_information_is_that_of_finite_differences_wherever_the_paths_are(first: float, spacing: float) -> None:
    delta, noise_var = np.array([0.11, 0.3]), 0.2
    found = fisher(MEMBERS, COSINE, delta, CHAINS * M**2 / noise_var, spacing)
    for g in range(2):
        expected = numeric_fisher(g, first, delta[g], noise_var, spacing)
        np.testing.assert_allclose(found[g], expected, rtol=1e-5, atol=1e-6 * expected.max())


@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_the_bound_of_the_difference_is_that_of_the_inverted_information(delta: float) -> None:
    bound = crb_difference(MEMBERS, COSINE, delta, CHAINS * M**2 / 0.2)
    for g in range(2):
        inverse = np.linalg.inv(numeric_fisher(g, 0.0, delta, 0.2, 0.5))
        expected = inverse[0, 0] + inverse[1, 1] - inverse[0, 1] - inverse[1, 0]
        assert bound[g] == pytest.approx(expected, rel=1e-4)


def root_error(limit: float, g: int, snr: float) -> float:
    """Return sqrt(CRB) / Delta - 1 at a distance, from finite differences."""
    inverse = np.linalg.inv(numeric_fisher(g, 0.0, limit, CHAINS * M**2 / snr, 0.5))
    return float(np.sqrt(DIFFERENCE @ inverse @ DIFFERENCE) / limit - 1)


@pytest.mark.parametrize("snr", [1e2, 1e4])
def test_at_the_limit_the_distance_is_its_own_standard_deviation_and_below_it_is_less(snr: float) -> None:
    for g, limit in enumerate(resolution_limit(MEMBERS, COSINE, snr)):
        assert root_error(limit, g, snr) == pytest.approx(0, abs=1e-3)
        assert all(root_error(limit * share, g, snr) > 0.05 for share in np.linspace(0.4, 0.95, 12))


def test_twice_the_spacing_resolves_half_the_distance() -> None:
    wide, narrow = (resolution_limit(MEMBERS, COSINE, 1e4, spacing) for spacing in (1.0, 0.5))
    np.testing.assert_allclose(2 * wide, narrow, rtol=1e-6)


def test_a_batch_equals_one_grouping_after_the_other(rng: np.random.Generator) -> None:
    members = membership(rng.integers(0, 2, (6, 20)), 2).astype(float)
    together = resolution_limit(members, COSINE, 1e4)
    assert together.shape == (6, 2)
    for alone, row in zip(members, together, strict=True):
        np.testing.assert_allclose(resolution_limit(alone, COSINE, 1e4), row, rtol=1e-8)


def test_what_cannot_be_told_apart_has_no_finite_limit() -> None:
    few = np.zeros((3, 2, 9))
    few[1, :, 4], few[2, :, [2, 7]] = 1, 1  # no, one and two columns a group
    assert np.isinf(resolution_limit(few, COSINE, 1e6)).all()
    assert np.isinf(crb_difference(MEMBERS, COSINE, 0.0, 1e6)).all()
    assert np.isinf(resolution_limit(MEMBERS, COSINE, 1e-9)).all()


def test_the_snr_of_the_paper_is_that_of_matched_beams() -> None:
    matrix = dense(group_beams(np.zeros(1, int), INTERVAL, 6, 12).astype(complex))
    seen = matrix @ np.exp(1j * np.pi * np.arange(72) * -0.25)
    assert matched_snr(6, 12) == pytest.approx(np.sum(np.abs(seen) ** 2) / 0.18**2, rel=1e-6)
