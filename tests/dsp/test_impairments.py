"""Impairments: truth is the closed form of each, numerical integration, or brute force."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from beamslot.dsp import impairments
from beamslot.dsp.combine import dense
from beamslot.frame import Geometry, Operator


def gaussian(count: int, seed: int = 0) -> np.ndarray:
    return impairments.white((count,), np.random.default_rng(seed)) * np.float32(np.sqrt(2))  # unit rms a dimension


def measured_snr_db(clean: np.ndarray, seen: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.abs(clean) ** 2) / np.mean(np.abs(seen - clean) ** 2)))


def test_white_samples_are_circular_and_of_variance_one() -> None:
    made = impairments.white((400, 500), np.random.default_rng(1))
    assert made.dtype == np.complex64
    assert np.mean(np.abs(made) ** 2) == pytest.approx(1, abs=0.01)
    assert abs(np.mean(made**2)) < 0.01


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_a_converter_has_so_many_levels_and_errs_by_half_a_step_at_most(bits: int) -> None:
    x = np.linspace(-1, 1, 20001)[:-1] + 0j
    made = impairments.quantise(x, bits, 1.0)
    assert len(np.unique(made.real)) == 2**bits
    assert np.abs(made.real - x.real).max() == pytest.approx(2.0**-bits, rel=1e-4)
    assert np.abs(made.real).max() == pytest.approx(1 - 2.0**-bits)


def test_beyond_full_scale_a_converter_saturates_and_without_one_it_is_silent() -> None:
    assert impairments.quantise(np.array([9 - 9j]), 2, 1.0) == np.complex64(0.75 - 0.75j)
    assert impairments.quantise(np.array([9 - 9j]), 2, 0.0) == 0


@pytest.mark.parametrize(("bits", "backoff_db"), [(4, 12.0), (6, 13.0), (8, 14.0), (12, 15.0)])
def test_snr_grows_by_6_db_a_bit(bits: int, backoff_db: float) -> None:
    clean = gaussian(400_000)
    seen = impairments.quantise(clean, bits, 10 ** (backoff_db / 20))
    expected = impairments.quantisation_snr_db(bits, backoff_db)
    assert measured_snr_db(clean, seen) == pytest.approx(expected, abs=0.15)


def test_a_sine_at_full_scale_has_the_snr_that_everybody_knows() -> None:
    backoff = 20 * np.log10(np.sqrt(2))
    assert impairments.quantisation_snr_db(10, backoff) == pytest.approx(6.02 * 10 + 1.76, abs=0.01)
    sine = np.exp(2j * np.pi * 0.1234567 * np.arange(100_000))
    assert measured_snr_db(sine, impairments.quantise(sine, 10, 1.0)) == pytest.approx(61.96, abs=0.2)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_of_few_bits_and_with_clipping_the_noise_is_the_integral(bits: int) -> None:
    full_scale = 1.5
    step = full_scale * 2.0 ** (1 - bits)
    edges = [-np.inf, *(step * np.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))), np.inf]
    levels = step * (np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) + 0.5)
    noise = sum(
        quad(lambda x, q=q: (x - q) ** 2 * norm.pdf(x), low, high)[0]
        for q, low, high in zip(levels, edges, edges[1:], strict=False)
    )
    clean = gaussian(400_000)
    error = impairments.quantise(clean, bits, full_scale) - clean
    assert np.mean(np.abs(error) ** 2) / 2 == pytest.approx(noise, rel=0.01)


def test_the_image_is_rejected_by_what_the_closed_form_says() -> None:
    for gain_db, phase in ((0.5, 0.0), (0.0, 0.05), (1.0, -0.1)):
        g = 10 ** (gain_db / 20)
        expected = (1 + 2 * g * np.cos(phase) + g**2) / (1 - 2 * g * np.cos(phase) + g**2)
        assert impairments.image_rejection_db(gain_db, phase) == pytest.approx(10 * np.log10(expected))
        tone = np.exp(2j * np.pi * 5 * np.arange(64) / 64)
        spectrum = np.abs(np.fft.fft(impairments.with_image(tone, gain_db, phase))) ** 2
        assert 10 * np.log10(spectrum[5] / spectrum[-5]) == pytest.approx(10 * np.log10(expected), abs=0.01)
    assert impairments.image_rejection_db(0, 0) == np.inf
    assert impairments.image_rejection_db(0, 0.02) == pytest.approx(-20 * np.log10(0.01), abs=0.01)


def test_the_image_is_that_of_two_real_branches() -> None:
    x = gaussian(1000, 3)
    g, phi = 10 ** (0.7 / 20), 0.11
    # What the mixers make of x: cos, and a sine of gain g that is phi off quadrature.
    branches = x.real + 1j * g * (x.imag * np.cos(phi) - x.real * np.sin(phi))
    np.testing.assert_allclose(impairments.with_image(x, 0.7, phi), branches, atol=1e-6)


def test_an_oscillator_of_a_line_width_has_a_lorentzian_line_of_it() -> None:
    """E exp(j (phi(t) - phi(0))) = exp(-std^2 / 2), whose Fourier transform is a Lorentzian of that full width."""
    linewidth, t = 40.0, np.arange(1, 20001) * 1e-5
    correlation = np.exp(-(np.array([impairments.wiener_std(linewidth, float(one)) for one in t]) ** 2) / 2)

    def density(f: float) -> float:
        return float(np.sum(correlation * np.cos(2 * np.pi * f * t)) * 2e-5 + 1e-5)

    assert density(linewidth / 2) / density(0) == pytest.approx(0.5, abs=0.01)


def test_a_clock_that_is_fast_turns_the_carrier_by_its_offset() -> None:
    t = np.arange(200) * 1e-4
    turned = np.unwrap(impairments.clock_phase(t, 28e9, 0.02))
    np.testing.assert_allclose(np.diff(turned), 2 * np.pi * 28e9 * 0.02e-6 * 1e-4, rtol=1e-6)
    ageing = np.unwrap(impairments.clock_phase(t, 28e9, 0.0, 1.0))
    np.testing.assert_allclose(np.diff(ageing, 2), 2 * np.pi * 28e9 * 1e-6 * 1e-8, rtol=1e-4)


def test_a_wave_is_what_the_dense_operator_makes_of_it() -> None:
    rng = np.random.default_rng(4)
    weights = impairments.white((3, 2, 4), rng)
    geometry, operator = Geometry(3, 8), Operator(weights, np.zeros(3, np.int16), (-0.5, 0.0))
    made = impairments.seen_from((0.3, -0.2), geometry, operator)
    n, z = np.meshgrid(np.arange(3), np.arange(8), indexing="ij")
    field = np.exp(1j * np.pi * (0.3 * n - 0.2 * z))
    expected = (dense(weights) @ field.ravel()).reshape(3, 2)
    np.testing.assert_allclose(made, expected / np.sqrt(np.mean(np.abs(expected) ** 2)), atol=1e-6)
    np.testing.assert_allclose(impairments.seen_from((0.3, -0.2), geometry, None), field, atol=1e-12)
    blind = Operator(weights * 0, np.zeros(3, np.int16), (-0.5, 0.0))
    assert not impairments.seen_from((0.3, -0.2), geometry, blind).any()


def test_stuck_phase_shifters_keep_their_gain_and_err_by_twice_their_share() -> None:
    rng = np.random.default_rng(5)
    weights = (np.exp(2j * np.pi * rng.random((40, 10, 12))) / np.sqrt(12)).astype(np.complex64)
    which = rng.random(weights.shape) < 0.1
    made = impairments.stuck(weights, which, 2 * np.pi * rng.random(weights.shape))
    np.testing.assert_array_equal(made[~which], weights[~which])
    np.testing.assert_allclose(np.abs(made), np.abs(weights), rtol=1e-6)
    error = np.sum(np.abs(made - weights) ** 2) / np.sum(np.abs(weights) ** 2)
    assert error == pytest.approx(2 * which.mean(), rel=0.1)
    np.testing.assert_allclose(impairments.stuck(weights, which, 0.5)[which], np.exp(0.5j) / np.sqrt(12), rtol=1e-6)
