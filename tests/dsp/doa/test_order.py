"""Criteria by hand, and how often the number of users is right."""

import numpy as np
import pytest
from beamslot_ula import THREE, normal, observed

from beamslot.dsp.doa.covariance import sample_covariance, spatially_smoothed
from beamslot.dsp.doa.order import count_users, criteria, users_by_eigenvalues
from beamslot.dsp.ula import UlaScene

RNG = np.random.default_rng(14)


@pytest.mark.parametrize("centro", [False, True])
def test_criteria_are_those_of_the_formula(centro: bool) -> None:
    values = np.array([0.9, 7.0, 1.1, 3.0])
    ordered = [7.0, 3.0, 1.1, 0.9]
    for users in range(4):
        left = ordered[users:]
        ratio = np.prod(left) ** (1 / len(left)) / np.mean(left)
        likelihood = 20 * len(left) * np.log(ratio)
        free = users * (8 - users + 1) / 2 if centro else users * (8 - users)
        mdl, aic = (criteria(values, 20, criterion, centro=centro)[users] for criterion in ("mdl", "aic"))
        assert mdl == pytest.approx(-likelihood + 0.5 * free * np.log(20))
        assert aic == pytest.approx(-2 * likelihood + 2 * free)


def test_the_least_criterion_wins_frame_by_frame() -> None:
    values = np.array([[9.0, 1.0, 1.01, 0.99], [9.0, 8.0, 0.01, 0.01], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(users_by_eigenvalues(values, 50), [1, 2, 0])


def test_smoothed_counts_are_those_of_the_smoothed_eigenvalues() -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3)) + 0.5 * normal(RNG, 2, 40, 32)
    values = np.linalg.eigvalsh(spatially_smoothed(sample_covariance(observation)))
    wanted = users_by_eigenvalues(values, 40 * 3, centro=True)  # nine subarrays are worth three
    np.testing.assert_array_equal(count_users(observation), wanted)
    plain = users_by_eigenvalues(np.linalg.eigvalsh(sample_covariance(observation)), 40)
    np.testing.assert_array_equal(count_users(observation, subarray=None), plain)


@pytest.mark.parametrize("correlation", [0.0, 1.0])
@pytest.mark.parametrize("snr_db", [0, 20])
def test_users_are_counted_right_also_coherent_ones(correlation: float, snr_db: float) -> None:
    frames = UlaScene(correlation=correlation).frames(np.random.default_rng(15), 500, snr_db)
    assert np.mean(count_users(frames.observation) == 3) >= 0.99
    plain = np.mean(count_users(frames.observation, subarray=None) == 3)
    assert plain == (1 if correlation == 0 else 0)


def test_aic_sees_weaker_users_than_mdl_and_some_that_are_not_there() -> None:
    weak, strong = (UlaScene().frames(np.random.default_rng(16), 300, snr_db) for snr_db in (-10, 10))
    seen = {criterion: count_users(weak.observation, criterion, subarray=None) for criterion in ("mdl", "aic")}
    assert np.mean(seen["aic"] == 3) > 0.7
    assert np.mean(seen["mdl"] == 3) < 0.05
    assert 0.003 < np.mean(count_users(strong.observation, "aic", subarray=None) > 3) < 0.05


def test_few_snapshots_are_counted_as_far_as_they_go() -> None:
    frames = UlaScene(snapshots=5).frames(np.random.default_rng(17), 300, 20)
    assert np.mean(count_users(frames.observation) == 3) >= 0.99
    single = UlaScene(snapshots=1).frames(np.random.default_rng(18), 300, 20)
    assert np.mean(count_users(single.observation) == 3) > 0.85
    assert np.mean(count_users(single.observation, subarray=None)) == 0


def test_rounding_of_single_precision_is_no_user() -> None:
    rounded = observed(THREE, normal(RNG, 2, 40, 3)).astype(np.complex64)
    np.testing.assert_array_equal(count_users(rounded), 3)


def test_noise_and_silence_hold_nobody() -> None:
    assert np.mean(count_users(normal(RNG, 200, 40, 32))) < 0.02
    assert not count_users(np.zeros((2, 40, 32))).any()
