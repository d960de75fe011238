"""MUSIC, root-MUSIC and ESPRIT against each other, textbooks written out here, and truth without noise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from beamslot_ula import THREE, degrees, normal, observed, responses
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import noise_projector, sample_covariance, signal_subspace, sines, spatially_smoothed
from beamslot.dsp.doa.esprit import esprit
from beamslot.dsp.doa.music import music, null_spectrum
from beamslot.dsp.doa.root_music import fbss_root_music, next_to_circle, root_music, roots
from beamslot.dsp.doa_bounds import crb_conditional
from beamslot.dsp.ula import UlaScene
from beamslot.errors import BadParam

RNG = np.random.default_rng(4)
METHODS: dict[str, Callable[..., NDArray[Any]]] = {
    "music": music,
    "root_music": root_music,
    "esprit_tls": esprit,
    "esprit_ls": partial(esprit, fit="ls"),
    "fbss_music": partial(music, subarray=24),
    "fbss_root_music": fbss_root_music,
    "fbss_esprit": partial(esprit, subarray=24),
}
SMOOTHED = [name for name in METHODS if name.startswith("fbss")]
PLAIN = [name for name in METHODS if not name.startswith("fbss")]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("spacing", [0.5, 0.37])
def test_without_noise_angles_are_exact(name: str, spacing: float) -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3), spacing=spacing)
    np.testing.assert_allclose(METHODS[name](observation, 3, spacing), THREE, atol=2e-7)


@pytest.mark.parametrize("name", METHODS)
def test_leading_axes_pass_through(name: str) -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3)) + 0.1 * normal(RNG, 2, 40, 32)
    whole = METHODS[name](observation, 3)
    assert np.all(np.diff(whole) > 0)
    np.testing.assert_allclose(METHODS[name](observation[:, None], 3)[:, 0], whole, atol=1e-9)
    np.testing.assert_allclose(METHODS[name](observation[1], 3), whole[1], atol=1e-9)


@pytest.mark.parametrize("name", SMOOTHED)
@pytest.mark.parametrize("snapshots", [1, 40])
def test_coherent_users_are_found_when_smoothed(name: str, snapshots: int) -> None:
    observation = observed(THREE, normal(RNG, 2, snapshots, 1) * [1, 1j, -1])
    np.testing.assert_allclose(METHODS[name](observation, 3), THREE, atol=2e-7)


@pytest.mark.parametrize("name", PLAIN)
def test_coherent_users_deceive_plain_subspaces(name: str) -> None:
    pair = np.radians([[3.0, 6.0]])
    gain = normal(RNG, 1, 40, 1) * np.ones(2)
    observation = observed(pair, np.repeat(gain, 20, axis=0)) + 0.3 * normal(RNG, 20, 40, 32)
    assert degrees(METHODS[name](observation, 2), pair) > 0.7
    assert degrees(fbss_root_music(observation, 2), pair) < 0.2


@pytest.mark.parametrize("subarray", [None, 6])
def test_root_music_is_the_textbook(subarray: int | None) -> None:
    observation = observed(THREE[:, :2], normal(RNG, 2, 9, 2), 8) + 0.3 * normal(RNG, 2, 9, 8)
    covariance = sample_covariance(observation)
    covariance = covariance if subarray is None else spatially_smoothed(covariance, subarray)
    for frame, made in zip(covariance, root_music(observation, 2, subarray=subarray), strict=True):
        noise = np.linalg.eigh(frame)[1][:, :-2]
        antennas = len(frame)
        projector = noise @ noise.conj().T
        lags = range(antennas - 1, -antennas, -1)
        found = np.roots([np.trace(projector, lag) for lag in lags])
        inside = found[np.abs(found) < 1]
        nearest = inside[np.argsort(-np.abs(inside))[:2]]
        np.testing.assert_allclose(made, np.sort(np.arcsin(np.angle(nearest) / np.pi)), atol=1e-8)


def test_esprit_is_the_textbook() -> None:
    observation = observed(THREE[:, :2], normal(RNG, 2, 9, 2), 8) + 0.3 * normal(RNG, 2, 9, 8)
    for index, frame in enumerate(sample_covariance(observation)):
        signal = np.linalg.eigh(frame)[1][:, -2:]
        plain = np.linalg.lstsq(signal[:-1], signal[1:], rcond=None)[0]
        right = np.linalg.svd(np.hstack([signal[:-1], signal[1:]]))[2].conj().T
        total = -right[:2, 2:] @ np.linalg.inv(right[2:, 2:])
        for fit, turn in (("ls", plain), ("tls", total)):
            wanted = np.sort(np.arcsin(np.angle(np.linalg.eigvals(turn)) / np.pi))
            np.testing.assert_allclose(esprit(observation, 2, fit=fit)[index], wanted, atol=1e-9)


def test_the_null_spectrum_is_the_distance_from_the_signal_subspace() -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3)) + 0.3 * normal(RNG, 2, 40, 32)
    signal = signal_subspace(observation, 3)
    beams = responses(np.arcsin(sines(256)))
    inside = np.sum(np.abs(np.einsum("gn,fnk->fgk", beams.conj(), signal)) ** 2, axis=-1) / 32
    np.testing.assert_allclose(null_spectrum(signal, 256), 1 - inside, atol=1e-9)


def test_music_ends_at_minima_of_the_null_spectrum() -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3)) + 0.3 * normal(RNG, 2, 40, 32)
    projector = noise_projector(signal_subspace(observation, 3))
    made = music(observation, 3)

    def depth(theta: NDArray[Any]) -> NDArray[Any]:
        beams = responses(theta)
        return np.einsum("fkn,fnm,fkm->fk", beams.conj(), projector, beams).real

    for shift in (-1e-4, 1e-4):
        assert np.all(depth(made) < depth(made + shift))
    coarse = music(observation, 3, steps=0)
    assert 0 < np.abs(coarse - made).max() < 1 / 256


def test_roots_are_those_of_numpy_also_where_the_leading_coefficient_vanishes() -> None:
    coefficients = normal(RNG, 3, 7)
    for row, made in zip(coefficients, roots(coefficients), strict=True):
        np.testing.assert_allclose(np.sort_complex(made), np.sort_complex(np.roots(row[::-1])), atol=1e-9)
    found = roots(np.array([[2.0 + 0j, -3, 1, 0]]))[0]
    np.testing.assert_allclose(np.sort(found[np.abs(found) < 10].real), [1, 2], atol=1e-9)


def test_roots_are_taken_in_pairs() -> None:
    inside = np.array([0.99 * np.exp(0.3j), 0.97 * np.exp(1j), 0.5 * np.exp(2j)])
    torn = np.exp(1j * np.array([-1 - 1e-8, -1 + 1e-8]))
    found = np.concatenate([inside, 1 / inside.conj(), torn])[None]
    np.testing.assert_allclose(np.sort(next_to_circle(found, 3)), [[-1, 0.3, 1]], atol=1e-12)


@pytest.mark.parametrize(("name", "low", "high"), [("root_music", 0.95, 1.12), ("fbss_esprit", 1.0, 1.2)])
def test_errors_are_near_the_bound(name: str, low: float, high: float) -> None:
    frames = UlaScene().frames(np.random.default_rng(5), 120, 10)
    bound = np.sqrt(crb_conditional(frames.theta, frames.gain, frames.noise_var, 32, 0.5).mean())
    error = np.sqrt(np.mean((METHODS[name](frames.observation, 3) - frames.theta) ** 2))
    assert low < error / bound < high


def test_too_many_users_are_refused() -> None:
    for method in METHODS.values():
        with pytest.raises(BadParam, match=r"doa.users is 32, wanted 1 .. (31|23)"):
            method(np.ones((1, 40, 32)), 32)
