"""The Cramer-Rao bound: truth is finite differences through the dense operator, and closed forms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.bounds import crb_channel, crb_channel_tracked
from beamslot.dsp.combine import dense
from beamslot.dsp.geometry import render
from beamslot.dsp.grouping import interleaved
from beamslot.frame import Geometry, Operator

GEOMETRY = Geometry(7, 6, 0.5, 0.6)


def operator(geometry: Geometry = GEOMETRY, m: int = 3, groups: int = 0) -> Operator:
    group = interleaved(geometry.n_y, max(groups, 1))
    if groups:
        return Operator(group_beams(group, (-0.5, 0.0), geometry.n_z // m, m), group, (-0.5, 0.0))
    weights = random_beams(geometry.n_y, geometry.n_z // m, m, np.random.default_rng(1))
    return Operator(weights, group, (-0.5, 0.0))


def draw(paths: int, seed: int = 2, batch: tuple[int, ...] = ()) -> tuple[NDArray[Any], ...]:
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((*batch, paths)) + 1j * rng.standard_normal((*batch, paths))
    u, v = rng.uniform(-0.8, 0.8, (*batch, paths)), rng.uniform(-0.5, 0, (*batch, paths))
    return gain, u, v, np.ones((*batch, paths), bool)


def bound_of(parts: Sequence[NDArray[Any]], given: Operator) -> NDArray[np.float64]:
    gain, u, v, mask = parts
    return crb_channel(gain, u, v, mask, given, GEOMETRY, 1.0)


def field(mu: NDArray[np.float64], geometry: Geometry) -> NDArray[np.complex128]:
    """Return h of mu = (u, v, Re alpha, Im alpha), in double precision and independent of the module under test."""
    u, v, real, imaginary = mu.reshape(4, -1)
    n, z = np.arange(geometry.n_y)[:, None, None], np.arange(geometry.n_z)[:, None]
    phase = 2 * np.pi * (geometry.spacing_y * n * u + geometry.spacing_z * z * v)
    return (np.exp(1j * phase) @ (real + 1j * imaginary)).ravel()


def numeric_bound(
    gain: NDArray[np.complex128], u: NDArray[np.float64], v: NDArray[np.float64], given: Operator, geometry: Geometry
) -> float:
    """Return the bound for a noise variance of 1 from central differences and a dense F_a."""
    mu = np.concatenate([u, v, gain.real, gain.imag])
    steps = 1e-5 * np.eye(len(mu))
    slopes = np.stack([(field(mu + d, geometry) - field(mu - d, geometry)) / 2e-5 for d in steps], -1)
    seen = dense(given.weights.astype(complex)) @ slopes
    information = 2 * (seen.conj().T @ seen).real
    covariance = np.linalg.inv(information)
    return float(np.trace(slopes @ covariance @ slopes.conj().T).real / np.linalg.norm(field(mu, geometry)) ** 2)


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("paths", [1, 2, 3])
def test_the_bound_equals_one_from_a_numeric_fisher_matrix(paths: int, groups: int) -> None:
    geometry = Geometry(16, 6, 0.5, 0.6)
    gain, u, v, mask = draw(paths)
    given = operator(geometry, groups=groups)
    expected = numeric_bound(gain, u, v, given, geometry)
    assert crb_channel(gain, u, v, mask, given, geometry, 1.0) == pytest.approx(expected, rel=1e-5)


def test_antennas_read_one_by_one_cost_two_complex_unknowns_a_path() -> None:
    geometry = Geometry(12, 10)
    given = operator(geometry, m=1)
    gain, u, v, mask = draw(4)
    energy = np.sum(np.abs(render(gain, u, v, geometry).astype(complex)) ** 2)
    assert crb_channel(gain, u, v, mask, given, geometry, 0.3) == pytest.approx(0.3 * 8 / energy, rel=1e-5)


def test_a_linear_array_has_no_vertical_angle_to_find() -> None:
    geometry = Geometry(20, 1)
    gain, u, _, mask = draw(3)
    energy = np.sum(np.abs(render(gain, u, 0 * u, geometry).astype(complex)) ** 2)
    bound = crb_channel(gain, u, 0 * u, mask, operator(geometry, m=1), geometry, 0.5)
    assert bound == pytest.approx(0.5 * 4.5 / energy, rel=1e-5)


def test_the_bound_scales_with_the_noise_and_not_with_the_units() -> None:
    given, (gain, u, v, mask) = operator(), draw(3, batch=(4,))
    bound = crb_channel(gain, u, v, mask, given, GEOMETRY, 1.0)
    np.testing.assert_allclose(crb_channel(gain, u, v, mask, given, GEOMETRY, np.full(4, 7.0)), 7 * bound, rtol=1e-9)
    for scale in (1e-6, 1e6):
        scaled = crb_channel(scale * gain, u, v, mask, given, GEOMETRY, scale**2)
        np.testing.assert_allclose(scaled, bound, rtol=1e-6)


def test_a_batch_equals_one_draw_after_the_other() -> None:
    given, parts = operator(), draw(3, batch=(2, 3))
    together = bound_of(parts, given)
    assert together.shape == (2, 3)
    for at in np.ndindex(2, 3):
        alone = bound_of([part[at] for part in parts], given)
        assert together[at] == pytest.approx(alone, rel=1e-9)
    assert bound_of([part[:0] for part in parts], given).shape == (0, 3)


def test_masked_paths_do_not_count_and_no_path_has_no_error() -> None:
    given, (gain, u, v, mask) = operator(), draw(5)
    mask[[1, 3]] = False
    kept = bound_of([part[mask] for part in (gain, u, v, mask)], given)
    assert crb_channel(gain, u, v, mask, given, GEOMETRY, 1.0) == pytest.approx(kept, rel=1e-9)
    assert crb_channel(gain, u, v, np.zeros(5, bool), given, GEOMETRY, 1.0) == 0


@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-7, 1e-4])
def test_coincident_paths_give_a_finite_bound_no_lower_than_that_of_one_path(distance: float) -> None:
    given, (gain, u, v, mask) = operator(), draw(2)
    u[1], v[1] = u[0] + distance, v[0]
    together = crb_channel(gain, u, v, mask, given, GEOMETRY, 1.0)
    merged = crb_channel(gain.sum(keepdims=True), u[:1], v[:1], mask[:1], given, GEOMETRY, 1.0)
    assert np.isfinite(together)
    assert together >= merged * (1 - 1e-3)


def test_switched_off_columns_carry_no_information() -> None:
    gain, u, v, mask = draw(2)
    group = np.array([0, 1, -1, 0, 1, -1, 0], np.int16)
    some = Operator(group_beams(group, (-0.5, 0.0), 2, 3), group, (-0.5, 0.0))
    every = Operator(group_beams(np.where(group < 0, 0, group), (-0.5, 0.0), 2, 3), group, (-0.5, 0.0))
    assert crb_channel(gain, u, v, mask, some, GEOMETRY, 1.0) > crb_channel(gain, u, v, mask, every, GEOMETRY, 1.0)


def walked(slots: int, paths: int, walk: float) -> tuple[NDArray[Any], ...]:
    """Return gain, u, v of paths in a random walk whose amplitudes stay and whose phases are new in every slot."""
    rng = np.random.default_rng(5)
    amplitude = rng.uniform(0.5, 1.5, paths)
    gain = amplitude * np.exp(2j * np.pi * rng.random((slots, paths)))
    u = rng.uniform(-0.8, 0.8, paths) + walk * np.cumsum(rng.standard_normal((slots, paths)), 0)
    return gain, u, rng.uniform(-0.5, 0, paths) + walk * np.cumsum(rng.standard_normal((slots, paths)), 0)


def joint_bound(
    gain: NDArray[Any], u: NDArray[Any], v: NDArray[Any], given: Operator, geometry: Geometry, walk: float
) -> float:
    """Return the bound of the last slot from the information matrix of all slots at once.

    Its parameters are u and v of every slot, tied by their steps, the common ln |alpha|, and the phases of every slot.
    """
    slots, paths = gain.shape
    unknowns = 3 * slots * paths + paths
    information = np.zeros((unknowns, unknowns))
    for slot in range(slots):
        mu = np.concatenate([u[slot], v[slot], np.log(np.abs(gain[slot])), np.angle(gain[slot])])
        slopes = slopes_of(mu, geometry)
        seen = dense(given.weights.astype(complex)) @ slopes
        where = np.concatenate([np.arange(paths) + at for at in positions(slot, slots, paths)])
        information[np.ix_(where, where)] += 2 * (seen.conj().T @ seen).real
        if slot:
            for now, before in zip(
                positions(slot, slots, paths)[:2], positions(slot - 1, slots, paths)[:2], strict=True
            ):
                tie = np.zeros((paths, unknowns))
                tie[np.arange(paths), now + np.arange(paths)] = 1
                tie[np.arange(paths), before + np.arange(paths)] = -1
                information += tie.T @ tie / walk**2
    covariance = np.linalg.inv(information)[np.ix_(where, where)]
    energy = np.linalg.norm(render(gain[-1], u[-1], v[-1], geometry).astype(complex)) ** 2
    return float(np.trace(slopes @ covariance @ slopes.conj().T).real / energy)


def positions(slot: int, slots: int, paths: int) -> list[int]:
    return [slot * 3 * paths, slot * 3 * paths + paths, 3 * slots * paths, slot * 3 * paths + 2 * paths]


def slopes_of(mu: NDArray[np.float64], geometry: Geometry) -> NDArray[np.complex128]:
    def polar(mu: NDArray[np.float64]) -> NDArray[np.complex128]:
        u, v, level, phase = mu.reshape(4, -1)
        gain = np.exp(level + 1j * phase)
        return field(np.concatenate([u, v, gain.real, gain.imag]), geometry)

    steps = 1e-5 * np.eye(len(mu))
    return np.stack([(polar(mu + d) - polar(mu - d)) / 2e-5 for d in steps], -1)


def test_the_recursive_bound_equals_that_of_all_slots_at_once() -> None:
    geometry, walk = Geometry(16, 6, 0.5, 0.6), 0.01
    given = operator(geometry, groups=2)
    gain, u, v = walked(5, 2, walk)
    found = crb_channel_tracked(gain, u, v, given, geometry, 1.0, walk)
    assert found[-1] == pytest.approx(joint_bound(gain, u, v, given, geometry, walk), rel=1e-5)


def test_the_recursive_bound_begins_at_that_of_a_slot_and_falls() -> None:
    given, (gain, u, v) = operator(), walked(30, 3, 0.0)
    alone = crb_channel(gain, u, v, np.ones(gain.shape, bool), given, GEOMETRY, 0.1)
    still = crb_channel_tracked(gain, u, v, given, GEOMETRY, 0.1, 0.0)
    moving = crb_channel_tracked(gain, u, v, given, GEOMETRY, 0.1, 0.05)
    assert still[0] == pytest.approx(alone[0], rel=1e-9)
    assert np.all(still[1:] < moving[1:])
    assert np.all(moving[1:] < alone[1:])


def test_without_a_walk_only_the_phases_are_left_to_find_in_the_end() -> None:
    given, (gain, u, v) = operator(Geometry(20, 1), m=1), walked(1, 1, 0.0)
    found = crb_channel_tracked(
        np.repeat(gain, 400, 0), np.repeat(u, 400, 0), 0 * np.repeat(v, 400, 0), given, Geometry(20, 1), 1, 0
    )
    energy = 20 * np.abs(gain[0, 0]) ** 2
    # One real unknown a slot, and two that 400 slots share.
    assert found[-1] * energy == pytest.approx(0.5 + 2 * 0.5 / 400, rel=2e-3)
