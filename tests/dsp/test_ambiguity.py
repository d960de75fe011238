"""Ambiguity functions and side lobes: truth is dense matrices, sums written out, and numeric quadrature."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.linalg import toeplitz

from beamslot.dsp.ambiguity import (
    centre_cosines,
    horizontal,
    membership,
    side_lobe_kernel,
    side_lobe_level,
    side_lobe_region,
    vertical,
)
from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.combine import dense
from beamslot.dsp.grouping import contiguous
from beamslot.errors import BadParam, ShapeError

COSINE = np.array([0.87, 0.99])


def a_r(
    azimuth: float, elevation: float, n_y: int, n_z: int, spacing: tuple[float, float] = (0.5, 0.5)
) -> NDArray[np.complex128]:
    """Return eq. (3) for one direction, antenna by antenna."""
    u, v = np.sin(azimuth) * np.cos(elevation), np.sin(elevation)
    return np.array(
        [np.exp(2j * np.pi * (spacing[0] * n * u + spacing[1] * z * v)) for n in range(n_y) for z in range(n_z)]
    )


def chi(columns: NDArray[np.bool_], cosine: float, delta: float, spacing: float) -> complex:
    """Return the normalised ambiguity function of one group, column by column."""
    phases = [np.exp(2j * np.pi * spacing * n * cosine * delta) for n in np.flatnonzero(columns)]
    return complex(sum(phases) / len(phases))


def test_the_vertical_ambiguity_function_is_that_of_the_dense_matrix(rng: np.random.Generator) -> None:
    weights, spacing = random_beams(5, 2, 3, rng), (0.5, 0.6)
    matrix = dense(weights.astype(complex))
    first, second = np.array([-0.4, 0.1, 0.3]), np.array([-0.2, 0.1])
    seen = vertical(weights, first, second, azimuth=0.7, spacing=spacing)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            left, right = (matrix @ a_r(0.7, angle, 5, 6, spacing) for angle in (one, other))
            assert seen[i, j] == pytest.approx(np.vdot(left, right), rel=1e-5)


def test_matched_narrow_beams_gather_all_that_chains_can() -> None:
    n_y, chains, m = 5, 2, 3
    weights = group_beams(np.zeros(n_y, int), (-0.5, 0.0), chains, m)
    peak = vertical(weights, [np.arcsin(-0.25)], [np.arcsin(-0.25)])
    assert peak.item() == pytest.approx(n_y * chains * m**2, rel=1e-5)


def test_the_horizontal_ambiguity_function_is_that_of_the_dense_matrix_of_a_group() -> None:
    n_y, chains, m, interval = 9, 2, 3, (-0.5, 0.0)
    group = np.array([0, 1, 1, 0, 1, -1, 0, 0, 1])
    weights = group_beams(group, interval, chains, m).astype(complex)
    members, cosine = membership(group, 2), centre_cosines(interval, 2)
    seen = horizontal(members, cosine, [0.35, -0.8])
    for g, centre in enumerate((-0.375, -0.125)):
        matrix = dense(weights * (group == g)[:, None, None])
        elevation, gain = np.arcsin(centre), chains * m**2
        for point, delta in enumerate((0.35, -0.8)):
            left, right = (matrix @ a_r(np.arcsin(s), elevation, n_y, 6) for s in (0.1, 0.1 + delta))
            assert seen[g, point] == pytest.approx(np.vdot(left, right) / (gain * members[g].sum()), rel=1e-5)


@pytest.mark.parametrize("spacing", [0.5, 0.7])
def test_the_side_lobe_level_is_the_integral_of_its_definition(spacing: float, rng: np.random.Generator) -> None:
    members, (a, b) = rng.random((3, 2, 20)) < 0.4, (0.1, 0.9)
    level = side_lobe_level(members, COSINE, (a, b), spacing)
    for i, g in np.ndindex(3, 2):

        def power(delta: float, columns=members[i, g], cosine=COSINE[g]) -> float:
            return abs(chi(columns, cosine, delta, spacing)) ** 2

        area = sum(quad(power, *ends, limit=200)[0] for ends in ((-b, -a), (a, b)))
        assert level[i, g] == pytest.approx(area / (2 * (b - a)), rel=1e-8)


def test_the_side_lobe_level_is_the_toeplitz_form_that_the_paper_prints(rng: np.random.Generator) -> None:
    members, (a, b) = (rng.random((2, 64)) < 0.3).astype(float), (1 / 32, 1.0)
    n = np.arange(1, 64)
    for g, c in enumerate(COSINE):
        printed = 2 * (np.sin(n * np.pi * c * b) - np.sin(n * np.pi * c * a)) / (n * np.pi * c)
        column = np.r_[2 * b - 2 * a, printed]
        np.testing.assert_allclose(side_lobe_kernel(64, COSINE, (a, b))[g], column, rtol=1e-12, atol=1e-14)
        s = members[g]
        expected = s @ toeplitz(column) @ s / (2 * (b - a) * s.sum() ** 2)
        assert side_lobe_level(members, COSINE, (a, b))[g] == pytest.approx(expected, rel=1e-11)


def test_one_column_tells_nothing_and_no_column_is_never_best() -> None:
    members = np.zeros((2, 7))
    members[0, 3] = 1
    np.testing.assert_allclose(side_lobe_level(members, COSINE, (0.2, 1.0)), [1, np.inf])
    np.testing.assert_allclose(np.abs(horizontal(members[:1], COSINE[:1], [0.0, 0.4])), 1)


@pytest.mark.parametrize(("n_y", "spacing", "cosine"), [(64, 0.5, 0.9), (20, 0.8, 0.7), (64, 0.5, 1.0)])
def test_side_lobes_begin_at_the_first_null_and_take_in_the_lobe_at_half_a_period(
    n_y: int, spacing: float, cosine: float
) -> None:
    null, end = side_lobe_region(n_y, [1.0, cosine], spacing)
    every, odd, half = np.ones(n_y, bool), np.arange(n_y) % 2 == 1, end - null
    assert abs(chi(every, 1.0, null, spacing)) < 1e-12
    assert min(abs(chi(every, 1.0, share * null, spacing)) for share in (0.3, 0.6, 0.9)) > 0.05
    assert abs(chi(odd, cosine, half, spacing)) == pytest.approx(1)  # the lobe that b = 1 would not see
    mixed = odd | (np.arange(n_y) < 9)
    for offset in (0.05, 0.2):
        below, above = (abs(chi(mixed, cosine, half + shift, spacing)) for shift in (-offset, offset))
        assert below == pytest.approx(above)


def test_the_side_lobes_of_narrow_spacing_end_with_the_differences_and_tiny_arrays_have_none() -> None:
    assert side_lobe_region(64, [0.9], 0.2) == (1 / 12.8, 2.0)
    with pytest.raises(
        BadParam, match=r"2 columns at 0\.5 wavelengths have no side lobe; wanted an aperture .* above 1 "
    ):
        side_lobe_region(2, [1.0])


def test_sub_intervals_are_uniform_in_the_sine() -> None:
    centres = np.array([-0.4375, -0.3125, -0.1875, -0.0625])
    np.testing.assert_allclose(centre_cosines((-0.5, 0.0), 4), np.cos(np.arcsin(centres)))


def test_members_are_the_columns_of_each_group() -> None:
    group = np.array([[0, 1, -1], [1, 1, 0]])
    assert membership(group, 2).astype(int).tolist() == [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 0]]]


def test_groups_that_do_not_fit_are_refused() -> None:
    members = membership(contiguous(8, 4), 4)
    with pytest.raises(ShapeError, match=r"side_lobe_level: members is \(4, 8\), cosine \(2,\); wanted"):
        side_lobe_level(members, COSINE, (0.1, 1.0))
    with pytest.raises(ShapeError, match="horizontal: members"):
        horizontal(members, COSINE, [0.0])
