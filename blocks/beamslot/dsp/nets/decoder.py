"""The decoder that knows the physics: Y = A(angles) [h_1 .. h_M], of any array, behind any analog operator.

| symbol | name | meaning |
|---|---|---|
| theta, (u, v) | angles | what an array reads: of a line (..., K) [rad], of others (..., K, 2), direction coordinates |
| A | atoms | (..., K, R) what users of unit gain leave in the R entries of an observation, a user a row |
| F_a | operator | what an analog front end makes of the antennas |
| h_m | gain | (..., M, K), a snapshot a row, so that Y = gain @ atoms |

An array is a module that turns angles into atoms and can be differentiated. Nothing here is learned but the decoder
of the original VAE, which is what the paper compares with.

source: paper 000, eqs. (1), (4); phases are the project's, conjugates of the paper's
"""

import math

import torch
from torch import Tensor, nn

from beamslot.errors import ShapeError

HIDDEN = 1024
"""Width of the two hidden layers of a decoder that is learned."""


class Ula(nn.Module):
    """A uniform line: angles theta (..., K) [rad] -> atoms (..., K, N), exp(j 2 pi d n sin(theta))."""

    phase: Tensor

    def __init__(self, antennas: int, spacing: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("phase", _phase(antennas, spacing), persistent=False)

    def forward(self, angles: Tensor) -> Tensor:
        """Return the atoms."""
        return _rotation(torch.sin(angles)[..., None] * self.phase.to(angles.dtype))


class Upa(nn.Module):
    """A uniform rectangle: angles (u, v) (..., K, 2) -> atoms (..., K, y z), in the C order of (y, z)."""

    columns: Tensor
    rows: Tensor

    def __init__(self, n_y: int, n_z: int, spacing_y: float = 0.5, spacing_z: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("columns", _phase(n_y, spacing_y), persistent=False)
        self.register_buffer("rows", _phase(n_z, spacing_z), persistent=False)

    def forward(self, angles: Tensor) -> Tensor:
        """Return the atoms."""
        u, v = angles[..., 0, None], angles[..., 1, None]
        phase = (u * self.columns.to(u.dtype))[..., :, None] + (v * self.rows.to(v.dtype))[..., None, :]
        return _rotation(phase.flatten(-2))


class Antennas(nn.Module):
    """Antennas anywhere: angles (u, v) (..., K, 2) -> atoms (..., K, N), exp(j 2 pi p . (w, u, v)), w >= 0.

    positions: (N, 3) [wavelengths], along x (broadside), y, z
    """

    positions: Tensor

    def __init__(self, positions: Tensor) -> None:
        super().__init__()
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise ShapeError(f"Antennas: positions are {tuple(positions.shape)}, wanted (N, 3)")
        self.register_buffer("positions", positions.to(torch.float64), persistent=False)

    def forward(self, angles: Tensor) -> Tensor:
        """Return the atoms."""
        ahead = torch.sqrt(torch.clamp(1 - angles.square().sum(-1, keepdim=True), min=torch.finfo(angles.dtype).tiny))
        toward = torch.cat([ahead, angles], -1)
        return _rotation(2 * math.pi * toward @ self.positions.to(angles.dtype).T)


class Behind(nn.Module):
    """An array behind an analog operator: angles -> F_a A.

    array: gives the atoms at the antennas
    operator: (R, N) any matrix F_a; or (y, chain, m), the weights of a partially connected combiner, N = y chain m
    forward raises ShapeError where the two do not fit
    source: paper 004, eqs. (1), (2)
    """

    operator: Tensor

    def __init__(self, array: nn.Module, operator: Tensor) -> None:
        super().__init__()
        if operator.ndim not in (2, 3):
            raise ShapeError(f"Behind: operator is {tuple(operator.shape)}, wanted (R, N) or (y, chain, m)")
        self.array = array
        self.register_buffer("operator", operator.to(torch.complex128), persistent=False)

    def forward(self, angles: Tensor) -> Tensor:
        """Return what users of unit gain leave behind the operator, (..., K, R)."""
        field = self.array(angles)
        operator = self.operator.to(field.dtype)
        antennas = operator.shape[1] if operator.ndim == 2 else operator.numel()
        if field.shape[-1] != antennas:
            raise ShapeError(f"Behind: the array has {field.shape[-1]} antennas, the operator wants {antennas}")
        if operator.ndim == 2:
            return field @ operator.T
        return (field.unflatten(-1, operator.shape) * operator).sum(-1).flatten(-2)


class Decoder(nn.Module):
    """Angles and gains -> what is observed without noise; nothing of it is learned.

    array: angles -> atoms (F, K, R)
    source: paper 000, eq. (4)
    """

    def __init__(self, array: nn.Module) -> None:
        super().__init__()
        self.array = array

    def forward(self, angles: Tensor, gain: Tensor) -> Tensor:
        """Return (F, M, R) of angles and gains (F, M, K)."""
        return gain @ self.array(angles)


class LearnedDecoder(nn.Module):
    """The decoder of the original VAE: angles (F, K) and gains (F, M, K) -> (F, M, R), three layers that know nothing.

    Decision: the paper says "standard decoder with learnable parameters" and no more
    """

    def __init__(self, users: int, snapshots: int, entries: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.shape = (snapshots, entries, 2)
        latent = users * (1 + 2 * snapshots)
        self.layers = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, math.prod(self.shape)),
        )

    def forward(self, angles: Tensor, gain: Tensor) -> Tensor:
        """Return (F, M, R)."""
        latent = torch.cat([angles, torch.view_as_real(gain).flatten(1)], 1)
        return torch.view_as_complex(self.layers(latent).unflatten(1, self.shape))


def _phase(elements: int, spacing: float) -> Tensor:
    return 2 * math.pi * spacing * torch.arange(elements, dtype=torch.float64)


def _rotation(phase: Tensor) -> Tensor:
    return torch.complex(torch.cos(phase), torch.sin(phase))
