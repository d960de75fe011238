"""Spectra against loops over angles, and peaks against what is put there."""

import numpy as np
import pytest
from beamslot_ula import THREE, degrees, normal, observed, responses

from beamslot.dsp.doa.covariance import sample_covariance, sines
from beamslot.dsp.doa.peaks import (
    bins_for,
    capon,
    coherent,
    largest_peaks,
    matched,
    peak_angles,
    pseudo_labels,
    spectra,
)
from beamslot.dsp.ula import UlaScene
from beamslot.errors import BadParam

RNG = np.random.default_rng(2)
ROWS = normal(RNG, 2, 5, 8)
BEAMS = np.exp(1j * np.pi * np.arange(8) * sines(64)[:, None])


def test_spectra_are_those_of_every_response() -> None:
    seen = np.einsum("gn,fmn->fmg", BEAMS.conj(), ROWS) / 8
    np.testing.assert_allclose(matched(ROWS, 64), np.mean(np.abs(seen) ** 2, axis=1), atol=1e-12)
    np.testing.assert_allclose(coherent(ROWS, 64), np.abs(seen.mean(axis=1)) ** 2, atol=1e-12)
    covariance = sample_covariance(ROWS)
    loaded = covariance + 0.1 * np.trace(covariance, axis1=1, axis2=2).real[:, None, None] / 8 * np.eye(8)
    form = np.einsum("gn,fnm,gm->fg", BEAMS.conj(), np.linalg.inv(loaded), BEAMS).real
    np.testing.assert_allclose(capon(covariance, 64, 0.1), 1 / form, rtol=1e-9)


def test_a_lone_user_shows_its_power() -> None:
    gain = np.full((1, 3, 1), 2.0j)
    observation = observed([[0.0]], gain)
    for spectrum in (matched(observation), coherent(observation)):
        assert spectrum[0, 128] == pytest.approx(4)
        assert spectrum[0].argmax() == 128


def test_kinds_come_in_order_and_agree_with_the_functions() -> None:
    made = spectra(ROWS, 64, ("coherent", "matched", "capon", "smoothed_capon"), subarray=6)
    assert made.shape == (2, 4, 64)
    np.testing.assert_allclose(made[:, 0], coherent(ROWS, 64), atol=1e-12)
    np.testing.assert_allclose(made[:, 1], matched(ROWS, 64), atol=1e-12)
    np.testing.assert_allclose(made[:, 2], capon(sample_covariance(ROWS), 64), rtol=1e-9)
    assert np.all(made[:, 3] > 0)
    assert np.isfinite(spectra(np.zeros((1, 2, 8)), 64, subarray=6)).all()


def test_smoothing_shows_capon_coherent_users() -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 1) * np.ones(3)) + 0.1 * normal(RNG, 2, 40, 32)
    smoothed = spectra(observation, 512, ("smoothed_capon",))[:, 0]
    assert degrees(peak_angles(smoothed, 3, 32), THREE) < 0.3


def test_peaks_are_maxima_and_not_neighbours_of_the_largest() -> None:
    place = np.array([[10.2, 30.0, 55.7]])
    spectrum = np.maximum(0, 9 - np.array([3.0, 1.0, 2.0])[:, None] * 0 - (np.arange(64) - place.T) ** 2)
    spectrum = (spectrum * np.array([[1.0], [0.3], [0.6]])).sum(axis=0)[None]
    np.testing.assert_allclose(largest_peaks(spectrum, 3, 4), place, atol=1e-9)
    np.testing.assert_allclose(largest_peaks(spectrum, 2, 4), place[:, [0, 2]], atol=1e-9)


def test_a_peak_may_lie_across_the_ends() -> None:
    spectrum = 9.0 - ((np.arange(64) + 32) % 64 - 32 + 0.25) ** 2
    np.testing.assert_allclose(largest_peaks(spectrum[None], 1, 4), [[63.75]])


def test_where_there_are_too_few_maxima_others_keep_their_distance() -> None:
    spectrum = 100 - (np.arange(64.0) - 20) ** 2
    spectrum[63] = spectrum[0] = -2000
    found = largest_peaks(spectrum[None], 3, 4)[0]
    assert np.abs(found - 20).min() < 1e-9
    assert np.diff(found).min() > 3
    flat = largest_peaks(np.zeros((2, 64)), 3, 4)
    assert np.diff(flat, axis=1).min() > 4


def test_what_is_beyond_the_horizon_is_no_peak() -> None:
    spectrum = np.ones((1, 64))
    spectrum[0, [5, 40]] = 9, 4
    assert np.abs(sines(64, 0.25)[5]) > 1
    np.testing.assert_allclose(np.sin(peak_angles(spectrum, 1, 8, 0.25)), [[sines(64, 0.25)[40]]])


@pytest.mark.parametrize("spacing", [0.5, 0.4])
def test_pseudo_labels_find_users_within_a_fraction_of_a_beam(spacing: float) -> None:
    observation = observed(THREE, normal(RNG, 2, 40, 3), spacing=spacing)
    assert degrees(pseudo_labels(observation, 3, spacing), THREE) < 0.25


def test_pseudo_labels_are_as_good_as_measured_and_the_printed_ones_are_not() -> None:
    frames = UlaScene().frames(np.random.default_rng(3), 300, 10)
    assert 0.03 < degrees(pseudo_labels(frames.observation, 3), frames.theta) < 0.055
    worst = np.abs(pseudo_labels(frames.observation, 3, kind="coherent") - frames.theta).max(axis=1)
    assert np.mean(worst > np.radians(1.79)) > 0.1


def test_a_known_strong_mean_may_be_averaged_coherently() -> None:
    scene = UlaScene(k_factor_db=30, users=1)
    frames = scene.frames(np.random.default_rng(3), 200, -20)
    coherently, powers = (pseudo_labels(frames.observation, 1, kind=kind) for kind in ("coherent", "matched"))
    assert degrees(coherently, frames.theta) < 0.5 * degrees(powers, frames.theta)


def test_grids_grow_with_the_array_and_users_are_bounded() -> None:
    assert [bins_for(antennas) for antennas in (2, 31, 32, 33)] == [16, 256, 256, 512]
    with pytest.raises(BadParam, match=r"doa.users is 9, wanted 1 .. 8"):
        largest_peaks(np.zeros((1, 64)), 9, 4)
    loud = responses(0.3)[None, None]
    assert pseudo_labels(loud, 1)[0, 0] == pytest.approx(0.3, abs=2e-3)
