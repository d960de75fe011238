"""The path channel: truth is its declared statistics, and each slot must not know how it was asked for."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from beamslot.dsp.channel import PathChannel, Paths, add_noise, noise_variance
from beamslot.dsp.geometry import render
from beamslot.errors import BadParam
from beamslot.frame import Geometry

SMALL = Geometry(6, 4)
MOVING: dict[str, Any] = {"users": 2, "drift": 0.01, "phase_noise": 0.2, "redraw": 5}


class Keyed:
    """Counter-keyed generators of one seed, as the runtime hands them in."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([self.seed, key], np.uint64)))


def slot(paths: Paths, index: int) -> list[np.ndarray]:
    return [getattr(paths, part.name)[index] for part in fields(paths)]


@pytest.mark.parametrize("options", [{}, MOVING, {**MOVING, "phase": "fixed"}, {"redraw": 1}, {"paths": 1}])
def test_a_slot_is_the_same_alone_in_a_burst_and_out_of_order(options: dict[str, Any]) -> None:
    channel, keyed = PathChannel(geometry=SMALL, **options), Keyed(1)
    burst = channel.evolve(range(3, 19), keyed)
    order = [18, 3, 11, 4]
    scattered = channel.evolve(order, keyed)
    for place, index in enumerate(order):
        alone = channel.evolve(range(index, index + 1), keyed)
        for one, many, mixed in zip(slot(alone, 0), slot(burst, index - 3), slot(scattered, place), strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(mixed, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, MOVING, {"paths": 1}, {"paths": 40, "k_factor_db": -20.0}])
def test_every_slot_and_user_has_the_energy_of_the_antenna_count(options: dict[str, Any]) -> None:
    geometry = Geometry(64, 72)
    paths = PathChannel(geometry=geometry, **options).evolve(range(30), Keyed(2))
    field = render(paths.gain, paths.u, paths.v, geometry, paths.mask).astype(complex)
    np.testing.assert_allclose(np.sum(np.abs(field) ** 2, axis=(-2, -1)), 4608, rtol=1e-5)


def test_paths_have_the_declared_shapes_and_dtypes_also_for_no_slot_at_all() -> None:
    for count in (0, 1, 4):
        paths = PathChannel(geometry=SMALL, **MOVING).evolve(range(count), Keyed(3))
        shapes = [(part.shape, part.dtype) for part in (paths.gain, paths.u, paths.v, paths.mask, paths.draw)]
        wide = (count, 2, 10)
        assert shapes == [(wide, "c8"), (wide, "f4"), (wide, "f4"), (wide, "?"), ((count,), "i8")]


def test_the_k_factor_is_normal_in_decibels_and_the_nlos_powers_spread() -> None:
    paths = PathChannel(geometry=Geometry(2, 2), users=4000).evolve(range(1), Keyed(4))
    power = np.abs(paths.gain[0].astype(complex)) ** 2
    k_factor = 10 * np.log10(power[:, 0] / power[:, 1:].sum(-1))
    assert stats.kstest(k_factor, stats.norm(9, 3.5).cdf).pvalue > 1e-3
    # log of an exponential variable: standard deviation pi / sqrt(6) nepers of power; 3 dB of shadowing on top.
    differences = 10 * np.log10(power[:, 1] / power[:, 2])
    expected = np.sqrt(2 * ((10 / np.log(10) * np.pi / np.sqrt(6)) ** 2 + 9))
    assert differences.std() == pytest.approx(expected, rel=0.05)


def test_azimuth_and_sine_of_elevation_are_uniform() -> None:
    channel = PathChannel(geometry=Geometry(2, 2), users=400, interval=(-0.4, 0.1), azimuth=0.9)
    paths = channel.evolve(range(1), Keyed(5))
    v = paths.v.ravel().astype(float)
    azimuth = np.arcsin(paths.u.ravel() / np.sqrt(1 - v**2))
    assert stats.kstest(v, stats.uniform(-0.4, 0.5).cdf).pvalue > 1e-3
    assert stats.kstest(azimuth, stats.uniform(-0.9, 1.8).cdf).pvalue > 1e-3


def test_drift_is_the_rms_change_per_slot() -> None:
    paths = PathChannel(geometry=Geometry(2, 2), users=500, drift=1e-3).evolve(range(4), Keyed(6))
    for coordinate in (paths.u, paths.v):
        change = np.diff(coordinate.astype(float), axis=0)
        assert np.sqrt(np.mean(change**2)) == pytest.approx(1e-3, rel=0.05)


def test_drifting_paths_stay_within_their_limits_and_v_stays_uniform() -> None:
    channel = PathChannel(geometry=Geometry(2, 2), users=300, drift=1e-3)
    paths = channel.evolve([0, 12345, 10**9], Keyed(7))
    assert paths.v.min() >= -0.5
    assert paths.v.max() <= 0
    limit = np.sin(np.pi / 3) * np.sqrt(1 - paths.v[0].astype(float) ** 2)
    assert np.all(np.abs(paths.u) <= limit + 1e-6)
    for late in paths.v[1:]:
        assert stats.kstest(late.ravel(), stats.uniform(-0.5, 0.5).cdf).pvalue > 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**62), st.floats(0, 1))
def test_any_slot_at_any_drift_is_finite_and_inside(index: int, drift: float) -> None:
    paths = PathChannel(geometry=SMALL, drift=drift).evolve([index], Keyed(8))
    assert np.isfinite(paths.gain).all()
    assert np.all((paths.v >= -0.5) & (paths.v <= 0))


def test_a_point_interval_and_a_single_azimuth_are_possible() -> None:
    channel = PathChannel(geometry=SMALL, interval=(-0.2, -0.2), azimuth=0.0, drift=0.1)
    paths = channel.evolve(range(5), Keyed(9))
    np.testing.assert_array_equal(paths.v, np.float32(-0.2))
    np.testing.assert_array_equal(paths.u, 0)


def test_fixed_phases_without_drift_make_a_constant_channel() -> None:
    paths = PathChannel(geometry=SMALL, phase="fixed").evolve(range(6), Keyed(10))
    np.testing.assert_array_equal(paths.gain, np.broadcast_to(paths.gain[:1], paths.gain.shape))


def test_phase_noise_turns_all_paths_of_a_user_together() -> None:
    channel = PathChannel(geometry=Geometry(2, 2), users=300, phase="fixed", phase_noise=0.3)
    gain = channel.evolve(range(3), Keyed(11)).gain.astype(complex)
    turn = np.angle(gain[1] / gain[0])
    np.testing.assert_allclose(turn, np.broadcast_to(turn[:, :1], turn.shape), atol=1e-4)
    # A difference of two independent phases: sqrt(2) times the rms of one.
    assert np.sqrt(np.mean(turn[:, 0] ** 2)) == pytest.approx(0.3 * np.sqrt(2), rel=0.15)


def test_fresh_phases_are_independent_and_uniform_while_the_amplitudes_keep_their_ratios() -> None:
    paths = PathChannel(geometry=SMALL).evolve(range(400), Keyed(12))
    turn = np.angle(paths.gain[1:] / paths.gain[:-1]).ravel()
    assert stats.kstest(turn, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    ratio = np.abs(paths.gain / paths.gain[..., :1])
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-5)


def test_redraw_starts_an_independent_channel_every_so_many_slots() -> None:
    paths = PathChannel(geometry=SMALL, redraw=3).evolve(range(8), Keyed(13))
    assert paths.draw.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    same = np.all(paths.u[1:] == paths.u[:-1], axis=(1, 2))
    assert same.tolist() == [True, True, False, True, True, False, True]


def test_users_and_seeds_have_channels_of_their_own() -> None:
    channel = PathChannel(geometry=SMALL, users=2)
    first, second = channel.evolve(range(1), Keyed(14)), channel.evolve(range(1), Keyed(15))
    assert np.all(first.u[0, 0] != first.u[0, 1])
    assert np.all(first.u != second.u)


def test_values_that_cannot_be_are_refused_all_at_once() -> None:
    with pytest.raises(BadParam) as caught:
        PathChannel(geometry=SMALL, users=0, interval=(0.1, -0.1), redraw=-1)
    assert str(caught.value).splitlines() == [
        "channel.users is 0, wanted at least 1",
        "channel.interval is (0.1, -0.1), wanted -1 <= v_min <= v_max <= 1",
        "channel.redraw is -1, wanted at least 0 slots",
    ]


def test_noise_is_white_circular_and_of_the_variance_asked_for() -> None:
    field = np.full((2, 300, 200), 3 - 1j, np.complex64)
    noise = add_noise(field, np.array([0.5, 2.0]), np.random.default_rng(16)) - field
    assert noise.dtype == np.complex64
    # 60000 entries: relative standard deviation 60000^-1/2 = 0.4 per cent.
    np.testing.assert_allclose(np.mean(np.abs(noise) ** 2, axis=(1, 2)), [0.5, 2.0], rtol=0.025)
    np.testing.assert_allclose(np.abs(np.mean(noise**2, axis=(1, 2))) / [0.5, 2.0], 0, atol=0.025)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1].conj(), axis=(1, 2))
    np.testing.assert_allclose(np.abs(neighbours) / [0.5, 2.0], 0, atol=0.025)


def test_a_scalar_noise_variance_serves_any_batch_and_zero_adds_nothing() -> None:
    field = np.ones((3, 1, 4, 2), np.complex64)
    assert add_noise(field, 1.0, np.random.default_rng(0)).shape == field.shape
    np.testing.assert_array_equal(add_noise(field, 0.0, np.random.default_rng(0)), field)


def test_the_two_references_of_the_snr_differ_by_the_antennas_of_a_chain() -> None:
    assert noise_variance(10) == pytest.approx(0.1)
    assert 12 * noise_variance(-5, 12) == pytest.approx(10**0.5)
    assert 10 * np.log10(noise_variance(0) / noise_variance(0, 12)) == pytest.approx(10.79, abs=0.01)
