"""KR-MUSIC, by the lags of exact covariances and on frames."""

import numpy as np
import pytest
from beamslot_ula import THREE, degrees, normal, observed, responses

from beamslot.dsp.doa.kr_music import from_lags, kr_music, local_lags
from beamslot.dsp.ula import UlaScene
from beamslot.errors import BadParam

RNG = np.random.default_rng(6)


def test_lags_are_diagonal_sums_of_local_covariances() -> None:
    rows = normal(RNG, 2, 7, 5)
    made = local_lags(rows, 3)
    assert made.shape == (2, 2, 9)
    for block in range(2):
        piece = rows[1, 3 * block : 3 * block + 3]
        covariance = sum(np.outer(y, y.conj()) for y in piece) / 3
        wanted = [np.trace(covariance, -lag) / np.sqrt(5 - abs(lag)) for lag in range(-4, 5)]
        np.testing.assert_allclose(made[1, block], wanted, atol=1e-12)


def test_more_users_than_antennas_are_found_where_powers_change() -> None:
    theta = np.radians([[-55.0, -25.0, -3.0, 18.0, 50.0]])
    power = RNG.uniform(0.1, 2, (1, 12, 5))
    vectors = responses(theta[0], 4)
    covariance = np.einsum("fbk,kn,km->fbnm", power, vectors, vectors.conj())
    noise = normal(RNG, 4, 4)
    covariance = covariance + noise @ noise.conj().T  # of any colour, the same in all blocks
    lags = [np.trace(covariance, -lag, -2, -1) / np.sqrt(4 - abs(lag)) for lag in range(-3, 4)]
    np.testing.assert_allclose(from_lags(np.stack(lags, axis=-1), 5), theta, atol=1e-7)


def test_long_blocks_of_changing_power_approach_that() -> None:
    power = np.repeat(RNG.uniform(0.05, 3, (2, 20, 3)), 500, axis=1)
    observation = observed(THREE, np.sqrt(power) * normal(RNG, 2, 10_000, 3)) + normal(RNG, 2, 10_000, 32)
    assert degrees(kr_music(observation, 3, block=500), THREE) < 0.1


def test_on_single_snapshots_it_works_and_is_worse_than_music() -> None:
    frames = UlaScene().frames(np.random.default_rng(7), 200, 10)
    assert 0.04 < degrees(kr_music(frames.observation, 3), frames.theta) < 0.1


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(BadParam, match=r"kr_music.users is 3, wanted 1 .. 2, with 3 blocks of 13"):
        kr_music(np.ones((1, 40, 32)), 3, block=13)
