"""The combiner by its structure: truth is the dense F_a."""

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.combine import combine, combine_separable, dense, distinct, expand, project, response
from beamslot.dsp.geometry import render, steering
from beamslot.errors import ShapeError
from beamslot.frame import Geometry


def complex_normal(rng: np.random.Generator, *shape: int) -> NDArray[np.complex64]:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("shape", [(64, 6, 12), (5, 3, 4), (8, 1, 1), (1, 4, 3), (7, 2, 1)])
def test_combine_equals_the_dense_operator(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    n_y, chain, m = shape
    weights, field = random_beams(n_y, chain, m, rng), complex_normal(rng, 2, n_y, chain * m)
    expected = field.reshape(2, -1) @ dense(weights).astype(np.complex128).T
    seen = combine(field, weights)
    assert seen.dtype == np.complex64
    np.testing.assert_allclose(seen.reshape(2, -1), expected, atol=1e-6 * np.abs(expected).max())


def test_dense_puts_each_chain_on_its_own_antennas(rng: np.random.Generator) -> None:
    weights = random_beams(3, 2, 4, rng)
    expected = np.zeros((6, 24), np.complex64)
    for n, t, m in np.ndindex(3, 2, 4):
        expected[2 * n + t, 8 * n + 4 * t + m] = weights[n, t, m]
    np.testing.assert_array_equal(dense(weights), expected)


def test_expand_is_the_adjoint_of_combine(rng: np.random.Generator) -> None:
    weights = random_beams(64, 6, 12, rng).astype(np.complex128)
    field = rng.standard_normal((3, 64, 72)) + 1j * rng.standard_normal((3, 64, 72))
    observation = rng.standard_normal((3, 64, 6)) + 1j * rng.standard_normal((3, 64, 6))
    left = np.vdot(combine(field, weights), observation)
    right = np.vdot(field, expand(observation, weights))
    np.testing.assert_allclose(left, right, rtol=1e-12)


def test_combine_then_expand_keeps_single_precision_and_the_batch_axes(rng: np.random.Generator) -> None:
    weights, field = random_beams(6, 2, 3, rng), complex_normal(rng, 4, 2, 6, 6)
    back = expand(combine(field, weights), weights)
    assert (back.shape, back.dtype) == (field.shape, np.complex64)
    assert combine(field[:0], weights).shape == (0, 2, 6, 2)


def test_slots_combined_one_by_one_equal_the_burst(rng: np.random.Generator) -> None:
    weights, field = random_beams(64, 6, 12, rng), complex_normal(rng, 7, 64, 72)
    alone = np.concatenate([combine(field[k : k + 1], weights) for k in range(7)])
    np.testing.assert_allclose(combine(field, weights), alone, atol=1e-6 * np.abs(alone).max())


def test_white_noise_leaves_the_combiner_m_times_as_strong(rng: np.random.Generator) -> None:
    weights = random_beams(32, 4, 12, rng)
    seen = combine(complex_normal(rng, 200, 32, 48) / np.sqrt(2, dtype=np.float32), weights)
    # 25600 complex entries: the mean power has a standard deviation of 12 / 160.
    assert np.mean(np.abs(seen) ** 2) == pytest.approx(12, abs=0.3)


def test_response_gives_the_observation_without_the_field(rng: np.random.Generator) -> None:
    geometry, weights = Geometry(10, 12, 0.6, 0.45), random_beams(10, 3, 4, rng)
    gain, u, v = complex_normal(rng, 2, 5), *rng.uniform(-0.7, 0.7, (2, 2, 5))
    columns = steering(10, u, 0.6)
    by_response = np.einsum("bk,bkn,bntk->bnt", gain, columns, response(weights, v, 0.45))
    np.testing.assert_allclose(by_response, combine(render(gain, u, v, geometry), weights), atol=1e-5)


def test_response_of_many_directions_equals_one_after_the_other(rng: np.random.Generator) -> None:
    weights, v = random_beams(4, 3, 5, rng), rng.uniform(-1, 1, (2, 3, 6))
    together = response(weights, v)
    assert together.shape == (2, 3, 4, 3, 6)
    for at in np.ndindex(2, 3, 6):
        expected = np.einsum("gtm,tm->gt", weights, steering(15, v[at]).reshape(3, 5))
        np.testing.assert_allclose(together[(*at[:2], ..., at[2])], expected, atol=1e-12)


def test_distinct_finds_each_beam_once_and_gives_the_weights_back(rng: np.random.Generator) -> None:
    group = np.array([0, 2, 1, -1, 2, 0, 1, 1], np.int16)
    weights = group_beams(group, (-0.5, 0.0), 3, 4)
    tables, which = distinct(weights)
    assert len(tables) == 4
    np.testing.assert_array_equal(tables[which], weights)
    np.testing.assert_array_equal(which[:, None] == which, group[:, None] == group)


def test_combine_separable_equals_combining_the_outer_product(rng: np.random.Generator) -> None:
    weights = random_beams(6, 2, 3, rng)[np.array([0, 1, 0, 2, 1, 0])]
    columns, rows = complex_normal(rng, 2, 4, 6), complex_normal(rng, 2, 4, 6)
    expected = combine(columns[..., :, None] * rows[..., None, :], weights).reshape(2, 4, 12)
    np.testing.assert_allclose(combine_separable(columns, rows, *distinct(weights)), expected, atol=1e-5)
    assert project(weights, rows).shape == (2, 4, 6, 2)


def test_a_field_that_does_not_fit_is_refused_with_both_shapes() -> None:
    weights = np.ones((4, 2, 3), np.complex64)
    with pytest.raises(ShapeError, match=r"combine: field is \(5, 4, 7\), weights \(4, 2, 3\) want \(\.\.\., 4, 6\)"):
        combine(np.zeros((5, 4, 7), np.complex64), weights)
    with pytest.raises(ShapeError, match=r"expand: observation is \(4, 3\), weights \(4, 2, 3\) want \(\.\.\., 4, 2\)"):
        expand(np.zeros((4, 3), np.complex64), weights)
