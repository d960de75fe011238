"""Orthogonal matching pursuit: truth is a dense dictionary, exact recovery, and bands around measured accuracy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine, dense
from beamslot.dsp.geometry import render, steering
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.metrics import nmse
from beamslot.dsp.omp import Omp
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry, Operator

FULL = Geometry(64, 72)
INTERVAL = (-0.5, 0.0)


def grouped(geometry: Geometry, m: int) -> Operator:
    group = balanced_random(geometry.n_y, 4, np.random.default_rng(0))
    return Operator(group_beams(group, INTERVAL, geometry.n_z // m, m), group, INTERVAL)


def observed(snr_db: float, slots: int, seed: int, **options: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return channels and observations of independent draws on the full array."""

    def keyed(key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))

    paths = PathChannel(geometry=FULL, redraw=1, **options).evolve(range(slots), keyed)
    truth = render(paths.gain, paths.u, paths.v, FULL)[:, 0]
    noisy = add_noise(truth, noise_variance(snr_db), np.random.default_rng(seed))
    return truth, combine(noisy, grouped(FULL, 12).weights)


def decibels(values: NDArray[Any]) -> float:
    return float(10 * np.log10(np.mean(values)))


def dense_omp(
    y: NDArray[Any], operator: Operator, u: NDArray[Any], v: NDArray[Any], paths: int
) -> list[tuple[int, int]]:
    """Return the grid points that textbook OMP picks, from a dense dictionary and lstsq."""
    n_y, chain, m = operator.weights.shape
    steer = np.einsum("ui,vj->uvij", steering(n_y, u), steering(chain * m, v)).reshape(len(u) * len(v), -1)
    atoms = dense(operator.weights.astype(complex)) @ steer.T
    visible = (u[:, None] ** 2 + v**2 <= 1).ravel()
    chosen: list[int] = []
    residual = y
    for _ in range(paths):
        score = visible * np.abs(atoms.conj().T @ residual) ** 2 / np.sum(np.abs(atoms) ** 2, 0)
        chosen.append(int(score.argmax()))
        gain, *_ = np.linalg.lstsq(atoms[:, chosen], y, rcond=None)
        residual = y - atoms[:, chosen] @ gain
    return [divmod(point, len(v)) for point in chosen]


@pytest.mark.parametrize("beams", ["groups", "random"])
def test_the_paths_are_those_of_textbook_omp_with_a_dense_dictionary(beams: str) -> None:
    geometry, operator = Geometry(16, 12), grouped(Geometry(16, 12), 4)
    rng = np.random.default_rng(1)
    if beams == "random":
        operator = replace(operator, weights=random_beams(16, 3, 4, rng))
    gain, u, v = rng.standard_normal((1, 5)) + 1j, rng.uniform(-0.8, 0.8, (1, 5)), rng.uniform(-0.5, 0, (1, 5))
    y = combine(add_noise(render(gain, u, v, geometry), 0.05, rng), operator.weights)
    found = Omp(geometry, operator, paths=6, grid=(32, 20), zoom=0).estimate(y)
    grid_u, grid_v = np.arange(-16, 16) / 16, np.linspace(-0.5 - 1 / 24, 1 / 24, 20)
    count = int(found.mask.sum())
    assert count >= 3
    expected = dense_omp(y.reshape(-1).astype(complex), operator, grid_u, grid_v, count)
    np.testing.assert_allclose(found.u[0, :count], [grid_u[i] for i, _ in expected], atol=1e-6)
    np.testing.assert_allclose(found.v[0, :count], [grid_v[j] for _, j in expected], atol=1e-6)


def test_paths_on_the_grid_are_recovered_exactly_without_noise() -> None:
    grid_v = np.linspace(-0.5 - 1 / 24, 1 / 24, 36)
    u, v = np.array([[-48, -20, 2, 30, 60]]) / 64, grid_v[np.array([[6, 20, 30, 12, 25]])]
    gain = np.array([[1, 0.5j, -0.3, 0.2, 0.1 + 0.1j]])
    truth = render(gain, u, v, FULL)
    operator = grouped(FULL, 12)
    found = Omp(FULL, operator, zoom=0).estimate(combine(truth, operator.weights))
    assert found.mask.sum() == 5
    assert found.converged.all()
    order, expected = np.argsort(found.u[0, :5]), np.argsort(u[0])
    np.testing.assert_allclose(found.u[0, order], u[0, expected], atol=1e-6)
    np.testing.assert_allclose(found.v[0, order], v[0, expected], atol=1e-6)
    np.testing.assert_allclose(found.gain[0, order], gain[0, expected], atol=1e-5)
    np.testing.assert_allclose(found.channel, truth, atol=1e-5)


def test_one_path_off_the_grid_is_located_to_a_hundredth_of_a_beamwidth() -> None:
    u, v, operator = np.array([[0.3217]]), np.array([[-0.2345]]), grouped(FULL, 12)
    found = Omp(FULL, operator, paths=1).estimate(combine(render(np.ones((1, 1)), u, v, FULL), operator.weights))
    np.testing.assert_allclose(found.u, u, atol=0.01 * 2 / 64)
    np.testing.assert_allclose(found.v, v, atol=0.01 * 2 / 72)


@pytest.mark.parametrize("outside", [-0.53, 0.03])
def test_a_path_within_the_guard_outside_the_interval_is_found_where_it_is(outside: float) -> None:
    u, v, operator = np.array([[-0.2]]), np.array([[outside]]), grouped(FULL, 12)
    noisy = add_noise(render(np.ones((1, 1)), u, v, FULL), 0.1, np.random.default_rng(2))
    found = Omp(FULL, operator).estimate(combine(noisy, operator.weights))
    assert found.v[0, 0] == pytest.approx(outside, abs=0.003)


@pytest.mark.parametrize(("snr_db", "low", "high"), [(-5, -12.5, -9.5), (5, -21.8, -18.8), (15, -31, -27)])
def test_accuracy_over_draws_stays_in_its_band(snr_db: float, low: float, high: float) -> None:
    truth, observation = observed(snr_db, 60, seed=3)
    found = Omp(FULL, grouped(FULL, 12)).estimate(observation)
    accuracy = decibels(nmse(found.channel, truth))
    assert low < accuracy < high
    assert decibels(found.error_var) == pytest.approx(accuracy, abs=1.5)
    assert decibels(found.noise_var) == pytest.approx(decibels(np.array(12 * noise_variance(snr_db))), abs=0.5)


def test_locating_peaks_off_the_grid_is_worth_several_decibels() -> None:
    truth, observation = observed(5, 40, seed=4)
    plain, finer = (Omp(FULL, grouped(FULL, 12), zoom=zoom).estimate(observation) for zoom in (0, 3))
    assert decibels(nmse(finer.channel, truth)) < decibels(nmse(plain.channel, truth)) - 3


def test_noise_alone_seldom_yields_a_path() -> None:
    rng = np.random.default_rng(5)
    noise = add_noise(np.zeros((200, 64, 6), np.complex64), 3.0, rng)
    found = Omp(FULL, grouped(FULL, 12), paths=4).estimate(noise)
    # 20 expected at the bound of 0.1 a slot; 40 is over four standard deviations above it.
    assert found.mask.any(-1).sum() <= 40
    assert found.noise_var.mean() == pytest.approx(3.0, rel=0.02)


def test_a_silent_front_end_yields_nothing() -> None:
    found = Omp(FULL, grouped(FULL, 12)).estimate(np.zeros((2, 64, 6), np.complex64))
    assert not found.mask.any()
    assert found.converged.all()
    assert not found.channel.any()
    assert not found.noise_var.any()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_units_of_the_observation_do_not_matter(scale: float) -> None:
    _, observation = observed(5, 6, seed=6)
    omp = Omp(FULL, grouped(FULL, 12))
    found, scaled = omp.estimate(observation), omp.estimate((scale * observation).astype(np.complex64))
    np.testing.assert_array_equal(scaled.mask, found.mask)
    np.testing.assert_allclose(scaled.channel / scale, found.channel, atol=1e-3)
    np.testing.assert_allclose(scaled.noise_var / scale**2, found.noise_var, rtol=1e-3)


def test_a_batch_equals_one_slot_after_the_other_and_keeps_its_axes() -> None:
    _, observation = observed(5, 6, seed=7)
    omp = Omp(FULL, grouped(FULL, 12))
    together = omp.estimate(observation.reshape(2, 3, 64, 6))
    assert (together.channel.shape, together.mask.shape, together.converged.shape) == (
        (2, 3, 64, 72),
        (2, 3, 16),
        (2, 3),
    )
    for at in np.ndindex(2, 3):
        alone = omp.estimate(observation[3 * at[0] + at[1]])
        np.testing.assert_array_equal(alone.u, together.u[at])
        np.testing.assert_array_equal(alone.mask, together.mask[at])
        np.testing.assert_allclose(alone.channel, together.channel[at], atol=1e-6)
    assert omp.estimate(observation[:0]).channel.shape == (0, 64, 72)


def test_the_true_noise_variance_is_not_looked_at() -> None:
    _, observation = observed(5, 4, seed=8)
    blind, told = (Omp(FULL, replace(grouped(FULL, 12), noise_var=told)) for told in (None, 1e9))
    np.testing.assert_array_equal(blind.estimate(observation).channel, told.estimate(observation).channel)


def test_too_few_paths_are_reported_as_not_converged_and_just_enough_are_not() -> None:
    _, observation = observed(15, 4, seed=9)
    found = Omp(FULL, grouped(FULL, 12), paths=2).estimate(observation)
    assert not found.converged.any()
    np.testing.assert_array_equal(found.iterations, 2)
    _, single = observed(0, 4, seed=9, paths=1)
    assert Omp(FULL, grouped(FULL, 12), paths=1, false_alarm=1e-5).estimate(single).converged.all()


def test_a_linear_array_and_a_single_column_are_estimated_too() -> None:
    for geometry, m in ((Geometry(32, 1), 1), (Geometry(1, 48), 4)):
        weights = random_beams(geometry.n_y, geometry.n_z // m, m, np.random.default_rng(10))
        operator = Operator(weights, np.zeros(geometry.n_y, np.int16), INTERVAL)
        truth = render(np.ones((1, 1)), np.array([[0.3]]), np.array([[-0.2]]) * (geometry.n_z > 1), geometry)
        found = Omp(geometry, operator, paths=2).estimate(combine(truth, weights))
        assert nmse(found.channel, truth)[0] < 1e-4


def test_switched_off_columns_do_not_bias_the_noise() -> None:
    group = balanced_random(64, 4, np.random.default_rng(0))
    group[::2] = -1
    operator = Operator(group_beams(group, INTERVAL, 6, 12), group, INTERVAL)
    noise = add_noise(np.zeros((50, 64, 72), np.complex64), 1.0, np.random.default_rng(11))
    found = Omp(FULL, operator).estimate(combine(noise, operator.weights))
    assert found.noise_var.mean() == pytest.approx(12, rel=0.03)


def test_what_does_not_fit_is_refused() -> None:
    operator = grouped(FULL, 12)
    with pytest.raises(ShapeError, match=r"Omp: observation is \(64, 5\), wanted \(\.\.\., 64, 6\)"):
        Omp(FULL, operator).estimate(np.zeros((64, 5), np.complex64))
    with pytest.raises(ShapeError, match=r"weights \(64, 6, 12\) do not fit an array of 64 x 48"):
        Omp(Geometry(64, 48), operator)
    with pytest.raises(BadParam, match=r"grid \(32, 36\), zoom 3; wanted at least 1 path, 64 x 2 grid points"):
        Omp(FULL, operator, grid=(32, 36))
