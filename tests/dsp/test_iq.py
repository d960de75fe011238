"""Despreading: truth is what was put in, an exhaustive search, Fisher's information by finite differences."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.iq import Correlator, Despread, noise_beside, noise_of_samples
from beamslot.dsp.srs import Sounding
from beamslot.errors import ShapeError

CHAINS = 64


def pilots(users: int, chains: int = CHAINS, seed: int = 1) -> NDArray[np.complex128]:
    """Return channels of mean power one, (chain, user)."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((chains, users)) + 1j * rng.standard_normal((chains, users))) / np.sqrt(2)


def received(
    sent: Sounding, y: NDArray[Any], timing: Any, frequency: Any, snr_db: float = np.inf, seed: int = 0
) -> NDArray[np.complex64]:
    """Return samples; the SNR is that of pilots of power one after despreading."""
    rng = np.random.default_rng(seed)
    iq = y @ sent.waveforms(np.asarray(timing, float), np.asarray(frequency, float))
    noise_var = 10 ** (-snr_db / 10) * sent.size * sent.symbols
    noise = rng.standard_normal(iq.shape) + 1j * rng.standard_normal(iq.shape)
    return (iq + np.sqrt(noise_var / 2) * noise).astype(np.complex64)


def error_db(found: Despread, y: NDArray[Any]) -> float:
    return float(10 * np.log10(np.mean(np.abs(found.observation.T - y) ** 2) / np.mean(np.abs(y) ** 2)))


@pytest.mark.parametrize(
    ("given", "frequency"),
    [
        ({}, 10e3),
        ({"users": 8}, 1e3),
        ({"users": 12, "comb": 4, "resource_blocks": 12}, -2e3),
        ({"users": 6, "comb": 8, "resource_blocks": 16, "comb_offset": 5}, 1e3),
        ({"users": 3, "symbols": 4, "sequence_id": 29, "cyclic_shift": 5}, 2e3),
        ({"users": 2, "symbols": 1}, 0.0),
        ({"users": 2, "fft_size": 256, "subcarrier_spacing": 120e3}, 20e3),
    ],
)
def test_without_noise_pilots_and_offsets_come_back_exactly(given: dict[str, Any], frequency: float) -> None:
    sent, y = Sounding(**given), pilots(given.get("users", 1))
    rng = np.random.default_rng(5)
    timing = rng.uniform(-0.6, 0.6, sent.users) * sent.latest
    offsets = frequency * (1 + 0.2 * rng.uniform(-1, 1, sent.users))
    found = Correlator(sent).despread(received(sent, y, timing, offsets))
    np.testing.assert_allclose(found.timing, timing, atol=1e-4 / sent.rate)
    np.testing.assert_allclose(found.frequency, offsets, atol=1e-5 * sent.subcarrier_spacing)
    assert error_db(found, y) < -90
    assert found.noise_var.max() < 1e-6


def test_what_is_found_is_the_peak_of_an_exhaustive_search() -> None:
    sent = Sounding()
    iq = received(sent, pilots(1), [4e-7], [800.0], snr_db=10)
    found = Correlator(sent).despread(iq)
    late, off = found.timing[0] + np.linspace(-1.5e-8, 1.5e-8, 31), found.frequency[0] + np.linspace(-300, 300, 31)
    seen = Correlator(sent).tones(iq).reshape(CHAINS, -1)
    score = np.zeros((31, 31))
    for row, tau in enumerate(late):
        waveforms = np.stack([sent.waveforms(np.array([tau]), np.array([f]))[0] for f in off])
        shape = Correlator(sent).tones(waveforms).reshape(31, -1)
        score[row] = np.sum(np.abs(seen @ shape.conj().T) ** 2, axis=0) / np.sum(np.abs(shape) ** 2, axis=-1)
    best = np.unravel_index(np.argmax(score), score.shape)
    assert np.abs(np.array(best) - 15).max() <= 1


@pytest.mark.parametrize(("given", "trials"), [({}, 150), ({"users": 3}, 80), ({"users": 8, "resource_blocks": 8}, 30)])
def test_offsets_are_found_down_to_the_cramer_rao_bound(given: dict[str, Any], trials: int) -> None:
    sent, snr_db = Sounding(**given), 12.0
    correlator, y = Correlator(sent), pilots(sent.users)
    rng = np.random.default_rng(2)
    timing, frequency = rng.uniform(-0.5, 0.5, sent.users) * sent.latest, 1e3 + rng.uniform(-300, 300, sent.users)
    clean = received(sent, y, timing, frequency)
    power = 10 ** (-snr_db / 10) * correlator.processing_gain
    errors = np.zeros((trials, 2 * sent.users))
    for trial in range(trials):
        noise = noise_of_samples(clean.shape, np.full(CHAINS, power), np.random.default_rng(100 + trial))
        found = correlator.despread(clean + noise)
        errors[trial] = np.concatenate([found.timing - timing, found.frequency - frequency])
    entry = 10 ** (-snr_db / 10) * sent.length * sent.symbols
    information = correlator.information(y.T @ y.conj(), timing, frequency, entry)
    scaled = errors / np.sqrt(np.diagonal(np.linalg.inv(information)))
    # squares of normal errors: the mean of n of them is one, with a deviation of sqrt(2 / n)
    ratio = np.array([np.mean(scaled[:, : sent.users] ** 2), np.mean(scaled[:, sent.users :] ** 2)])
    margin = 4 * np.sqrt(2 / (trials * sent.users))
    assert np.all(np.abs(ratio - 1) < 0.1 + margin), ratio
    assert np.abs(scaled.mean(axis=0)).max() < 4.5 / np.sqrt(trials), "unbiased"


def test_the_bound_is_the_information_by_finite_differences_of_the_waveforms() -> None:
    sent, y = Sounding(users=2, resource_blocks=8), pilots(2, 5)
    correlator = Correlator(sent)
    timing, frequency = np.array([3e-7, -2e-7]), np.array([900.0, 1400.0])

    def mean(parameters: NDArray[Any]) -> NDArray[Any]:
        real, imaginary = parameters[4:].reshape(2, 5, 2)
        iq = (real + 1j * imaginary) @ sent.waveforms(parameters[:2] * 1e-7, parameters[2:4] * 1e3)
        return correlator.tones(iq).ravel()

    at = np.concatenate([timing / 1e-7, frequency / 1e3, y.real.ravel(), y.imag.ravel()])
    steps = 1e-5 * np.eye(len(at))
    slopes = np.stack([(mean(at + d) - mean(at - d)) / 2e-5 for d in steps], axis=-1)
    covariance = np.linalg.inv(2 / 0.7 * (slopes.conj().T @ slopes).real)[:4, :4]
    made = np.linalg.inv(correlator.information(y.T @ y.conj(), timing, frequency, 0.7))
    unit = np.array([1e-7, 1e-7, 1e3, 1e3])
    np.testing.assert_allclose(made / np.outer(unit, unit), covariance, rtol=1e-4, atol=1e-6 * covariance.max())


def test_the_bound_of_the_timing_of_one_user_is_the_textbook_one() -> None:
    """1 / (8 pi^2 beta^2 E / N0), with beta the root mean square bandwidth of the tones."""
    sent, y = Sounding(resource_blocks=16), pilots(1)
    tones = 30e3 * 2 * (np.arange(96) - 47.5)
    energy = 2 * 96 * np.sum(np.abs(y) ** 2)
    expected = 1 / (8 * np.pi**2 * np.mean(tones**2) * energy / 3.0)
    information = Correlator(sent).information(y.T @ y.conj(), np.zeros(1), np.zeros(1), 3.0)
    assert 1 / information[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("users", [1, 8])
def test_the_noise_variance_is_learned_from_what_no_user_has(users: int) -> None:
    sent, y = Sounding(users=users), pilots(users)
    seen, made = [], []
    for seed in range(60):
        found = Correlator(sent).despread(received(sent, y, np.zeros(users), np.full(users, 1e3), 10, seed))
        seen.append(found.noise_var.mean() / 0.1)
        made.append(np.mean(np.abs(found.observation.T - y) ** 2) / 0.1)
    # 60 x 64 x (48 - users) residuals, of which each has deviation one
    assert np.mean(seen) == pytest.approx(1, abs=5 / np.sqrt(60 * CHAINS * (48 - users)))
    assert np.mean(made) == pytest.approx(np.mean(seen), abs=0.02 + 4 / np.sqrt(60 * CHAINS * users))


@pytest.mark.parametrize(("snr_db", "most"), [(0, -25), (10, -35), (30, -55)])
def test_eight_users_on_cyclic_shifts_are_apart_by_25_db_and_more(snr_db: float, most: float) -> None:
    """With 1 us and 1 kHz, 100 Hz and 20 ns more or less from user to user; each draw has its own offsets."""
    sent, y = Sounding(users=8), pilots(8, 384)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        timing, frequency = 1e-6 + rng.uniform(-2e-8, 2e-8, 8), 1e3 + rng.uniform(-100, 100, 8)
        found = Correlator(sent).despread(received(sent, y, timing, frequency, snr_db, seed))
        mixing = np.linalg.pinv(on_tones(sent, found.timing, found.frequency)) @ on_tones(sent, timing, frequency)
        assert 10 * np.log10(worst_leak(mixing)) < most
        # and the pilots are what this matrix makes of the users, in noise
        left = found.observation.T - y @ mixing.T
        assert np.mean(np.abs(left) ** 2) == pytest.approx(10 ** (-snr_db / 10), rel=0.15)


def test_eight_users_are_not_apart_for_a_correlator_that_knows_their_shifts_alone() -> None:
    sent = Sounding(users=8)
    mixing = np.linalg.pinv(on_tones(sent, np.zeros(8), np.zeros(8))) @ on_tones(
        sent, np.full(8, 1e-6), np.full(8, 1e3)
    )
    assert 10 * np.log10(worst_leak(mixing)) > -12


def on_tones(sent: Sounding, timing: NDArray[Any], frequency: NDArray[Any]) -> NDArray[Any]:
    """Return what users of unit channel leave on the tones, by way of their samples, (rows, user)."""
    return Correlator(sent).tones(sent.waveforms(timing, frequency)).reshape(sent.users, -1).T


def worst_leak(mixing: NDArray[Any]) -> float:
    """Return the most power that one user has in the pilots of another, users being equally strong."""
    power = np.abs(mixing) ** 2
    return float(np.max((power - np.diag(np.diagonal(power))) / np.diagonal(power)[:, None]))


def test_a_weak_user_is_found_beside_strong_ones() -> None:
    sent, y = Sounding(users=4, resource_blocks=8), pilots(4, 384)
    y[:, 2] *= 0.1
    timing, frequency = np.array([5e-7, -4e-7, 2e-7, 6e-7]), np.array([900.0, 1000.0, 1100.0, 950.0])
    found = Correlator(sent).despread(received(sent, y, timing, frequency, 20))
    np.testing.assert_allclose(found.timing, timing, atol=1e-8)
    assert np.mean(np.abs(found.observation[2] - y[:, 2]) ** 2) == pytest.approx(0.01, rel=0.3)


def test_samples_that_are_not_finite_give_nan_and_no_samples_give_no_pilots() -> None:
    sent = Sounding(users=2)
    iq = np.zeros((3, 4, sent.samples), np.complex64)
    silent = Correlator(sent).despread(iq)
    assert not silent.observation.any()
    assert silent.observation.shape == (2, 3, 4)
    assert not silent.noise_var.any()
    for value in (np.nan, np.inf):
        iq[1, 2, 30] = value
        spoilt = Correlator(sent).despread(iq)
        assert np.isnan(spoilt.observation).all()
        assert np.isnan(spoilt.timing).all()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_samples_of_any_scale_give_the_same(scale: float) -> None:
    sent = Sounding(users=2)
    iq = received(sent, pilots(2), [2e-7, 4e-7], [900.0, 1000.0], 20)
    one, other = Correlator(sent).despread(iq), Correlator(sent).despread(iq * np.float32(scale))
    np.testing.assert_allclose(other.timing, one.timing, atol=1e-12)
    np.testing.assert_allclose(other.observation / np.float32(scale), one.observation, atol=1e-4)
    np.testing.assert_allclose(other.noise_var / scale**2, one.noise_var, rtol=1e-4)


def test_samples_of_another_length_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"iq: samples are \(4, 273\), wanted \(\.\.\., 274\)"):
        Correlator(Sounding()).despread(np.zeros((4, 273), np.complex64))


def test_noise_without_what_lies_along_waveforms_is_white_elsewhere() -> None:
    sent = Sounding(users=3)
    waveforms = Correlator(sent).windowed(sent.waveforms(np.zeros(3), np.zeros(3)))
    noise = noise_of_samples((400, sent.samples), np.full(400, 5.0), np.random.default_rng(0))
    rest = noise_beside(noise, waveforms.astype(np.complex64))
    np.testing.assert_allclose(rest @ waveforms.conj().T / 256, 0, atol=1e-4)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(5, rel=0.02)
    assert np.mean(np.abs(rest) ** 2) / np.mean(np.abs(noise) ** 2) == pytest.approx(1 - 3 / 274, rel=1e-3)
    with_part = rest + noise_of_samples((400, 3), np.full(400, 5 / 256), np.random.default_rng(1)) @ waveforms
    spectrum = np.mean(np.abs(np.fft.fft(with_part[:, 5:133])) ** 2, axis=0) / 128
    assert np.abs(spectrum / 5 - 1).max() < 5 / np.sqrt(400)
