"""SC-VBI as an estimator of its own: the group-wise one without its groups, bands of accuracy, and a budget of time."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate

from beamslot.dsp.beams import group_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import render
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.gw_sc_vbi import GwScVbi
from beamslot.dsp.metrics import nmse
from beamslot.dsp.prediction import power_below
from beamslot.dsp.sc_vbi import ScVbi
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry, Operator

FULL = Geometry(64, 72)
INTERVAL = (-0.5, 0.0)
SLOTS = 20


def grouped() -> Operator:
    group = balanced_random(64, 4, np.random.default_rng(0))
    return Operator(group_beams(group, INTERVAL, 6, 12), group, INTERVAL)


@cache
def observed(snr_db: float, slots: int = SLOTS, seed: int = 7) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return channels and observations of independent draws on the full array."""

    def keyed(key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))

    paths = PathChannel(geometry=FULL, redraw=1).evolve(range(slots), keyed)
    truth = render(paths.gain, paths.u, paths.v, FULL)[:, 0]
    noisy = add_noise(truth, noise_variance(snr_db), np.random.default_rng(seed))
    return truth, combine(noisy, grouped().weights)


@cache
def judged(snr_db: float) -> tuple[Estimate, NDArray[Any]]:
    """Return the estimates of the standard draws and their NMSE, computed once for all tests."""
    truth, observation = observed(snr_db)
    found = ScVbi(FULL, grouped()).estimate(observation)
    return found, nmse(found.channel, truth)


def decibels(values: Any) -> float:
    return float(10 * np.log10(np.mean(values)))


# Over 300 other draws: means of -11.4, -20.8 and -32.2 dB, worst draws of -7.1, -17.2 and -26.8 dB.
@pytest.mark.parametrize(("snr_db", "mean", "worst"), [(-5, -10.5, -5.5), (5, -20.0, -14.0), (15, -31.0, -24.0)])
def test_it_is_as_accurate_as_measured(snr_db: float, mean: float, worst: float) -> None:
    found, error = judged(snr_db)
    assert decibels(error) < mean
    assert decibels(error.max()) < worst
    assert decibels(found.error_var) == pytest.approx(decibels(error), abs=1.5)
    assert decibels(found.noise_var) == pytest.approx(decibels(12 * noise_variance(snr_db)), abs=0.3)
    assert found.converged.mean() > 0.9


@pytest.mark.parametrize("snr_db", [-5, 5, 15])
def test_the_group_wise_form_loses_nothing_against_it(snr_db: float) -> None:
    truth, observation = observed(snr_db)
    grouped_error = nmse(GwScVbi(FULL, grouped()).estimate(observation).channel, truth)
    assert decibels(grouped_error) == pytest.approx(decibels(judged(snr_db)[1]), abs=0.3)


def test_it_is_the_group_wise_form_without_groups() -> None:
    _, observation = observed(5)
    found, other = judged(5)[0], GwScVbi(FULL, grouped(), group_rounds=0).estimate(observation)
    for name, value in vars(found).items():
        np.testing.assert_array_equal(value, getattr(other, name))


@pytest.mark.parametrize("factor", [1e-6, 1e6, np.exp(2j)])
def test_scale_and_common_phase_pass_through(factor: complex) -> None:
    _, observation = observed(5)
    scaled, plain = ScVbi(FULL, grouped()).estimate((factor * observation[:3]).astype(np.complex64)), judged(5)[0]
    assert nmse(scaled.channel / factor, plain.channel[:3]).max() < 1e-6
    for name in ("noise_var", "error_var"):
        np.testing.assert_allclose(getattr(scaled, name) / abs(factor) ** 2, getattr(plain, name)[:3], rtol=1e-3)


def test_a_batch_is_its_slots_one_by_one_to_the_last_bit() -> None:
    _, observation = observed(5)
    for slot in range(3):
        for name, value in vars(ScVbi(FULL, grouped()).estimate(observation[slot])).items():
            np.testing.assert_array_equal(value, getattr(judged(5)[0], name)[slot])


def test_silence_and_a_slot_that_is_not_finite_have_no_paths() -> None:
    observation = observed(5)[1][:3].copy()
    observation[0], observation[1, 4, 2] = 0, np.nan
    found = ScVbi(FULL, grouped()).estimate(observation)
    assert not found.mask[:2].any()
    assert not found.channel[:2].any()
    assert (found.noise_var[0], found.error_var[0]) == (0, 0)
    assert np.isnan([found.noise_var[1], found.error_var[1]]).all()
    np.testing.assert_array_equal(found.channel[2], judged(5)[0].channel[2])


@pytest.mark.parametrize("kind", [ScVbi, GwScVbi])
def test_when_time_is_up_the_best_so_far_is_given(kind: Any) -> None:
    truth, observation = observed(5)
    left = 6

    def budget() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    late = kind(FULL, grouped()).estimate(observation[:3], budget=budget)
    error = nmse(late.channel, truth[:3])
    assert not late.converged.any()
    # The first slot has seven iterations, the others one in each stage: a path at least, and a noise variance.
    assert late.iterations[0] > late.iterations[1] >= 1
    assert late.mask.any(-1).all()
    assert error.max() < 0.5
    assert decibels(error[0]) < -12
    assert np.all(np.isfinite(late.error_var))
    unhurried = kind(FULL, grouped()).estimate(observation[:3], budget=lambda: False)
    np.testing.assert_array_equal(unhurried.channel, kind(FULL, grouped()).estimate(observation[:3]).channel)


def test_a_sooner_stop_is_a_worse_estimate() -> None:
    truth, observation = observed(15)
    errors = []
    for rounds in (1, 3, 6):
        asked = iter(range(1, 1000))
        found = ScVbi(FULL, grouped()).estimate(observation[0], budget=lambda at=asked, last=rounds: next(at) >= last)
        assert found.iterations == rounds
        errors.append(float(nmse(found.channel, truth[0])))
    assert errors == sorted(errors, reverse=True)


def test_paths_and_iterations_are_bounded() -> None:
    _, observation = observed(15)
    few = ScVbi(FULL, grouped(), max_paths=3).estimate(observation[:3])
    assert few.mask.shape == (3, 3)
    short = ScVbi(FULL, grouped(), rounds=5).estimate(observation[:3])
    assert short.iterations.max() == 5
    assert not short.converged.any()


def test_the_power_below_a_limit_is_the_integral_of_its_density() -> None:
    expected, _ = integrate.quad(lambda power: power * 0.3 / (0.3 + power) ** 2, 0, 0.7)
    assert power_below(0.7, 0.3, 5.0) == pytest.approx(5 * expected)
    assert power_below(0.0, 0.3, 5.0) == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"sc_vbi: observation is \(3, 64, 5\), wanted .*\(64, 6\)"):
        ScVbi(FULL, grouped()).estimate(np.zeros((3, 64, 5), np.complex64))
    with pytest.raises(BadParam) as caught:
        ScVbi(FULL, grouped(), expected_paths=0, max_paths=0, rounds=0)
    assert str(caught.value).splitlines()[1] == "sc_vbi.max_paths is 0, wanted at least 1"
