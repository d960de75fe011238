"""Estimators where the model is wrong: paths outside the interval, spread paths, imperfect front ends, many rays.

Bands around what was measured over 300 draws (60 for the slower estimators); nothing here is promised by the model.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine
from beamslot.dsp.estimate import outside
from beamslot.dsp.geometry import render
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.gw_sc_vbi import GwScVbi
from beamslot.dsp.metrics import nmse
from beamslot.dsp.omp import Omp
from beamslot.dsp.vp_nomp import VpNomp
from beamslot.frame import Geometry, Operator

FULL = Geometry(64, 72)
INTERVAL = (-0.5, 0.0)
SLOTS, SLOW = 24, 6
ESTIMATORS: dict[str, Any] = {"vp_nomp": VpNomp, "gw_sc_vbi": GwScVbi, "omp": Omp}
LOWER = {"vp_nomp": 0.0, "gw_sc_vbi": 0.8, "omp": 1.5}
"""How far the NMSE of another estimator may be above the band of the first [dB]."""

by_estimator = pytest.mark.parametrize("name", ESTIMATORS)

Directions = tuple[NDArray[np.complex128], NDArray[np.float64], NDArray[np.float64]]


def grouped(bits: int | None = None) -> Operator:
    """Return group-wise beams, the phases of their weights rounded to so many bits."""
    group = balanced_random(64, 4, np.random.default_rng(0))
    weights = group_beams(group, INTERVAL, 6, 12)
    if bits:
        step = 2 * np.pi / 2**bits
        weights = np.exp(1j * step * np.round(np.angle(weights) / step)).astype(np.complex64)
    return Operator(weights, group, INTERVAL)


@cache
def estimator(name: str) -> Any:
    return ESTIMATORS[name](FULL, grouped())


def directions(slots: int = SLOTS, seed: int = 11, **options: Any) -> Directions:
    """Return gain, u and v of independent draws, (slot, path), the LOS first."""

    def keyed(key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))

    paths = PathChannel(geometry=FULL, redraw=1, **options).evolve(range(slots), keyed)
    return paths.gain[:, 0].astype(complex), paths.u[:, 0].astype(float), paths.v[:, 0].astype(float)


def observed(
    gain: NDArray[Any], u: NDArray[Any], v: NDArray[Any], snr_db: float = 5.0, operator: Operator | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return channels of a mean power of one per antenna and what a front end makes of them."""
    truth = render(gain, u, v, FULL)
    truth = truth * (np.sqrt(FULL.antennas) / np.linalg.norm(truth, axis=(-2, -1)))[:, None, None]
    noisy = add_noise(truth, noise_variance(snr_db), np.random.default_rng(12))
    return truth, combine(noisy, (operator or grouped()).weights)


def decibels(values: Any) -> float:
    return float(10 * np.log10(np.mean(values)))


def judged(name: str, truth: NDArray[Any], observation: NDArray[Any]) -> NDArray[np.float64]:
    slots = SLOW if name == "gw_sc_vbi" else SLOTS
    return nmse(estimator(name).estimate(observation[:slots]).channel, truth[:slots])


# Measured with the LOS 0.02 above: -20.8 dB, worst -16.9; one NLOS outside: -17.1 and -7.5, and within the model -21.1.
@by_estimator
@pytest.mark.parametrize("edge", ["above", "below"])
def test_a_line_of_sight_just_outside_is_estimated_as_one_inside(name: str, edge: str) -> None:
    gain, u, v = directions()
    v[:, 0] = 0.02 if edge == "above" else -0.52
    error = judged(name, *observed(gain, u, v))
    assert decibels(error) < -19.9 + LOWER[name]
    assert decibels(error.max()) < -13


@by_estimator
def test_a_reflection_outside_costs_no_more_than_its_own_power(name: str) -> None:
    gain, u, v = directions()
    rng = np.random.default_rng(13)
    beyond = rng.uniform(0.02, 0.2, SLOTS)
    v[:, 1] = np.where(rng.random(SLOTS) < 0.5, beyond, -0.5 - beyond)
    error = judged(name, *observed(gain, u, v))
    assert decibels(error.max()) < 0
    share = np.abs(gain[:, 1]) ** 2 / np.sum(np.abs(gain) ** 2, axis=1)
    assert np.all(error < 2.0 * share[: len(error)] + 10**-1.3)


# Beyond the guard nothing is left to win. An alias a 2 / M away can explain it all, with a smaller gain.
@by_estimator
@pytest.mark.parametrize("beyond", [0.1, 0.17])
def test_a_line_of_sight_far_outside_is_no_worse_than_no_estimate(name: str, beyond: float) -> None:
    gain, u, v = directions()
    v[:, 0] = beyond
    error = judged(name, *observed(gain, u, v))
    assert decibels(error) < 0.3
    assert decibels(error.max()) < 1.0


# Over 300 draws at 5 dB no slot within the model was flagged, and all with the LOS 0.02 to 0.1 outside, of those with
# one NLOS path 0.02 to 0.2 outside 11 %: what an alias inside can explain, nothing shows.
@pytest.mark.parametrize(("beyond", "limit"), [(0.02, -19.5), (0.06, -18.0), (0.1, -14.0)])
def test_a_line_of_sight_within_the_guard_is_found_and_flagged(beyond: float, limit: float) -> None:
    gain, u, v = directions()
    truth, observation = observed(gain, u, v)
    assert not outside(estimator("vp_nomp").estimate(observation), INTERVAL).any()
    v[:, 0] = beyond
    truth, observation = observed(gain, u, v)
    found = estimator("vp_nomp").estimate(observation)
    assert outside(found, INTERVAL).all()
    assert decibels(nmse(found.channel, truth)) < limit


# Measured: -18.1, -13.9 and -10.7 dB.
@by_estimator
@pytest.mark.parametrize(("spread", "limit"), [(0.3, -16.8), (1.0, -12.6), (3.0, -9.3)])
def test_spread_reflections_cost_accuracy_but_stay_bounded(name: str, spread: float, limit: float) -> None:
    rng = np.random.default_rng(14)
    gain, u, v = directions()
    shape = (SLOTS, 9, 20)
    elevation = np.arcsin(v[:, 1:])
    azimuth = np.arcsin(np.clip(u[:, 1:] / np.cos(elevation), -1, 1))
    around, along = np.deg2rad(spread) * rng.laplace(0, np.sqrt(0.5), (2, *shape))
    azimuth, elevation = azimuth[..., None] + around, elevation[..., None] + along
    rays = np.abs(gain[:, 1:, None]) / np.sqrt(20) * np.exp(2j * np.pi * rng.random(shape))
    gain, u, v = (
        np.concatenate([line[:, :1], many.reshape(SLOTS, -1)], axis=1)
        for line, many in ((gain, rays), (u, np.sin(azimuth) * np.cos(elevation)), (v, np.sin(elevation)))
    )
    error = judged(name, *observed(gain, u, v))
    assert decibels(error) < limit + LOWER[name]
    assert decibels(error.max()) < -2


# Measured at 5 dB: 6 bits hold these beams exactly; 3 bits -21.0 dB told and -17.0 not told. At 15 dB, not told: -16.8.
@by_estimator
@pytest.mark.parametrize(("bits", "told", "limit"), [(6, False, -20.2), (3, True, -20.1), (3, False, -15.3)])
def test_coarse_phase_shifters_cost_little_if_they_are_known(name: str, bits: int, told: bool, limit: float) -> None:
    operator = grouped(bits)
    truth, observation = observed(*directions(), operator=operator)
    slots = SLOW if name == "gw_sc_vbi" else SLOTS
    assumed = ESTIMATORS[name](FULL, operator if told else grouped())
    assert decibels(nmse(assumed.estimate(observation[:slots]).channel, truth[:slots])) < limit + LOWER[name]


# Measured: -20.7 dB at 5 dB, -26.9 at 15.
@by_estimator
@pytest.mark.parametrize(("snr_db", "limit"), [(5, -19.7), (15, -25.2)])
def test_phase_errors_of_the_chains_cost_accuracy_at_high_snr_only(name: str, snr_db: float, limit: float) -> None:
    truth, observation = observed(*directions(), snr_db)
    turned = observation * np.exp(1j * np.deg2rad(5) * np.random.default_rng(15).standard_normal((SLOTS, 64, 6)))
    assert decibels(judged(name, truth, turned.astype(np.complex64))) < limit + LOWER[name]


@by_estimator
def test_hundreds_of_rays_neither_run_away_nor_make_it_worse_than_no_estimate(name: str) -> None:
    error = judged(name, *observed(*directions(8, paths=380)))
    assert decibels(error) < -4
    assert decibels(error.max()) < 0


def test_error_var_knows_nothing_of_what_is_outside_the_model() -> None:
    gain, u, v = directions()
    v[:, 0] = 0.17
    truth, observation = observed(gain, u, v)
    found = estimator("vp_nomp").estimate(observation)
    assert decibels(found.error_var) < decibels(nmse(found.channel, truth)) - 10
