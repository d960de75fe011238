"""VP-NOMP: truth is the channel itself, closed forms, integrals, the other form, and bands around measured accuracy."""

import sys
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, optimize

from beamslot.dsp import kernel
from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine, dense
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.evidence import evidence, found_error, occam
from beamslot.dsp.geometry import render, steering
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.metrics import nmse
from beamslot.dsp.omp import Omp
from beamslot.dsp.path_search import Settings, direction_curvature
from beamslot.dsp.prediction import aperture_gram
from beamslot.dsp.sensing import Sensing, joint_sensing
from beamslot.dsp.vp_nomp import VpNomp
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry, Operator

FULL, SMALL = Geometry(64, 72), Geometry(16, 24)
INTERVAL = (-0.5, 0.0)
SLOTS = 40
COMPILED = [variant for variant in kernel.variants() if variant != kernel.NUMPY]

uncompiled = pytest.mark.skipif(not COMPILED, reason="no kernel was compiled here, only the NumPy form runs")
by_compiled = pytest.mark.parametrize("variant", COMPILED or [pytest.param("", marks=uncompiled)])
by_variant = pytest.mark.parametrize("variant", [kernel.NUMPY, *(COMPILED or [pytest.param("", marks=uncompiled)])])


def grouped(geometry: Geometry = FULL, m: int = 12, groups: int = 4, off: int = 0) -> Operator:
    group = balanced_random(geometry.n_y, groups, np.random.default_rng(0))
    group[:off] = -1
    return Operator(group_beams(group, INTERVAL, geometry.n_z // m, m), group, INTERVAL)


@cache
def estimator(variant: str) -> VpNomp:
    return VpNomp(FULL, grouped(), variant=variant)


def observed(
    snr_db: float, slots: int = SLOTS, seed: int = 7, operator: Operator | None = None, **options: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return channels and observations of independent draws on the full array."""

    def keyed(key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))

    paths = PathChannel(geometry=FULL, redraw=1, **options).evolve(range(slots), keyed)
    truth = render(paths.gain, paths.u, paths.v, FULL)[:, 0]
    noisy = add_noise(truth, noise_variance(snr_db), np.random.default_rng(seed))
    return truth, combine(noisy, (operator or grouped()).weights)


@cache
def judged(variant: str, snr_db: float, paths: int = 10) -> tuple[Estimate, NDArray[Any], NDArray[Any]]:
    """Return the estimates of the standard draws, their NMSE and the channels, computed once for all tests."""
    truth, observation = observed(snr_db, paths=paths)
    found = estimator(variant).estimate(observation)
    return found, nmse(found.channel, truth), truth


def decibels(values: Any) -> float:
    return float(10 * np.log10(np.mean(values)))


def seen(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """Return dense atoms of the small array, (..., R)."""
    front = dense(grouped(SMALL, 6).weights.astype(complex))
    field = np.einsum("...y,...z->...yz", steering(16, u), steering(24, v))
    return field.reshape(*np.shape(u), 16 * 24) @ front.T


# Over 300 other draws: means of -11.6, -21.1, -32.4 and -17.0 dB, worst draws of -7.8, -18.0, -28.5 and -13.8 dB.
@by_variant
@pytest.mark.parametrize(
    ("snr_db", "paths", "mean", "worst"),
    [(-5, 10, -11.1, -6.0), (5, 10, -20.6, -15.0), (15, 10, -31.9, -24.5), (5, 22, -16.4, -12.0)],
)
def test_it_is_as_accurate_as_measured(variant: str, snr_db: float, paths: int, mean: float, worst: float) -> None:
    _, error, _ = judged(variant, snr_db, paths)
    assert decibels(error) < mean
    assert decibels(error.max()) < worst


@by_variant
@pytest.mark.parametrize("snr_db", [-5, 5, 15])
def test_noise_and_error_are_predicted(variant: str, snr_db: float) -> None:
    found, error, truth = judged(variant, snr_db)
    assert decibels(found.error_var) == pytest.approx(decibels(error), abs=1.0)
    assert decibels(found.noise_var) == pytest.approx(decibels(12 * noise_variance(snr_db)), abs=0.4)
    miss = (found.channel - truth) / np.sqrt(found.error_var / 2)[:, None, None]
    parts = np.abs(np.stack([miss.real, miss.imag]))
    assert 0.63 < np.mean(parts <= 1) < 0.73
    assert 0.92 < np.mean(parts <= 1.96) < 0.98


@by_variant
def test_nearly_every_slot_settles_and_in_few_rounds(variant: str) -> None:
    for snr_db in (-5, 5, 15):
        found, _, _ = judged(variant, snr_db)
        assert found.converged.mean() >= 0.85
        assert found.iterations.max() <= 12


@by_variant
def test_it_is_well_below_omp_on_its_grid(variant: str) -> None:
    truth, observation = observed(5)
    on_grid = nmse(Omp(FULL, grouped(), zoom=0).estimate(observation).channel, truth)
    assert decibels(judged(variant, 5)[1]) < decibels(on_grid) - 3


# Columns, chains, antennas a chain, spacings, groups (0: every column its own random beam), columns off, paths.
SIZES = [
    (5, 3, 5, 0.5, 0.5, 0, 0, 1),
    (6, 5, 3, 0.41, 0.5, 0, 0, 1),
    (7, 5, 5, 0.5, 0.5, 3, 1, 1),
    (9, 3, 7, 0.5, 0.45, 0, 2, 1),
    (11, 1, 9, 0.5, 0.37, 0, 0, 1),
    (11, 7, 5, 0.45, 0.5, 3, 0, 2),
    (12, 5, 7, 0.37, 0.41, 0, 0, 2),
    (13, 5, 5, 0.5, 0.5, 3, 3, 2),
    (14, 7, 3, 0.5, 0.3, 2, 0, 2),
    (16, 5, 7, 0.45, 0.5, 3, 2, 3),
    (17, 7, 7, 0.5, 0.41, 0, 3, 3),
    (17, 3, 5, 0.41, 0.5, 3, 0, 2),
    (9, 3, 3, 0.7, 0.5, 0, 0, 1),
    (1, 15, 3, 0.5, 0.5, 0, 0, 1),
    (15, 1, 1, 0.5, 0.5, 0, 0, 1),
]


def odd(
    size: tuple[int, int, int, float, float, int, int, int], seed: int, noise_var: float
) -> tuple[Geometry, Operator, NDArray[Any], NDArray[Any]]:
    """Return an array, beams, channels and observations of paths that stand apart."""
    n_y, chains, m, spacing_y, spacing_z, groups, off, paths = size
    rng = np.random.default_rng(seed)
    geometry = Geometry(n_y, chains * m, spacing_y, spacing_z)
    group = np.zeros(n_y, np.int16) if not groups else balanced_random(n_y, groups, rng)
    weights = random_beams(n_y, chains, m, rng)
    if groups:
        weights = group_beams(group, INTERVAL, chains, m, spacing_z)
    group[rng.permutation(n_y)[:off]] = -1
    slots, reach = 3, min(0.85, 0.42 / spacing_y)
    u = np.sort(rng.uniform(-1, 1, (slots, paths))) * 0.2 + np.linspace(-0.8, 0.8, paths + 2)[1:-1]
    v = rng.uniform(-0.45, -0.05, (slots, paths))
    gain = rng.uniform(0.7, 1.3, (slots, paths)) * np.exp(2j * np.pi * rng.random((slots, paths)))
    truth = render(gain, reach * u, v, geometry)
    observation = combine(add_noise(truth, noise_var, rng), weights)
    return geometry, Operator(weights, group, INTERVAL), truth, observation


@by_compiled
@pytest.mark.parametrize("size", SIZES)
def test_the_compiled_form_is_the_numpy_form(
    size: tuple[int, int, int, float, float, int, int, int], variant: str
) -> None:
    for seed, noise_var, guard, max_paths in ((1, 1e-2, 0.045, 24), (2, 0.1, 0.0, 5), (3, 1e-3, 0.02, 64)):
        geometry, operator, _, observation = odd(size, seed, noise_var)
        wanted, found = (
            VpNomp(geometry, operator, guard=guard, max_paths=max_paths, variant=which).estimate(observation)
            for which in (kernel.NUMPY, variant)
        )
        # A slot that still moves when its steps run out magnifies rounding; it may differ.
        settled = wanted.converged
        assert wanted.mask.any()
        assert settled.any()
        for name in ("mask", "iterations", "converged"):
            np.testing.assert_array_equal(
                getattr(found, name)[settled], getattr(wanted, name)[settled], err_msg=f"{name}, {seed}"
            )
        off = np.linalg.norm(found.channel - wanted.channel, axis=(-2, -1))[settled]
        assert np.all(off <= 1e-4 * np.linalg.norm(wanted.channel, axis=(-2, -1))[settled]), seed
        for name, rtol, atol in (
            ("u", 0, 1e-4),
            ("v", 0, 1e-4),
            ("gain", 0, 1e-3),
            ("noise_var", 1e-4, 0),
            ("error_var", 1e-3, 0),
        ):
            one, other = getattr(found, name)[settled], getattr(wanted, name)[settled]
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol, err_msg=f"{name}, {seed}")
        for name, value in vars(wanted).items():
            assert (getattr(found, name).shape, getattr(found, name).dtype) == (value.shape, value.dtype)


@by_compiled
@pytest.mark.parametrize("snr_db", [-5, 5, 15])
def test_the_compiled_form_takes_the_same_decisions_on_the_full_array(variant: str, snr_db: float) -> None:
    wanted, found = judged(kernel.NUMPY, snr_db)[0], judged(variant, snr_db)[0]
    same = (found.mask == wanted.mask).all(-1) & (found.iterations == wanted.iterations)
    assert same.mean() >= 0.95
    same &= wanted.converged  # a slot that still moves when its steps run out magnifies rounding
    assert np.sqrt(nmse(found.channel, wanted.channel)[same].max()) < 1e-4
    np.testing.assert_allclose(found.noise_var[same], wanted.noise_var[same], rtol=1e-4)
    np.testing.assert_allclose(found.error_var[same], wanted.error_var[same], rtol=1e-3)


def fitted(sensing: Sensing, y: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> Any:
    """Return the fit of paths to y: Gram matrix of atoms and slopes a cell, and the gains by lstsq."""
    atoms, slopes = sensing.slopes(u[None], v[None])
    both = np.concatenate([atoms[0], slopes[0] * np.repeat(sensing.cell, len(u))[:, None]])
    gain = np.linalg.lstsq(atoms[0].T, y, rcond=None)[0]
    gram = both.conj() @ both.T
    inverse = np.linalg.inv(gram[: len(u), : len(u)])
    return SimpleNamespace(u=u, v=v, gram=gram, matched=both.conj() @ y, inverse=inverse, gain=gain)


THREE_U, THREE_V = np.array([0.1, 0.19, -0.4]), np.array([-0.2, -0.23, -0.31])
THREE = np.array([1.0, 0.8j, -0.5])


def test_descent_and_curvature_are_those_of_the_least_squares_that_remain() -> None:
    sensing, step = joint_sensing(SMALL, grouped(SMALL, 6), 0.0), 1e-4
    rng = np.random.default_rng(4)
    unit = np.repeat(sensing.cell, 3)

    def misfit(y: NDArray[Any], cells: NDArray[Any]) -> float:
        u, v = (np.concatenate([THREE_U, THREE_V]) + unit * cells).reshape(2, 3)
        atoms = seen(u, v)
        return float(np.sum(np.abs(y - np.linalg.lstsq(atoms.T, y, rcond=None)[0] @ atoms) ** 2)) / 2

    exact = THREE @ seen(THREE_U, THREE_V)
    noisy = exact + 0.5 * (rng.standard_normal(64) + 1j * rng.standard_normal(64))
    by = step * np.eye(6)
    for y in (exact, noisy):
        rows = sensing.gather(y.reshape(16, 4))[0]
        curvature, descent = direction_curvature(fitted(sensing, rows, THREE_U, THREE_V))
        slope = [(misfit(y, one) - misfit(y, -one)) / (2 * step) for one in by]
        np.testing.assert_allclose(-descent, slope, atol=1e-4 * np.diag(curvature).max())
        assert np.linalg.eigvalsh(curvature).min() > 0
    # Without a residual Gauss-Newton's matrix is the Hessian itself.
    rows = sensing.gather(exact.reshape(16, 4))[0]
    curvature, _ = direction_curvature(fitted(sensing, rows, THREE_U, THREE_V))
    hessian = [[(misfit(exact, a + b) - misfit(exact, a - b)) / (2 * step**2) for a in by] for b in by]
    np.testing.assert_allclose(curvature, hessian, rtol=1e-3, atol=1e-3 * np.diag(curvature).max())


def field_and_slopes() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return three paths at the antennas, (3, N_r), and by finite differences their slopes a cell in u and v (6, N_r).

    Antennas count from the middle.
    """

    def field(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        columns = np.exp(1j * np.pi * (np.arange(16) - 7.5) * u[:, None])
        rows = np.exp(1j * np.pi * (np.arange(24) - 11.5) * v[:, None])
        return np.einsum("ky,kz->kyz", columns, rows).reshape(len(u), -1)

    step, (cell_u, cell_v) = 1e-5, (1 / 8, 1 / 12)
    by_u, by_v = step * cell_u, step * cell_v
    along_u = (field(THREE_U + by_u, THREE_V) - field(THREE_U - by_u, THREE_V)) / (2 * step)
    along_v = (field(THREE_U, THREE_V + by_v) - field(THREE_U, THREE_V - by_v)) / (2 * step)
    return field(THREE_U, THREE_V), np.concatenate([along_u, along_v])


def test_the_gram_matrix_at_the_antennas_is_the_dense_one() -> None:
    sensing = joint_sensing(SMALL, grouped(SMALL, 6), 0.0)
    paths, slopes = field_and_slopes()
    both = np.concatenate([paths, slopes])
    np.testing.assert_allclose(aperture_gram(sensing, THREE_U, THREE_V), both.conj() @ both.T, atol=1e-5 * 384)


def test_the_error_of_close_paths_is_that_of_a_dense_fisher_matrix() -> None:
    sensing, noise_var = joint_sensing(SMALL, grouped(SMALL, 6), 0.0), 1e-6
    rows = THREE @ sensing.atoms(THREE_U[None], THREE_V[None])[0]
    model = fitted(sensing, rows, THREE_U, THREE_V)
    spread = noise_var / 2 * np.linalg.inv(direction_curvature(model)[0])
    ones = np.ones(3)
    paths, slopes = field_and_slopes()
    jacobian = np.concatenate([paths, 1j * paths, np.tile(THREE, 2)[:, None] * slopes])
    through = dense(grouped(SMALL, 6).weights.astype(complex)) @ jacobian.T
    fisher = 2 / noise_var * (through.conj().T @ through).real
    bound = np.trace(np.linalg.inv(fisher) @ (jacobian.conj() @ jacobian.T).real)
    assert found_error(sensing, model, ones, ones, noise_var, spread) * 384 == pytest.approx(bound, rel=0.01)
    # A path that exists with probability 1/2 is doubted by a quarter of its power.
    half = np.array([1.0, 1.0, 0.5])
    doubted = found_error(sensing, model, half, ones, noise_var, spread)
    assert doubted == pytest.approx(0.25 * 0.25, rel=0.01)


def test_the_volume_of_directions_is_the_integral_of_their_likelihood() -> None:
    sensing, noise_var = joint_sensing(SMALL, grouped(SMALL, 6), 0.0), 4.0
    u, v = np.array([0.23]), np.array([-0.27])
    rows = 1.2 * sensing.atoms(u[None], v[None])[0, 0]
    curvature, _ = direction_curvature(fitted(sensing, rows, u, v))

    def likelihood(along_u: float, along_v: float) -> float:
        atom = sensing.atoms(u[None] + along_u * sensing.cell[0], v[None] + along_v * sensing.cell[1])[0, 0]
        left = np.vdot(rows, rows).real - abs(np.vdot(atom, rows)) ** 2 / np.vdot(atom, atom).real
        return float(np.exp(-left / noise_var))

    at = np.linspace(-0.15, 0.15, 41)
    volume = integrate.simpson(integrate.simpson([[likelihood(a, b) for b in at] for a in at], x=at), x=at)
    assert occam(curvature, noise_var)[0] == pytest.approx(np.log(volume), abs=0.05)
    assert occam(curvature, 1e6)[0] == 0


def test_existence_and_shrinkage_are_integrals_over_the_powers() -> None:
    sensing, settings = joint_sensing(FULL, grouped(), 0.045), Settings(expected_paths=8.0)
    variance = np.array([0.01, 0.012, 0.009, 0.011])
    power, volume = np.array([0.2, 0.1, 0.13, 0.07]), np.array([-6.0, -3.0, -1.0, 0.0])
    inclusion, shrinkage = evidence(power, variance, volume, sensing, settings)
    low, high = np.log(0.1 * variance.min()), np.log(2 * power.max())
    for k in range(4):

        def fits(at: float, k: int = k) -> float:
            both = variance[k] + np.exp(at)
            return float(variance[k] / both * np.exp(power[k] * (1 / variance[k] - 1 / both)))

        def shrunk(at: float, k: int = k) -> float:
            return fits(at, k) * np.exp(at) / (np.exp(at) + 2 * variance[k])

        total = integrate.quad(fits, low, high)[0]
        odds = settings.expected_paths / sensing.cells[0] * np.exp(volume[k]) * total / (high - low)
        assert np.log(inclusion[k] / (1 - inclusion[k])) == pytest.approx(np.log(odds), abs=0.3)
        assert shrinkage[k] == pytest.approx(integrate.quad(shrunk, low, high)[0] / total, abs=0.02)
    none = np.zeros(0)
    assert [len(part) for part in evidence(none, none, none, sensing, settings)] == [0, 0]


@by_variant
def test_two_close_paths_are_where_a_dense_search_puts_them(variant: str) -> None:
    rng = np.random.default_rng(1)
    u, v, gain = np.array([0.1, 0.24]), np.array([-0.2, -0.26]), np.array([1.0, 0.7j])
    y = gain @ seen(u, v) + 0.2 * (rng.standard_normal(64) + 1j * rng.standard_normal(64))

    def misfit(at: NDArray[Any]) -> float:
        atoms = seen(at[:2], at[2:]).T
        return float(np.sum(np.abs(y - atoms @ np.linalg.lstsq(atoms, y, rcond=None)[0]) ** 2))

    options = {"xatol": 1e-7, "fatol": 1e-9}
    best = optimize.minimize(misfit, np.concatenate([u, v]), method="Nelder-Mead", options=options)
    found = VpNomp(SMALL, grouped(SMALL, 6), max_paths=2, variant=variant).estimate(y.reshape(1, 16, 4))
    assert found.mask.sum() == 2
    np.testing.assert_allclose(np.concatenate([found.u[0], found.v[0]]), best.x, atol=1e-3)


FOUR = np.array([[1.0, 0.5j, -0.3, 0.2]])
FOUR_U, FOUR_V = np.array([[-0.617, 0.1234, 0.511, -0.19]]), np.array([[-0.44, -0.311, -0.061, -0.19]])


@by_variant
@pytest.mark.parametrize("paths", [1, 4])
def test_a_few_paths_are_recovered_without_noise(variant: str, paths: int) -> None:
    gain, u, v = (values[:, :paths] for values in (FOUR, FOUR_U, FOUR_V))
    truth = render(gain, u, v, FULL)
    found = estimator(variant).estimate(combine(truth, grouped().weights))
    assert decibels(nmse(found.channel, truth)) < -60
    np.testing.assert_allclose(found.u[:, :paths], u, atol=1e-4)
    np.testing.assert_allclose(found.v[:, :paths], v, atol=1e-4)
    np.testing.assert_allclose(found.gain[:, :paths], gain, atol=1e-2)
    assert found.noise_var[0] < 1e-4


@by_variant
@pytest.mark.parametrize("factor", [1e-6, 1e6, np.exp(2j)])
def test_scale_and_common_phase_pass_through(variant: str, factor: complex) -> None:
    _, observation = observed(5, 3)
    plain, scaled = (
        estimator(variant).estimate(one) for one in (observation, (factor * observation).astype(np.complex64))
    )
    assert nmse(scaled.channel / factor, plain.channel).max() < 1e-6
    np.testing.assert_array_equal(scaled.mask, plain.mask)
    for name in ("noise_var", "error_var"):
        np.testing.assert_allclose(getattr(scaled, name) / abs(factor) ** 2, getattr(plain, name), rtol=1e-3)


@by_variant
def test_a_batch_is_its_slots_one_by_one_to_the_last_bit(variant: str) -> None:
    _, observation = observed(5, 4)
    batch = estimator(variant).estimate(observation.reshape(2, 2, 64, 6))
    assert batch.channel.shape == (2, 2, 64, 72)
    for slot, one in reversed(list(enumerate(observation))):
        for name, value in vars(estimator(variant).estimate(one)).items():
            np.testing.assert_array_equal(value, getattr(batch, name).reshape(4, *value.shape)[slot])
    empty = estimator(variant).estimate(observation[:0])
    assert (empty.channel.shape, empty.gain.shape, empty.noise_var.shape) == ((0, 64, 72), (0, 24), (0,))


@by_variant
def test_silence_has_no_paths_and_no_noise(variant: str) -> None:
    found = estimator(variant).estimate(np.zeros((2, 64, 6), np.complex64))
    assert not found.mask.any()
    assert found.converged.all()
    for name in ("channel", "noise_var", "error_var"):
        assert not getattr(found, name).any()


@by_variant
@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_a_slot_that_is_not_finite_spoils_no_other(variant: str, spoil: float) -> None:
    _, observation = observed(5, 3)
    whole = estimator(variant).estimate(observation)
    observation[1, 4, 2] = spoil
    found = estimator(variant).estimate(observation)
    assert not found.mask[1].any()
    assert not found.channel[1].any()
    assert not found.converged[1]
    assert np.isnan([found.noise_var[1], found.error_var[1]]).all()
    np.testing.assert_array_equal(found.channel[[0, 2]], whole.channel[[0, 2]])


@by_variant
def test_what_a_switched_off_column_says_does_not_matter(variant: str) -> None:
    operator = grouped(off=9)
    truth, observation = observed(5, 20, operator=operator)
    silent = VpNomp(FULL, operator, variant=variant).estimate(observation)
    observation[:, :9] = np.nan
    found = VpNomp(FULL, operator, variant=variant).estimate(observation)
    np.testing.assert_array_equal(found.channel, silent.channel)
    assert decibels(nmse(found.channel, truth)) < -18.5


@by_variant
def test_noise_alone_has_hardly_a_path(variant: str) -> None:
    noise = add_noise(np.zeros((60, 64, 6), np.complex64), 3.0, np.random.default_rng(5))
    found = estimator(variant).estimate(noise)
    assert found.mask.sum(-1).max() <= 6
    assert found.mask.sum(-1).mean() < 1.2
    assert found.noise_var.mean() == pytest.approx(3.0, rel=0.03)
    assert np.mean(np.abs(found.channel) ** 2) < 0.005 * 3.0


@by_variant
def test_as_many_paths_as_observations_stay_bounded(variant: str) -> None:
    truth, observation = observed(15, 5, paths=300)
    found = estimator(variant).estimate(observation)
    assert nmse(found.channel, truth).max() < 0.5
    assert found.iterations.max() <= 20
    assert np.isfinite(found.error_var).all()
    wide = VpNomp(FULL, grouped(), max_paths=64, max_rounds=60, variant=variant).estimate(observation)
    assert nmse(wide.channel, truth).max() < 0.5


@by_variant
def test_paths_and_rounds_are_bounded_and_a_bound_met_is_no_convergence(variant: str) -> None:
    _, observation = observed(15, 3)
    few = VpNomp(FULL, grouped(), max_paths=3, variant=variant).estimate(observation)
    assert few.mask.shape == (3, 3)
    assert few.mask.all()
    short = VpNomp(FULL, grouped(), max_rounds=2, variant=variant).estimate(observation)
    np.testing.assert_array_equal(short.iterations, 2)
    assert short.mask.sum(-1).max() <= 4
    assert not short.converged.any()
    assert not few.converged.any()


@by_variant
def test_time_can_run_out(variant: str) -> None:
    _, observation = observed(15, 3)
    late = estimator(variant).estimate(observation, lambda: True)
    np.testing.assert_array_equal(late.iterations, 1)
    assert not late.converged.any()
    assert late.mask.any(-1).all()
    assert np.isfinite(late.error_var).all()
    asked = iter([False, False, True, True, True])
    np.testing.assert_array_equal(estimator(variant).estimate(observation, lambda: next(asked)).iterations, [3, 1, 1])
    unhurried = estimator(variant).estimate(observation, lambda: False)
    np.testing.assert_array_equal(unhurried.channel, estimator(variant).estimate(observation).channel)


@by_variant
def test_the_paths_make_up_the_channel_strongest_first(variant: str) -> None:
    found, _, _ = judged(variant, 5)
    rebuilt = render(found.gain, found.u, found.v, FULL, found.mask)
    assert nmse(found.channel, rebuilt).max() < 1e-8
    assert np.all(np.diff(np.abs(found.gain), axis=-1) <= 0)
    for name in ("gain", "u", "v"):
        np.testing.assert_array_equal(getattr(found, name)[~found.mask], 0)
    assert (found.channel.dtype, found.u.dtype, found.iterations.dtype) == (np.complex64, np.float32, np.int32)


# Columns more than half a wave apart see a path at u and at u + 1 / d alike: a copy is no second path.
@by_variant
@pytest.mark.parametrize(("n_y", "spacing"), [(8, 0.6), (16, 0.7), (7, 0.9)])
def test_the_grating_lobe_of_a_path_is_not_taken_for_another_path(variant: str, n_y: int, spacing: float) -> None:
    rng, slots = np.random.default_rng(5), 40
    geometry = Geometry(n_y, 21, spacing, 0.5)
    operator = Operator(random_beams(n_y, 3, 7, rng), np.zeros(n_y, np.int16), INTERVAL)
    u, v = rng.uniform(-0.85, 0.85, (slots, 1)), rng.uniform(-0.5, 0, (slots, 1))
    truth = render(np.ones((slots, 1)), u, v, geometry)
    observation = combine(add_noise(truth, 0.01, rng), operator.weights)
    found = VpNomp(geometry, operator, variant=variant).estimate(observation)
    assert decibels(nmse(found.channel, truth).max()) < -12


@by_variant
def test_a_path_is_seen_whose_grating_lobe_is_beyond_the_horizon(variant: str) -> None:
    rng, geometry = np.random.default_rng(5), Geometry(16, 21, 0.6, 0.5)
    operator = Operator(random_beams(16, 3, 7, rng), np.zeros(16, np.int16), INTERVAL)
    truth = render(np.ones((1, 1)), np.array([[0.72]]), np.array([[-0.49]]), geometry)
    observation = combine(add_noise(truth, 0.01, rng), operator.weights)
    found = VpNomp(geometry, operator, variant=variant).estimate(observation)
    assert decibels(nmse(found.channel, truth)) < -25
    assert found.u[0, 0] == pytest.approx(0.72, abs=0.01)


@by_variant
def test_beams_may_be_random_and_groups_few_or_many(variant: str) -> None:
    weights = random_beams(64, 6, 12, np.random.default_rng(1))
    operator = Operator(weights, np.zeros(64, np.int16), INTERVAL)
    for beams, low, high in (
        (operator, -17.0, -14.0),
        (grouped(groups=3), -24, -19.5),
        (grouped(groups=8), -24, -19.5),
    ):
        truth, observation = observed(5, 20, operator=beams)
        found = VpNomp(FULL, beams, variant=variant).estimate(observation)
        assert low < decibels(nmse(found.channel, truth)) < high


def test_what_does_not_fit_is_refused_with_what_was_wanted() -> None:
    with pytest.raises(ShapeError, match=r"vp_nomp: observation is \(3, 64, 5\), wanted .*\(64, 6\)"):
        VpNomp(FULL, grouped()).estimate(np.zeros((3, 64, 5), np.complex64))
    with pytest.raises(ShapeError, match="weights are"):
        VpNomp(Geometry(64, 36), grouped())
    with pytest.raises(ShapeError, match="every column of the operator is switched off"):
        VpNomp(FULL, grouped(off=64))
    with pytest.raises(BadParam) as caught:
        VpNomp(FULL, grouped(), max_paths=0, max_rounds=0, threshold=0.0, expected_paths=-1.0)
    lines = str(caught.value).splitlines()
    assert lines == [
        "vp_nomp.max_paths is 0, wanted 1 .. 64",
        "vp_nomp.max_rounds is 0, wanted at least 1",
        "vp_nomp.threshold is 0.0, wanted more than 0",
        "vp_nomp.expected_paths is -1.0, wanted more than 0",
    ]
    with pytest.raises(BadParam, match="max_paths is 65"):
        VpNomp(FULL, grouped(), max_paths=65)
    with pytest.raises(BadParam, match=r"kernel 'sse9' does not run here; wanted one of .*numpy"):
        VpNomp(FULL, grouped(), variant="sse9")


@pytest.fixture
def afresh() -> Iterator[None]:
    """Let `kernel.variants` look again, and forget afterwards what a test made it see."""
    kernel.variants.cache_clear()
    yield
    kernel.variants.cache_clear()


def test_the_environment_chooses_the_kernel_and_an_argument_overrules_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEAMSLOT_KERNEL", "numpy")
    assert kernel.load() is None
    for variant in COMPILED:
        assert kernel.load(variant).__name__.endswith(variant)
        monkeypatch.setenv("BEAMSLOT_KERNEL", variant)
        assert kernel.load().__name__.endswith(variant)
        assert kernel.load("numpy") is None
    monkeypatch.setenv("BEAMSLOT_KERNEL", "sse9")
    with pytest.raises(BadParam, match=r"kernel 'sse9' does not run here; wanted one of .*numpy"):
        kernel.load()
    monkeypatch.delenv("BEAMSLOT_KERNEL")
    assert kernel.load() is (kernel.load(COMPILED[0]) if COMPILED else None)


@pytest.mark.usefixtures("afresh")
def test_where_nothing_was_compiled_the_numpy_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEAMSLOT_KERNEL", raising=False)
    for variant in {"baseline", *COMPILED}:
        monkeypatch.setitem(sys.modules, f"beamslot.dsp._vp_nomp_{variant}", None)
    assert kernel.variants() == ("numpy",)
    assert kernel.load() is None
    with pytest.raises(BadParam, match="kernel 'baseline' does not run here; wanted one of numpy"):
        kernel.load("baseline")
    truth, observation = observed(15, 2)
    assert decibels(nmse(VpNomp(FULL, grouped()).estimate(observation).channel, truth)) < -25
