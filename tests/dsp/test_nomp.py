"""Newtonized OMP: truth is finite differences, a dense search by scipy, and bands around measured accuracy."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine, dense
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import render, steering
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.metrics import nmse
from beamslot.dsp.nomp import Atoms, Fit, Nomp
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry, Operator

FULL, SMALL = Geometry(64, 72), Geometry(16, 24)
INTERVAL = (-0.5, 0.0)
SLOTS = 24


def grouped(geometry: Geometry = FULL, m: int = 12) -> Operator:
    group = balanced_random(geometry.n_y, 4, np.random.default_rng(0))
    return Operator(group_beams(group, INTERVAL, geometry.n_z // m, m), group, INTERVAL)


def observed(snr_db: float, slots: int = SLOTS, seed: int = 7, **options: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return channels and observations of independent draws on the full array."""

    def keyed(key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))

    paths = PathChannel(geometry=FULL, redraw=1, **options).evolve(range(slots), keyed)
    truth = render(paths.gain, paths.u, paths.v, FULL)[:, 0]
    noisy = add_noise(truth, noise_variance(snr_db), np.random.default_rng(seed))
    return truth, combine(noisy, grouped().weights)


@cache
def judged(snr_db: float) -> tuple[Estimate, NDArray[Any]]:
    """Return the estimates of the standard draws and their NMSE, computed once for all tests."""
    truth, observation = observed(snr_db)
    found = Nomp(FULL, grouped()).estimate(observation)
    return found, nmse(found.channel, truth)


def decibels(values: Any) -> float:
    return float(10 * np.log10(np.mean(values)))


def seen(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """Return dense atoms of the small array, (..., R)."""
    front = dense(grouped(SMALL, 6).weights.astype(complex))
    return np.einsum("...y,...z->...yz", steering(16, u), steering(24, v)).reshape(*np.shape(u), -1) @ front.T


# Over 300 other draws: means of -11.0, -20.9 and -32.2 dB, worst draws of -6.1, -16.8 and -26.8 dB.
@pytest.mark.parametrize(("snr_db", "mean", "worst"), [(-5, -10.2, -5.5), (5, -19.9, -14.0), (15, -31.0, -24.0)])
def test_it_is_as_accurate_as_measured(snr_db: float, mean: float, worst: float) -> None:
    _, error = judged(snr_db)
    assert decibels(error) < mean
    assert decibels(error.max()) < worst


@pytest.mark.parametrize("snr_db", [-5, 5, 15])
def test_noise_and_error_are_predicted_and_the_search_ends_by_itself(snr_db: float) -> None:
    found, error = judged(snr_db)
    assert decibels(found.error_var) == pytest.approx(decibels(error), abs=1.5)
    assert decibels(found.noise_var) == pytest.approx(decibels(12 * noise_variance(snr_db)), abs=0.4)
    assert found.converged.all()
    assert found.iterations.max() < 20


def test_derivatives_are_finite_differences() -> None:
    atoms, step = Atoms(SMALL, grouped(SMALL, 6)), 1e-4
    by_u, by_v = step * atoms.cell[0], step * atoms.cell[1]
    around = atoms.around(0.3, -0.2)
    pp, pm, mp, mm = (atoms.around(0.3 + a * by_u, -0.2 + b * by_v) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)))
    np.testing.assert_allclose((pp + pm - mp - mm)[0] / (4 * step), around[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((pp - pm + mp - mm)[0] / (4 * step), around[2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((pp + pm - mp - mm)[1] / (4 * step), around[3], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose((pp - pm + mp - mm)[1] / (4 * step), around[4], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose((pp - pm + mp - mm)[2] / (4 * step), around[5], rtol=1e-5, atol=1e-4)


def test_atoms_are_those_of_the_dense_operator_up_to_a_phase() -> None:
    atom = Atoms(SMALL, grouped(SMALL, 6)).around(0.3, -0.2)[0]
    expected = seen(np.array(0.3), np.array(-0.2))
    turn = np.vdot(expected, atom) / np.vdot(expected, expected)
    assert abs(turn) == pytest.approx(1)
    np.testing.assert_allclose(atom, turn * expected, atol=1e-9)


def test_two_close_paths_are_where_a_dense_search_puts_them() -> None:
    rng = np.random.default_rng(1)
    u, v, gain = np.array([0.1, 0.24]), np.array([-0.2, -0.26]), np.array([1.0, 0.7j])
    y = gain @ seen(u, v) + 0.2 * (rng.standard_normal(64) + 1j * rng.standard_normal(64))

    def misfit(at: NDArray[Any]) -> float:
        atoms = seen(at[:2], at[2:]).T
        return float(np.sum(np.abs(y - atoms @ np.linalg.lstsq(atoms, y, rcond=None)[0]) ** 2))

    best = optimize.minimize(
        misfit, np.concatenate([u, v]), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}
    )
    found = Nomp(SMALL, grouped(SMALL, 6), paths=2, cyclic_rounds=40).estimate(y.reshape(1, 16, 4))
    assert found.mask.sum() == 2
    np.testing.assert_allclose(np.concatenate([found.u[0], found.v[0]]), best.x, atol=2e-4)


def test_no_refinement_raises_the_residual() -> None:
    rng = np.random.default_rng(2)
    observation = np.array([1.0, 0.8j, -0.6]) @ seen(np.array([0.1, 0.2, -0.5]), np.array([-0.2, -0.22, -0.4]))
    observation = observation + rng.standard_normal(64)
    fit = Fit(observation, Atoms(SMALL, grouped(SMALL, 6)), -0.5, 0.0)
    for u, v in ((0.15, -0.21), (-0.45, -0.35), (0.9, -0.1)):
        fit.push(u, v)
        for path in list(range(fit.count)) * 4:
            before = fit.energy()
            fit.refine(path)
            assert fit.energy() <= before
        before = fit.energy()
        fit.solve()
        assert fit.energy() <= before * (1 + 1e-12)
        assert fit.v.min() >= -0.5


def test_paths_off_the_grid_are_recovered_without_noise() -> None:
    gain, u, v = np.array([[1.0, 0.5j, -0.3]]), np.array([[-0.617, 0.1234, 0.511]]), np.array([[-0.44, -0.311, -0.061]])
    truth = render(gain, u, v, FULL)
    found = Nomp(FULL, grouped(), paths=3, cyclic_rounds=12).estimate(combine(truth, grouped().weights))
    np.testing.assert_allclose(found.u, u, atol=1e-4)
    np.testing.assert_allclose(found.v, v, atol=1e-4)
    np.testing.assert_allclose(found.gain, gain, atol=1e-2)
    assert decibels(nmse(found.channel, truth)) < -50


@pytest.mark.parametrize("outside", [-0.53, 0.03])
def test_a_path_within_the_guard_outside_the_interval_is_found_where_it_is(outside: float) -> None:
    noisy = add_noise(
        render(np.ones((1, 1)), np.array([[-0.2]]), np.array([[outside]]), FULL), 0.1, np.random.default_rng(2)
    )
    found = Nomp(FULL, grouped()).estimate(combine(noisy, grouped().weights))
    assert found.v[0, 0] == pytest.approx(outside, abs=0.003)


def test_noise_alone_seldom_yields_a_path() -> None:
    noise = add_noise(np.zeros((100, 64, 6), np.complex64), 3.0, np.random.default_rng(5))
    found = Nomp(FULL, grouped(), paths=4).estimate(noise)
    # 10 expected at the bound of 0.1 a slot; 22 is four standard deviations above it.
    assert found.mask.any(-1).sum() <= 22
    assert found.noise_var.mean() == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("factor", [1e-6, 1e6, np.exp(2j)])
def test_scale_and_common_phase_pass_through(factor: complex) -> None:
    _, observation = observed(5, 3)
    plain, scaled = (
        Nomp(FULL, grouped()).estimate(one) for one in (observation, (factor * observation).astype(np.complex64))
    )
    assert nmse(scaled.channel / factor, plain.channel).max() < 1e-6
    np.testing.assert_array_equal(scaled.mask, plain.mask)
    for name in ("noise_var", "error_var"):
        np.testing.assert_allclose(getattr(scaled, name) / abs(factor) ** 2, getattr(plain, name), rtol=1e-3)


def test_a_batch_is_its_slots_one_by_one_to_the_last_bit() -> None:
    _, observation = observed(5, 4)
    nomp = Nomp(FULL, grouped())
    batch = nomp.estimate(observation.reshape(2, 2, 64, 6))
    for slot, one in enumerate(observation):
        for name, value in vars(nomp.estimate(one)).items():
            np.testing.assert_array_equal(value, getattr(batch, name).reshape(4, *value.shape)[slot])
    assert nomp.estimate(observation[:0]).channel.shape == (0, 64, 72)


def test_silence_has_no_paths_and_no_noise() -> None:
    found = Nomp(FULL, grouped()).estimate(np.zeros((2, 64, 6), np.complex64))
    assert not found.mask.any()
    assert found.converged.all()
    for name in ("channel", "noise_var", "error_var"):
        assert not getattr(found, name).any()


def test_a_slot_that_is_not_finite_spoils_no_other() -> None:
    _, observation = observed(5, 3)
    nomp = Nomp(FULL, grouped())
    whole = nomp.estimate(observation)
    observation[1, 4, 2] = np.nan
    found = nomp.estimate(observation)
    assert not found.mask[1].any()
    assert not found.channel[1].any()
    assert np.isnan([found.noise_var[1], found.error_var[1]]).all()
    np.testing.assert_array_equal(found.channel[[0, 2]], whole.channel[[0, 2]])


def test_paths_are_bounded_and_time_can_run_out() -> None:
    _, observation = observed(15, 3)
    few = Nomp(FULL, grouped(), paths=2).estimate(observation)
    assert few.mask.all()
    assert not few.converged.any()
    asked = iter([False, False, True, True, True])
    late = Nomp(FULL, grouped()).estimate(observation, budget=lambda: next(asked))
    np.testing.assert_array_equal(late.iterations, [3, 1, 1])
    assert not late.converged.any()
    assert np.isfinite(late.error_var).all()


def test_columns_may_be_off_and_beams_random() -> None:
    group = balanced_random(64, 4, np.random.default_rng(0))
    group[::2] = -1
    off = Operator(group_beams(group, INTERVAL, 6, 12), group, INTERVAL)
    noise = add_noise(np.zeros((40, 64, 72), np.complex64), 1.0, np.random.default_rng(11))
    rows = combine(noise, off.weights)
    rows[:, ::2] = 1e3
    assert Nomp(FULL, off).estimate(rows).noise_var.mean() == pytest.approx(12, rel=0.03)
    beams = Operator(random_beams(64, 6, 12, np.random.default_rng(1)), np.zeros(64, np.int16), INTERVAL)
    truth = render(np.ones((1, 1)), np.array([[0.31]]), np.array([[-0.22]]), FULL)
    assert nmse(Nomp(FULL, beams, paths=1).estimate(combine(truth, beams.weights)).channel, truth)[0] < 1e-4


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"nomp: observation is \(64, 5\), wanted .*\(64, 6\)"):
        Nomp(FULL, grouped()).estimate(np.zeros((64, 5), np.complex64))
    with pytest.raises(BadParam) as caught:
        Nomp(FULL, grouped(), paths=0, single_steps=-1, cyclic_rounds=-1, false_alarm=1.0, expected_paths=0.0)
    assert len(str(caught.value).splitlines()) == 5
