"""Covariances, their smoothing, and forms on a grid, against loops over entries and angles."""

import numpy as np
import pytest
from beamslot_ula import THREE, normal, observed, responses

from beamslot.dsp.doa.covariance import (
    angles_of,
    centre_turn,
    covariance_of,
    default_subarray,
    diagonal_sums,
    eigen,
    forward_backward,
    noise_projector,
    on_grid,
    sample_covariance,
    signal_subspace,
    sines,
    spatially_smoothed,
)
from beamslot.errors import BadParam

RNG = np.random.default_rng(1)
ROWS = normal(RNG, 2, 5, 8)
HERMITIAN = sample_covariance(ROWS)


def test_the_covariance_is_the_mean_of_outer_products() -> None:
    wanted = np.mean([np.outer(y, y.conj()) for y in ROWS[1]], axis=0)
    np.testing.assert_allclose(HERMITIAN[1], wanted, atol=1e-12)
    np.testing.assert_allclose(sample_covariance(ROWS.astype(np.complex64))[1], wanted, atol=1e-6)
    np.testing.assert_array_equal(covariance_of(ROWS), HERMITIAN)


def test_backward_snapshots_are_conjugated_and_reversed() -> None:
    both = np.concatenate([ROWS, ROWS[..., ::-1].conj()], axis=-2)
    np.testing.assert_allclose(forward_backward(HERMITIAN), sample_covariance(both), atol=1e-12)


@pytest.mark.parametrize("subarray", [2, 5, 8])
def test_smoothing_is_the_covariance_of_all_pieces_forward_and_backward(subarray: int) -> None:
    pieces = [ROWS[..., start : start + subarray] for start in range(8 - subarray + 1)]
    pieces += [piece[..., ::-1].conj() for piece in pieces]
    wanted = sample_covariance(np.concatenate(pieces, axis=-2))
    np.testing.assert_allclose(spatially_smoothed(HERMITIAN, subarray), wanted, atol=1e-12)
    np.testing.assert_allclose(covariance_of(ROWS, subarray), wanted, atol=1e-12)


def test_smoothing_gives_coherent_users_as_many_dimensions_as_there_are_of_them() -> None:
    gain = normal(RNG, 2, 40, 1) * np.ones(3)
    plain = sample_covariance(observed(THREE, gain))
    np.testing.assert_array_equal(np.linalg.matrix_rank(plain, tol=1e-8), 1)
    np.testing.assert_array_equal(np.linalg.matrix_rank(spatially_smoothed(plain), tol=1e-8), 3)


@pytest.mark.parametrize("subarray", [5, 8])
def test_the_real_form_has_the_same_eigenvalues_and_vectors(subarray: int) -> None:
    matrix = spatially_smoothed(HERMITIAN, subarray)
    turn = centre_turn(subarray)
    np.testing.assert_allclose(turn.conj().T @ turn, np.eye(subarray), atol=1e-12)
    np.testing.assert_allclose((turn.conj().T @ matrix @ turn).imag, 0, atol=1e-12)
    values, vectors = eigen(matrix, centro=True)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix), atol=1e-12)
    np.testing.assert_allclose(matrix @ vectors, vectors * values[:, None], atol=1e-12)


def test_the_signal_subspace_holds_the_responses_and_the_projector_nothing_of_them() -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3))
    for subarray, antennas in ((None, 32), (24, 24)):
        signal = signal_subspace(observation, 3, subarray)
        assert signal.shape == (2, antennas, 3)
        left = responses(THREE, antennas).conj() @ noise_projector(signal)
        assert np.abs(left).max() < 1e-9


def test_diagonals_are_summed() -> None:
    matrix = normal(RNG, 2, 3, 7, 7)
    wanted = np.stack([np.trace(matrix, lag, -2, -1) for lag in range(7)], axis=-1)
    np.testing.assert_allclose(diagonal_sums(matrix), wanted, atol=1e-12)


@pytest.mark.parametrize("spacing", [0.5, 0.3, 0.8])
def test_a_form_on_the_grid_is_that_of_every_response(spacing: float) -> None:
    grid = sines(16, spacing)
    vectors = np.exp(2j * np.pi * spacing * np.arange(8) * grid[:, None])
    wanted = np.einsum("gn,fnm,gm->fg", vectors.conj(), HERMITIAN, vectors).real
    np.testing.assert_allclose(on_grid(HERMITIAN, 16), wanted, atol=1e-11)
    assert grid[0] == pytest.approx(-1 / (2 * spacing))
    assert grid[8] == 0
    np.testing.assert_allclose(np.diff(grid), 1 / (16 * spacing))


def test_phases_become_ascending_angles_within_what_can_be_seen() -> None:
    theta = np.array([[0.3, -0.7, 1.2]])
    phase = 2 * np.pi * 0.4 * np.sin(theta)
    np.testing.assert_allclose(angles_of(phase, 0.4), [[-0.7, 0.3, 1.2]])
    np.testing.assert_allclose(angles_of(np.array([[-3.0, 3.0]]), 0.4), [[-np.pi / 2, np.pi / 2]])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadParam, match=r"doa.subarray is 9, wanted 2 .. 8"):
        spatially_smoothed(HERMITIAN, 9)
    with pytest.raises(BadParam, match=r"doa.users is 8, wanted 1 .. 7"):
        signal_subspace(ROWS, 8)
    for bins in (14, 17):
        with pytest.raises(BadParam, match="wanted even, at least 15"):
            on_grid(HERMITIAN, bins)
    assert (default_subarray(32), default_subarray(2)) == (24, 2)
