"""Users in front of a linear array: truth is the phase written out, and moments over many frames."""

from typing import Any

import numpy as np
import pytest

from beamslot.dsp.ula import S0, S1, UlaScene, array_response, complex_normal
from beamslot.errors import BadParam


def spread(samples: Any) -> Any:
    """Return E x x^H over all but the last axis."""
    rows = samples.reshape(-1, samples.shape[-1])
    return rows.T @ rows.conj() / len(rows)


@pytest.mark.parametrize("antennas", [2, 7, 32])
def test_a_steering_vector_turns_by_the_path_difference_from_antenna_to_antenna(antennas: int) -> None:
    theta = np.array([[-1.1, 0.0], [0.3, 2.0]])
    found = array_response(theta, antennas, 0.7)
    assert found.shape == (2, 2, antennas)
    for at in np.ndindex(2, 2):
        wanted = [np.exp(2j * np.pi * 0.7 * n * np.sin(theta[at])) for n in range(antennas)]
        np.testing.assert_allclose(found[at], wanted, atol=1e-12)


def test_an_observation_is_the_users_weighted_responses_and_noise_of_the_given_snr() -> None:
    scene = UlaScene(antennas=16, snapshots=20)
    snr_db = np.repeat([0.0, 10.0], 150)
    frames = scene.frames(np.random.default_rng(1), 300, snr_db)
    clean = np.einsum("fmk,fkn->fmn", frames.gain, array_response(frames.theta, 16))
    noise = frames.observation - clean
    assert frames.observation.dtype == np.complex64
    for rows, noise_var in ((slice(0, 150), 1.0), (slice(150, 300), 0.1)):
        np.testing.assert_allclose(frames.noise_var[rows], noise_var)
        power = np.mean(np.abs(noise[rows]) ** 2)
        assert power == pytest.approx(noise_var, rel=5 / np.sqrt(noise[rows].size))
        np.testing.assert_allclose(np.abs(spread(noise[rows])), noise_var * np.eye(16), atol=0.12 * noise_var)


def test_complex_normal_is_circular_with_unit_variance() -> None:
    made = complex_normal(np.random.default_rng(2), 200, 100)
    assert np.mean(np.abs(made) ** 2) == pytest.approx(1, abs=0.03)
    assert abs(np.mean(made**2)) < 0.03
    assert abs(np.mean(made)) < 0.03


@pytest.mark.parametrize("correlation", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("k_factor_db", [None, 10.0])
def test_gains_have_unit_power_and_the_covariance_that_is_said(correlation: float, k_factor_db: float | None) -> None:
    scene = UlaScene(correlation=correlation, k_factor_db=k_factor_db)
    frames = scene.frames(np.random.default_rng(3), 500, 0.0)
    rest = 1.0 if k_factor_db is None else 1 / 11
    wanted = rest * (correlation * np.ones((3, 3)) + (1 - correlation) * np.eye(3))
    np.testing.assert_allclose(frames.covariance, wanted, atol=1e-12)
    np.testing.assert_allclose(spread(frames.gain - frames.mean[:, None]), wanted, atol=0.05 * rest)
    np.testing.assert_allclose(np.mean(np.abs(frames.gain) ** 2, (0, 1)), 1, atol=0.05)
    np.testing.assert_allclose(np.abs(frames.mean) ** 2, 1 - rest, atol=1e-12)


def test_the_phase_of_the_mean_is_known_or_drawn_for_every_frame_and_user() -> None:
    known = UlaScene(k_factor_db=20.0).means(np.random.default_rng(4), 400)
    drawn = UlaScene(k_factor_db=20.0, mean_phase="random").means(np.random.default_rng(4), 400)
    assert np.all(np.angle(known) == 0)
    assert np.max(np.abs(drawn.mean(0))) < 5 / np.sqrt(400)
    assert UlaScene(mean_phase="random").means(np.random.default_rng(4), 2).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("separation", [0.0, S1, S0])
def test_users_are_in_order_in_the_sector_and_apart(separation: float) -> None:
    scene = UlaScene(separation=separation, sector=(-0.4, 0.9))
    theta = scene.angles(np.random.default_rng(5), 3000)
    gaps = np.diff(np.sin(theta), axis=1)
    assert (theta.min(), theta.max()) == (pytest.approx(-0.4, abs=0.01), pytest.approx(0.9, abs=0.01))
    assert gaps.min() >= separation
    assert np.mean(gaps < separation + 0.02) > 0.01


def test_one_user_is_uniform_in_angle() -> None:
    theta = UlaScene(users=1).angles(np.random.default_rng(6), 8000)[:, 0]
    share = np.histogram(theta, np.linspace(-np.pi / 3, np.pi / 3, 5))[0] / 8000
    np.testing.assert_allclose(share, 0.25, atol=0.02)


def test_behind_the_array_users_keep_apart_from_the_mirror_images_of_others() -> None:
    theta = UlaScene(sector=(-np.pi, np.pi)).angles(np.random.default_rng(7), 500)
    assert np.all(np.diff(theta, axis=1) >= 0)
    assert np.mean(np.abs(theta) > np.pi / 2) > 0.3
    assert np.diff(np.sort(np.sin(theta), 1), axis=1).min() >= S0


def test_values_that_it_cannot_have_are_all_named_at_once() -> None:
    with pytest.raises(BadParam) as caught:
        UlaScene(antennas=1, users=0, snapshots=0, spacing=0.0, sector=(1.0, -1.0), separation=-1.0, correlation=2.0)
    told = str(caught.value)
    for name in ("antennas", "users", "snapshots", "spacing", "sector", "separation", "correlation"):
        assert f"ula.{name} is" in told


def test_users_that_do_not_fit_the_sector_are_refused() -> None:
    with pytest.raises(BadParam, match=r"ula.separation is 0.3, wanted such that 3 users fit the sector"):
        UlaScene(separation=0.3, sector=(-0.1, 0.1)).angles(np.random.default_rng(8))
