"""GW-SC-VBI: truth is the channel itself, closed forms, integrals, and bands around measured accuracy."""

from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, optimize

from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import render
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.gw_sc_vbi import GwScVbi
from beamslot.dsp.metrics import nmse
from beamslot.dsp.prediction import found_error, missed_power
from beamslot.dsp.sensing import joint_sensing
from beamslot.dsp.variational import Paths, Prior, log_odds, posterior_gains
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry, Operator

FULL = Geometry(64, 72)
INTERVAL = (-0.5, 0.0)
SLOTS = 40
Form = Literal["as_printed", "robust"]


def grouped(groups: int = 4, off: int = 0) -> Operator:
    group = balanced_random(64, groups, np.random.default_rng(0))
    group[:off] = -1
    return Operator(group_beams(group, INTERVAL, 6, 12), group, INTERVAL)


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
def judged(form: Form, snr_db: float) -> tuple[Estimate, NDArray[Any]]:
    """Return the estimates of the standard draws and their NMSE, computed once for all tests."""
    truth, observation = observed(snr_db)
    found = GwScVbi(FULL, grouped(), form=form).estimate(observation)
    return found, nmse(found.channel, truth)


def decibels(values: Any) -> float:
    return float(10 * np.log10(np.mean(values)))


# Over 300 other draws: means of -11.4, -20.7 and -31.9 dB, worst draws of -6.3, -15.7 and -25.3 dB.
@pytest.mark.parametrize(("snr_db", "mean", "worst"), [(-5, -11.0, -5.5), (5, -20.5, -14.0), (15, -31.4, -23.0)])
def test_the_robust_form_is_as_accurate_as_measured(snr_db: float, mean: float, worst: float) -> None:
    _, error = judged("robust", snr_db)
    assert decibels(error) < mean
    assert decibels(error.max()) < worst


@pytest.mark.parametrize("form", ["robust", "as_printed"])
def test_the_noise_is_learned(form: Form) -> None:
    found, _ = judged(form, 5)
    excess = 10 * np.log10(found.noise_var / (12 * noise_variance(5)))
    assert abs(excess.mean()) < (0.3 if form == "robust" else 0.7)
    if form == "robust":
        assert np.abs(excess).max() < 1


def test_supports_of_the_groups_alone_lose_paths_that_the_whole_grid_finds() -> None:
    for snr_db, margin in ((5, 1.0), (15, 1.0)):
        printed, robust = judged("as_printed", snr_db), judged("robust", snr_db)
        assert decibels(printed[1]) > decibels(robust[1]) + margin
    assert judged("as_printed", 5)[0].mask.sum() < 0.95 * judged("robust", 5)[0].mask.sum()


@pytest.mark.parametrize(("snr_db", "band"), [(-5, 1.5), (5, 1.5), (15, 1.0)])
def test_the_predicted_error_is_near_the_error_made(snr_db: float, band: float) -> None:
    found, error = judged("robust", snr_db)
    assert abs(decibels(found.error_var) - decibels(error)) < band


def test_nearly_every_slot_settles_within_its_iterations() -> None:
    for snr_db in (-5, 5, 15):
        found, _ = judged("robust", snr_db)
        assert found.converged.mean() >= 0.95
        assert found.iterations.max() <= 45


def test_more_paths_than_expected_are_estimated_too() -> None:
    truth, observation = observed(5, 20, paths=22)
    assert decibels(nmse(GwScVbi(FULL, grouped()).estimate(observation).channel, truth)) < -15.5


@pytest.mark.parametrize("form", ["robust", "as_printed"])
def test_a_few_paths_on_the_grid_are_recovered_without_noise(form: Form) -> None:
    gain = np.array([[1.0, 0.5j, -0.3, 0.2]])
    u, v = np.array([[-40, -12, 9, 30]]) / 64, np.array([[-0.44, -0.31, -0.19, -0.06]])
    truth = render(gain, u, v, FULL)
    found = GwScVbi(FULL, grouped(), form=form).estimate(combine(truth, grouped().weights))
    assert decibels(nmse(found.channel, truth)) < -60
    assert found.mask.sum() == 4
    np.testing.assert_allclose(found.u[0, :4], u[0], atol=1e-4)
    np.testing.assert_allclose(found.v[0, :4], v[0], atol=1e-4)
    np.testing.assert_allclose(found.gain[0, :4], gain[0], atol=1e-2)
    assert found.noise_var[0] < 1e-4


@pytest.mark.parametrize("form", ["robust", "as_printed"])
@pytest.mark.parametrize("factor", [1e-6, 1e6, np.exp(2j)])
def test_scale_and_common_phase_pass_through(form: Form, factor: complex) -> None:
    _, observation = observed(5, 3)
    estimator = GwScVbi(FULL, grouped(), form=form)
    plain = estimator.estimate(observation)
    scaled = estimator.estimate((factor * observation).astype(np.complex64))
    assert nmse(scaled.channel / factor, plain.channel).max() < 1e-6
    np.testing.assert_array_equal(scaled.mask, plain.mask)
    for name in ("noise_var", "error_var"):
        np.testing.assert_allclose(getattr(scaled, name) / abs(factor) ** 2, getattr(plain, name), rtol=1e-3)


@pytest.mark.parametrize("form", ["robust", "as_printed"])
def test_a_batch_is_its_slots_one_by_one_to_the_last_bit(form: Form) -> None:
    _, observation = observed(5, 4)
    estimator = GwScVbi(FULL, grouped(), form=form)
    batch = estimator.estimate(observation.reshape(2, 2, 64, 6))
    assert batch.channel.shape == (2, 2, 64, 72)
    for slot, one in enumerate(observation):
        alone = estimator.estimate(one)
        for name, value in vars(alone).items():
            np.testing.assert_array_equal(value, getattr(batch, name).reshape(4, *value.shape)[slot])


def test_an_empty_batch_gives_an_empty_estimate() -> None:
    found = GwScVbi(FULL, grouped(), max_paths=5).estimate(np.zeros((0, 64, 6), np.complex64))
    assert (found.channel.shape, found.gain.shape, found.noise_var.shape) == ((0, 64, 72), (0, 5), (0,))


@pytest.mark.parametrize("form", ["robust", "as_printed"])
def test_silence_has_no_paths_and_no_noise(form: Form) -> None:
    found = GwScVbi(FULL, grouped(), form=form).estimate(np.zeros((2, 64, 6), np.complex64))
    assert not found.mask.any()
    assert not found.channel.any()
    np.testing.assert_array_equal(found.noise_var, 0)
    np.testing.assert_array_equal(found.error_var, 0)


def test_a_slot_that_is_not_finite_spoils_no_other() -> None:
    _, observation = observed(5, 3)
    estimator = GwScVbi(FULL, grouped())
    whole = estimator.estimate(observation)
    observation[1, 4, 2] = np.nan
    found = estimator.estimate(observation)
    assert not found.mask[1].any()
    assert np.isnan(found.noise_var[1])
    assert np.isnan(found.error_var[1])
    np.testing.assert_array_equal(found.channel[[0, 2]], whole.channel[[0, 2]])
    np.testing.assert_array_equal(found.channel[1], 0)


@pytest.mark.parametrize("form", ["robust", "as_printed"])
def test_noise_alone_has_hardly_a_path(form: Form) -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((30, 64, 12), np.float32).view(np.complex64)
    found = GwScVbi(FULL, grouped(), form=form).estimate(noise)
    assert found.mask.sum(-1).max() <= 5
    assert found.mask.sum(-1).mean() < 1.2
    np.testing.assert_allclose(found.noise_var, 2, rtol=0.3)
    assert np.mean(np.abs(found.channel) ** 2) < 0.005


def test_the_groups_can_be_left_out() -> None:
    truth, observation = observed(5, 20)
    plain = GwScVbi(FULL, grouped(), group_rounds=0).estimate(observation)
    assert decibels(nmse(plain.channel, truth)) < -19.5


@pytest.mark.parametrize(("groups", "limit"), [(3, -19.0), (8, -19.0)])
def test_other_numbers_of_groups_do_as_well(groups: int, limit: float) -> None:
    operator = grouped(groups)
    truth, observation = observed(5, 20, operator=operator)
    assert decibels(nmse(GwScVbi(FULL, operator).estimate(observation).channel, truth)) < limit


def test_columns_may_be_off_and_groups_of_different_size() -> None:
    operator = grouped(off=9)
    truth, observation = observed(5, 20, operator=operator)
    observation[:, :9] = 1e3
    assert decibels(nmse(GwScVbi(FULL, operator).estimate(observation).channel, truth)) < -18.0


def test_random_beams_are_one_group() -> None:
    weights = random_beams(64, 6, 12, np.random.default_rng(1))
    operator = Operator(weights, np.zeros(64, np.int16), INTERVAL)
    truth, observation = observed(5, 20, operator=operator)
    assert -17 < decibels(nmse(GwScVbi(FULL, operator).estimate(observation).channel, truth)) < -14


@pytest.mark.parametrize(("strongest", "v"), [(True, 0.02), (True, -0.53), (False, 0.03)])
def test_a_path_a_little_outside_the_interval_is_found(strongest: bool, v: float) -> None:
    gain, u = np.array([[0.9, 0.3j]]), np.array([[0.21, -0.47]])
    height = np.array([[v, -0.2] if strongest else [-0.2, v]])
    truth = render(gain, u, height, FULL)
    noisy = add_noise(truth, 0.1 * np.mean(np.abs(truth) ** 2), np.random.default_rng(4))
    found = GwScVbi(FULL, grouped()).estimate(combine(noisy, grouped().weights))
    assert decibels(nmse(found.channel, truth)) < -25


def test_a_line_of_antennas_is_an_array_too() -> None:
    geometry = Geometry(32, 1)
    operator = Operator(np.ones((32, 1, 1), np.complex64), np.zeros(32, np.int16), (0.0, 0.0))
    truth = render(np.array([[1.0, 0.5j]]), np.array([[0.31, -0.52]]), np.zeros((1, 2)), geometry)
    noisy = add_noise(truth, 1e-3, np.random.default_rng(5))
    found = GwScVbi(geometry, operator, expected_paths=2, guard=0.0).estimate(combine(noisy, operator.weights))
    assert decibels(nmse(found.channel, truth)) < -32
    np.testing.assert_allclose(found.u[0, :2], [0.31, -0.52], atol=3e-3)


def test_the_paths_make_up_the_channel_strongest_first() -> None:
    found, _ = judged("robust", 5)
    rebuilt = render(found.gain, found.u, found.v, FULL, found.mask)
    np.testing.assert_array_equal(rebuilt, found.channel)
    assert np.all(np.diff(np.abs(found.gain), axis=-1) <= 0)
    np.testing.assert_array_equal(found.gain[~found.mask], 0)
    assert (found.channel.dtype, found.u.dtype, found.iterations.dtype) == (np.complex64, np.float32, np.int32)


def test_at_most_max_paths_are_kept() -> None:
    _, observation = observed(15, 5)
    for form in ("robust", "as_printed"):
        found = GwScVbi(FULL, grouped(), form=form, max_paths=3).estimate(observation)
        assert found.mask.shape == (5, 3)
        assert found.mask.any(-1).all()
    assert GwScVbi(FULL, grouped(), max_paths=3).estimate(observation).mask.all()


def test_of_every_antenna_two_noise_variances_a_path_remain() -> None:
    # With F_a = I the error of a path is the projection of the noise on its four real freedoms: 2 sigma^2 in all.
    geometry = Geometry(16, 12)
    operator = Operator(np.ones((16, 12, 1), np.complex64), np.zeros(16, np.int16), INTERVAL)
    sensing = joint_sensing(geometry, operator, 0.0)
    u, v, gain = np.array([[-0.6, 0.1, 0.7]]), np.array([[-0.4, -0.1, -0.3]]), np.array([[1.0, 0.5j, -0.4]])
    ones = np.ones((1, 3))
    paths = Paths(u, v, ones > 0, ones, 1e-6 * ones, np.array([1e5]))
    atoms = sensing.atoms(u, v)
    gains = posterior_gains(np.einsum("pk,pkr->pr", gain, atoms), atoms, paths)
    assert found_error(sensing, paths, gains, ones) * 192 == pytest.approx(3 * 2 / 1e5, rel=0.01)
    # A path that exists with probability 1/2 is doubted by a quarter of its power.
    half = np.array([[1.0, 1.0, 0.5]])
    doubted = found_error(sensing, paths, gains, half)
    assert doubted == pytest.approx(0.25 * 0.16, rel=0.01)


def test_the_error_of_close_paths_is_that_of_a_dense_fisher_matrix() -> None:
    geometry, operator, step = Geometry(16, 24), small(), 1e-6
    sensing = joint_sensing(geometry, operator, 0.0)
    u, v = np.array([[0.1, 0.19, -0.4]]), np.array([[-0.2, -0.23, -0.31]])
    gain, ones = np.array([[1.0, 0.8j, -0.5]]), np.ones((1, 3))
    paths = Paths(u, v, ones > 0, ones, 1e-9 * ones, np.array([1e6]))
    atoms = sensing.atoms(u, v)
    gains = posterior_gains(np.einsum("pk,pkr->pr", gain, atoms), atoms, paths)
    at = np.concatenate([gain.real[0], gain.imag[0], u[0], v[0]])

    def field(real: NDArray[Any]) -> NDArray[Any]:
        in_phase, quadrature, u, v = real.reshape(4, 3)
        columns = np.exp(1j * np.pi * np.arange(16)[:, None] * u)
        rows = np.exp(1j * np.pi * np.arange(24)[:, None] * v)
        # The gains count from the middle of the array, as the posterior's do.
        middle = np.exp(-0.5j * np.pi * (15 * u + 23 * v))
        return np.einsum("k,yk,zk->yz", (in_phase + 1j * quadrature) * middle, columns, rows)

    slopes = np.array([(field(at + by) - field(at - by)) / (2 * step) for by in step * np.eye(12)])
    seen = combine(slopes, operator.weights.astype(complex)).reshape(12, -1)
    fisher = 2 * 1e6 * (seen.conj() @ seen.T).real
    expected = np.trace(np.linalg.inv(fisher) @ (slopes.reshape(12, -1).conj() @ slopes.reshape(12, -1).T).real)
    assert found_error(sensing, paths, gains, ones) * 384 == pytest.approx(expected, rel=0.01)


def small() -> Operator:
    group = balanced_random(16, 4, np.random.default_rng(2))
    return Operator(group_beams(group, INTERVAL, 4, 6), group, INTERVAL)


def test_the_missed_power_is_the_integral_of_the_prior_below_the_threshold() -> None:
    sensing = joint_sensing(FULL, grouped(), 1 / 24)
    prior, energy = Prior.of(sensing, 10.0), float(sensing.energy.mean())
    for noise_precision in (2.0, 20.0, 200.0):
        paths = Paths(
            *[np.zeros((1, 1))] * 2, np.zeros((1, 1), bool), *[np.ones((1, 1))] * 2, np.array([noise_precision])
        )
        variance, rate = 1 / (noise_precision * energy), prior.slab_rate[0]

        def odds(power: float, variance: float = variance) -> float:
            return float(log_odds(np.array([[power]]), np.array([[variance]]), prior)[0, 0])

        least = optimize.brentq(odds, 2 * variance, 100 * variance)
        mean, _ = integrate.quad(lambda power, rate=rate: power * rate / (rate + power) ** 2, 0, least)
        assert missed_power(prior, paths, energy, 10.0) == pytest.approx(10 * mean, rel=1e-3)


def test_what_does_not_fit_is_refused_with_what_was_wanted() -> None:
    with pytest.raises(ShapeError, match=r"observation is \(3, 64, 5\), wanted .*\(64, 6\)"):
        GwScVbi(FULL, grouped()).estimate(np.zeros((3, 64, 5), np.complex64))
    with pytest.raises(ShapeError, match="weights are"):
        GwScVbi(Geometry(64, 36), grouped())
    with pytest.raises(BadParam) as caught:
        GwScVbi(FULL, grouped(), form="dense", expected_paths=0, max_paths=0, joint_rounds=0)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 4
    assert "gw_sc_vbi.form is 'dense', wanted as_printed or robust" in str(caught.value)
