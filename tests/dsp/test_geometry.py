"""Steering vectors and fields: truth is a plain sum of exponentials and an independent channel engine."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamslot.dsp.geometry import directions, gram, render, steering
from beamslot.frame import Geometry

VECTORS = Path(__file__).parents[1] / "vectors"


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 300), coordinate=st.floats(-1, 1), spacing=st.floats(0.1, 2))
def test_steering_is_the_exponential_of_every_element(n: int, coordinate: float, spacing: float) -> None:
    expected = np.exp(2j * np.pi * spacing * np.arange(n) * coordinate)
    np.testing.assert_allclose(steering(n, coordinate, spacing), expected, atol=1e-11)


def test_steering_keeps_the_leading_axes_even_when_they_are_empty() -> None:
    assert steering(20, np.zeros((3, 2))).shape == (3, 2, 20)
    assert steering(20, np.zeros((0, 2))).shape == (0, 2, 20)


@pytest.mark.parametrize("geometry", [Geometry(7, 6), Geometry(40, 1), Geometry(1, 30, 0.5, 0.8), Geometry(64, 72)])
def test_render_is_the_sum_over_paths_antenna_by_antenna(geometry: Geometry) -> None:
    rng = np.random.default_rng(1)
    gain = (rng.standard_normal((2, 3, 5)) + 1j * rng.standard_normal((2, 3, 5))).astype(np.complex64)
    u, v = rng.uniform(-0.7, 0.7, (2, 2, 3, 5))
    n, z = np.arange(geometry.n_y)[:, None], np.arange(geometry.n_z)
    expected = np.zeros((2, 3, geometry.n_y, geometry.n_z), complex)
    for at in np.ndindex(2, 3, 5):
        phase = geometry.spacing_y * n * u[at] + geometry.spacing_z * z * v[at]
        expected[at[:2]] += gain[at] * np.exp(2j * np.pi * phase)
    field = render(gain, u, v, geometry)
    assert field.dtype == np.complex64
    np.testing.assert_allclose(field, expected, atol=2e-6 * np.abs(expected).max())


def test_render_leaves_masked_paths_out() -> None:
    rng = np.random.default_rng(2)
    gain, mask = rng.standard_normal((4, 6)) + 0j, rng.random((4, 6)) > 0.5
    u, v = rng.uniform(-0.7, 0.7, (2, 4, 6))
    geometry = Geometry(8, 8)
    np.testing.assert_array_equal(render(gain, u, v, geometry, mask), render(gain * mask, u, v, geometry))


def test_directions_are_the_y_and_z_components_of_the_unit_vector() -> None:
    azimuth, elevation = np.random.default_rng(3).uniform(-1.5, 1.5, (2, 50))
    x = np.cos(azimuth) * np.cos(elevation)
    u, v = directions(azimuth, elevation)
    np.testing.assert_allclose(x**2 + u**2 + v**2, 1)
    np.testing.assert_allclose(np.arctan2(u, x), azimuth)
    np.testing.assert_allclose(np.arcsin(v), elevation)


def test_gram_is_the_matrix_of_inner_products() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((2, 3, 9)) + 1j * rng.standard_normal((2, 3, 9))
    expected = [[[np.vdot(a, b) for b in batch] for a in batch] for batch in vectors]
    np.testing.assert_allclose(gram(vectors), expected)


def correlations(stored: Any) -> list[float]:
    """Return |<ours, theirs>| / (||ours|| ||theirs||) of every array and path."""
    u, v = directions(stored["azimuth"], stored["elevation"])
    found = []
    for spacing, coefficients in zip(stored["spacing"], stored["coefficients"], strict=True):
        for path, theirs in enumerate(coefficients):
            geometry = Geometry(*theirs.shape, *spacing)
            ours = render(np.ones(1), u[path : path + 1], v[path : path + 1], geometry)
            found.append(abs(np.vdot(ours, theirs)) / np.linalg.norm(ours) / np.linalg.norm(theirs))
    return found


def test_plane_waves_equal_the_stored_coefficients_of_quadriga() -> None:
    with np.load(VECTORS / "quadriga_planar.npz") as stored:
        np.testing.assert_allclose(correlations(stored), 1, atol=1e-6)


def test_plane_waves_equal_the_coefficients_quadriga_computes_now() -> None:
    pytest.importorskip("quadriga_lib")
    spec = importlib.util.spec_from_file_location("make_quadriga", VECTORS / "make_quadriga.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    fresh = script.make()
    np.testing.assert_allclose(correlations(fresh), 1, atol=1e-6)
    with np.load(VECTORS / "quadriga_planar.npz") as stored:
        np.testing.assert_allclose(fresh["coefficients"], stored["coefficients"], atol=1e-9)
