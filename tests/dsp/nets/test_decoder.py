"""The decoder that knows the physics: truth is array responses and the combiner in NumPy, and finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from beamslot.dsp.beams import random_beams
from beamslot.dsp.combine import combine, dense
from beamslot.dsp.geometry import render, steering
from beamslot.dsp.nets.decoder import Antennas, Behind, Decoder, LearnedDecoder, Ula, Upa
from beamslot.dsp.nets.resnet import parameters
from beamslot.dsp.ula import UlaScene, array_response, complex_normal
from beamslot.errors import ShapeError
from beamslot.frame import Geometry

GEOMETRY = Geometry(6, 12, 0.6, 0.45)


def directions(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return rng.uniform(-0.6, 0.6, (*shape, 2))


@pytest.mark.parametrize(("antennas", "spacing"), [(32, 0.5), (17, 0.8)])
def test_it_equals_the_scene_of_the_line(antennas: int, spacing: float, rng: np.random.Generator) -> None:
    scene = UlaScene(antennas=antennas, spacing=spacing, snapshots=5)
    frames = scene.frames(rng, 4, 300.0)
    seen = Decoder(Ula(antennas, spacing))(torch.from_numpy(frames.theta), torch.from_numpy(frames.gain))
    np.testing.assert_allclose(seen, frames.gain @ array_response(frames.theta, antennas, spacing), atol=1e-12)
    np.testing.assert_allclose(seen, frames.observation, atol=1e-5)


def test_a_rectangle_equals_the_rendered_field(rng: np.random.Generator) -> None:
    angles, gain = directions(rng, 3, 5), complex_normal(rng, 3, 2, 5)
    array = Upa(GEOMETRY.n_y, GEOMETRY.n_z, GEOMETRY.spacing_y, GEOMETRY.spacing_z)
    seen = Decoder(array)(torch.from_numpy(angles), torch.from_numpy(gain)).unflatten(-1, (6, 12))
    u, v = (np.repeat(angles[:, None, :, k], 2, 1) for k in (0, 1))
    np.testing.assert_allclose(seen, render(gain, u, v, GEOMETRY), atol=1e-5)


def test_behind_an_operator_it_equals_the_combiner(rng: np.random.Generator) -> None:
    weights = random_beams(6, 3, 4, rng)
    angles, gain = directions(rng, 3, 5), complex_normal(rng, 3, 1, 5)
    array = Upa(GEOMETRY.n_y, GEOMETRY.n_z, GEOMETRY.spacing_y, GEOMETRY.spacing_z)
    seen = Decoder(Behind(array, torch.from_numpy(weights)))(torch.from_numpy(angles), torch.from_numpy(gain))
    columns = steering(6, angles[..., 0], 0.6)
    rows = steering(12, angles[..., 1], 0.45)
    field = np.einsum("fmk,fky,fkz->fmyz", gain, columns, rows)
    np.testing.assert_allclose(seen.unflatten(-1, (6, 3)), combine(field, weights.astype(complex)), atol=1e-12)
    by_matrix = Behind(array, torch.from_numpy(dense(weights)))(torch.from_numpy(angles))
    torch.testing.assert_close(by_matrix, Behind(array, torch.from_numpy(weights))(torch.from_numpy(angles)))


def test_antennas_anywhere_are_a_line_and_a_rectangle_where_they_stand_so(rng: np.random.Generator) -> None:
    angles = torch.from_numpy(directions(rng, 2, 4))
    places = [(0.0, 0.6 * n, 0.45 * z) for n in range(6) for z in range(12)]
    torch.testing.assert_close(Antennas(torch.tensor(places))(angles), Upa(6, 12, 0.6, 0.45)(angles), rtol=0, atol=2e-6)
    line = torch.tensor([(0.0, 0.5 * n, 0.0) for n in range(8)], dtype=torch.float64)
    theta = torch.from_numpy(rng.uniform(-1.5, 1.5, (2, 3)))
    flat = torch.stack([torch.sin(theta), torch.zeros_like(theta)], -1)
    torch.testing.assert_close(Antennas(line)(flat), Ula(8)(theta))


def test_depth_sees_what_comes_from_ahead() -> None:
    atoms = Antennas(torch.tensor([[0.25, 0.0, 0.0]], dtype=torch.float64))(torch.zeros(1, 2, dtype=torch.float64))
    torch.testing.assert_close(atoms, torch.tensor([[1j]], dtype=torch.complex128))


def test_derivatives_pass_in_angles_and_gains(rng: np.random.Generator) -> None:
    gain = torch.from_numpy(complex_normal(rng, 1, 2, 3)).requires_grad_()
    theta = torch.from_numpy(rng.uniform(-1, 1, (1, 3))).requires_grad_()
    assert torch.autograd.gradcheck(Decoder(Ula(7)), (theta, gain))
    angles = torch.from_numpy(directions(rng, 1, 3)).requires_grad_()
    behind = Behind(Upa(3, 4), torch.from_numpy(random_beams(3, 2, 2, rng)))
    assert torch.autograd.gradcheck(Decoder(behind), (angles, gain))
    assert torch.autograd.gradcheck(Antennas(torch.rand(4, 3, dtype=torch.float64)), (angles,))


def test_it_has_nothing_to_learn_and_nothing_to_store() -> None:
    physics = Decoder(Behind(Ula(8), torch.eye(8, dtype=torch.complex64)))
    assert (parameters(physics), physics.state_dict()) == (0, {})
    latent, seen = 3 * (1 + 2 * 40), 2 * 40 * 32
    learned = LearnedDecoder(3, 40, 32, hidden=16)
    assert parameters(learned) == (latent + 1) * 16 + 17 * 16 + 17 * seen
    out = learned(torch.zeros(5, 3), torch.zeros(5, 40, 3, dtype=torch.complex64))
    assert (out.shape, out.dtype) == ((5, 40, 32), torch.complex64)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="the array has 8 antennas, the operator wants 9"):
        Behind(Ula(8), torch.eye(9))(torch.zeros(1, 2))
    with pytest.raises(ShapeError, match=r"operator is \(3,\), wanted \(R, N\) or \(y, chain, m\)"):
        Behind(Ula(8), torch.ones(3))
    with pytest.raises(ShapeError, match=r"positions are \(3, 2\), wanted \(N, 3\)"):
        Antennas(torch.ones(3, 2))
