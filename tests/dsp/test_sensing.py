"""Separable sensing matrices: truth is F_a as a dense matrix times steering vectors of the whole array."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.combine import dense
from beamslot.dsp.geometry import steering
from beamslot.dsp.sensing import Sensing, group_sensing, joint_sensing
from beamslot.errors import ShapeError
from beamslot.frame import Geometry, Operator

GEOMETRY = Geometry(8, 12, 0.5, 0.6)
INTERVAL = (-0.5, 0.0)
# Ragged on purpose: five, two and no columns, one switched off.
GROUP = np.array([0, 0, 1, 0, -1, 1, 0, 0], np.int16)


def operator(beams: str) -> Operator:
    weights = random_beams(8, 3, 4, np.random.default_rng(0))
    if beams == "groups":
        weights = group_beams(GROUP, INTERVAL, 3, 4, GEOMETRY.spacing_z)
    return Operator(weights, GROUP, INTERVAL)


def dense_atoms(front: Operator, u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """Return F_a a_R for paths (K,), gains counted from antenna (0, 0): (K, y, chain)."""
    field = np.einsum("ky,kz->kyz", steering(8, u, GEOMETRY.spacing_y), steering(12, v, GEOMETRY.spacing_z))
    return (field.reshape(len(u), -1) @ dense(front.weights.astype(complex)).T).reshape(len(u), 8, 3)


def both(front: Operator) -> list[tuple[Sensing, list[NDArray[Any]]]]:
    """Return the joint and the group sensing, with the columns of each of their problems."""
    groups = [np.flatnonzero(group == GROUP) for group in (0, 1)]
    return [
        (joint_sensing(GEOMETRY, front, 0.05), [np.flatnonzero(GROUP >= 0)]),
        (group_sensing(GEOMETRY, front, 0.05), groups),
    ]


@pytest.mark.parametrize("beams", ["groups", "random"])
def test_atoms_are_what_the_dense_front_end_makes_of_steering_vectors(beams: str) -> None:
    front, rng = operator(beams), np.random.default_rng(1)
    for sensing, members in both(front):
        u, v = rng.uniform(-0.8, 0.8, (len(members), 4)), rng.uniform(-0.5, 0, (len(members), 4))
        # What a gain of one at the middle is worth at antenna (0, 0).
        unit = sensing.from_middle(np.ones_like(u), u, v)
        atoms = sensing.atoms(u, v)
        for problem, columns in enumerate(members):
            expected = dense_atoms(front, u[problem], v[problem])[:, columns]
            found = (atoms[problem] / unit[problem, :, None]).reshape(4, 3, -1)
            np.testing.assert_allclose(found[..., : len(columns)].swapaxes(1, 2), expected, atol=1e-12)
            np.testing.assert_array_equal(found[..., len(columns) :], 0)


@pytest.mark.parametrize("beams", ["groups", "random"])
def test_the_correlation_on_the_grid_is_the_adjoint_of_the_atoms(beams: str) -> None:
    rng = np.random.default_rng(2)
    for sensing, members in both(operator(beams)):
        shape = (len(members), *sensing.energy.shape[1:], len(sensing.grid_u))
        u = np.broadcast_to(sensing.grid_u, shape).reshape(len(members), -1)
        v = np.broadcast_to(sensing.grid_v[..., None], shape).reshape(len(members), -1)
        atoms = sensing.atoms(u, v)
        residual = rng.standard_normal((*atoms.shape[::2], 2)).view(complex)[..., 0]
        expected = np.einsum("pkr,pr->pk", atoms.conj(), residual)
        np.testing.assert_allclose(sensing.correlate(residual).reshape(len(members), -1), expected, atol=1e-11)
        energy = np.sum(np.abs(atoms) ** 2, -1).reshape(shape)
        np.testing.assert_allclose(energy, np.broadcast_to(sensing.energy[..., None], shape), rtol=1e-10)
        np.testing.assert_array_equal(sensing.visible.reshape(len(members), -1), u**2 + v**2 <= 1)


def test_slopes_are_the_finite_differences_of_the_atoms() -> None:
    rng, step = np.random.default_rng(3), 1e-6
    for sensing, members in both(operator("groups")):
        u, v = rng.uniform(-0.8, 0.8, (len(members), 3)), rng.uniform(-0.5, 0, (len(members), 3))
        atoms, slopes = sensing.slopes(u, v)
        np.testing.assert_allclose(atoms, sensing.atoms(u, v), atol=1e-13)
        along_u = (sensing.atoms(u + step, v) - sensing.atoms(u - step, v)) / (2 * step)
        along_v = (sensing.atoms(u, v + step) - sensing.atoms(u, v - step)) / (2 * step)
        np.testing.assert_allclose(slopes, np.concatenate([along_u, along_v], axis=1), atol=2e-6)


def test_observations_are_split_by_group_and_nothing_is_lost_or_doubled() -> None:
    rng = np.random.default_rng(4)
    observation = rng.standard_normal((2, 8, 3)) + 1j
    for sensing, members in both(operator("random")):
        rows = sensing.gather(observation)
        assert rows.shape[:2] == (2, len(members))
        np.testing.assert_array_equal(sensing.rows, [3 * len(columns) for columns in members])
        for problem, columns in enumerate(members):
            split = rows[:, problem].reshape(2, 3, -1)
            np.testing.assert_array_equal(split[..., : len(columns)].swapaxes(1, 2), observation[:, columns])
            np.testing.assert_array_equal(split[..., len(columns) :], 0)


def test_sub_intervals_share_the_interval_evenly_and_only_its_ends_are_guarded() -> None:
    front = Operator(
        random_beams(8, 3, 4, np.random.default_rng(5)), np.array([0, 1, 3, 3, 3, 3, 1, 0], np.int16), (-1, 0)
    )
    sensing = group_sensing(GEOMETRY, front, 0.1)
    np.testing.assert_allclose(sensing.low, [-1, -0.75, -0.25])
    np.testing.assert_allclose(sensing.high, [-0.75, -0.5, 0.1])
    joint = joint_sensing(GEOMETRY, front, 0.1)
    np.testing.assert_allclose([*joint.low, *joint.high], [-1, 0.1])


def test_the_grid_has_two_points_a_resolution_cell_and_reaches_the_search_limits() -> None:
    sensing = joint_sensing(Geometry(64, 72), operator_64(), 1 / 24)
    assert sensing.cell == (1 / 32, 1 / 36)
    np.testing.assert_allclose(np.diff(sensing.grid_u), 1 / 64)
    assert np.diff(sensing.grid_v[0]).max() <= 1 / 72 + 1e-12
    np.testing.assert_allclose(sensing.grid_v[0, [0, -1]], [-0.5 - 1 / 24, 1 / 24])


def operator_64() -> Operator:
    group = np.arange(64, dtype=np.int16) % 4
    return Operator(group_beams(group, INTERVAL, 6, 12), group, INTERVAL)


def test_a_null_of_the_beams_draws_no_path() -> None:
    group = np.zeros(8, np.int16)
    front = Operator(np.ones((8, 3, 4), np.complex64), group, (-1.0, 0.0))
    sensing = joint_sensing(Geometry(8, 12), front, 0.0)
    score = np.abs(sensing.correlate(sensing.atoms(np.array([[0.25]]), np.array([[-0.25]]))[:, 0])) ** 2
    at_v, at_u = np.unravel_index((score / sensing.energy[..., None]).argmax(), score.shape[1:])
    assert abs(sensing.grid_u[at_u] - 0.25) < 1e-12
    assert abs(sensing.grid_v[0, at_v] + 0.25) <= 1 / 12


def test_an_operator_that_does_not_fit_or_is_off_is_refused() -> None:
    front = operator("random")
    with pytest.raises(ShapeError, match=r"weights are \(8, 3, 4\).*y = 8 and chain \* m = 16"):
        joint_sensing(Geometry(8, 16), front, 0.0)
    off = Operator(front.weights, np.full(8, -1, np.int16), INTERVAL)
    for build in (joint_sensing, group_sensing):
        with pytest.raises(ShapeError, match="every column of the operator is switched off"):
            build(GEOMETRY, off, 0.0)
