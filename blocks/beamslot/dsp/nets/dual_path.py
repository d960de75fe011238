"""The dual-path encoder of the knowledge-aware VAE, what comes before it and what comes after.

| symbol | name | meaning |
|---|---|---|
| Y | observation | (F, M, N) complex64, a snapshot a row |
| R | image of the AoA net | Y^T Y^* / M, (N, N), as two channels, real and imaginary |
| theta | theta | (F, K) [rad], inside the sector |
| mu_m, L_m | mean, factor | (F, M, K), (F, M, K, K): q(h_m) = CN(mu_m, L_m L_m^H), L_m lower, its diagonal positive |

source: paper 000, section III-B, eqs. (8)-(13). Decisions: the posterior's factor is a complex Cholesky factor (the
paper's (12) takes real and imaginary parts apart, which no covariance of dependent parts allows); angles of gains by
atan2; pseudo-labels at the largest local maxima of the mean power of the snapshots; the paper's two forms by choice
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from beamslot.dsp.estimate import refuse
from beamslot.dsp.nets.resnet import EIGHTEEN, Norm, Pool, ResNet, Stem

Average = Literal["power", "coherent"]
"""Over snapshots: mean of |a^H y_m|^2; or |a^H mean of y_m|^2, the paper's, for a mean gain that is strong."""

Pick = Literal["maxima", "largest"]
"""The K largest local maxima; or the K largest values, the paper's, which are neighbours on one peak."""

_CHUNK = 1 << 24
"""Numbers of a spectrum at a time, which bounds the memory for a fine grid."""

_LEAST_SPREAD = 1e-4
"""Added to the diagonal of the factor, so that its logarithm stays finite."""


class Posterior(NamedTuple):
    """What the encoder says: theta (F, K), mean (F, M, K) complex, factor (F, M, K, K) complex lower triangular."""

    theta: Tensor
    mean: Tensor
    factor: Tensor


class AnglePath(nn.Module):
    """The AoA net: covariance image -> angles inside the sector.

    sector: (least, largest) [rad]    the rest: as ResNet's
    """

    def __init__(self, users: int, antennas: int, sector: tuple[float, float], **net: object) -> None:
        super().__init__()
        self.low, self.high = sector
        self.net = ResNet(2, users, (antennas, antennas), **net)  # pyright: ignore[reportArgumentType]

    def forward(self, observation: Tensor) -> Tensor:
        """Return theta (F, K)."""
        place = torch.sigmoid(self.net(image(covariance(observation))).float())
        return self.low + (self.high - self.low) * place


class ChannelPath(nn.Module):
    """The channel net: observation image -> mean and factor of the gains of every snapshot."""

    def __init__(self, users: int, snapshots: int, antennas: int, **net: object) -> None:
        super().__init__()
        self.users, self.snapshots = users, snapshots
        outputs = snapshots * users * (2 + users)
        self.net = ResNet(2, outputs, (snapshots, antennas), **net)  # pyright: ignore[reportArgumentType]

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (F, M, K) and factor (F, M, K, K)."""
        k = self.users
        raw = self.net(image(observation)).float().unflatten(1, (self.snapshots, k * (2 + k)))
        mean = torch.complex(raw[..., :k], raw[..., k : 2 * k])
        return mean, lower_factor(raw[..., 2 * k :], k)


class DualPath(nn.Module):
    """The encoder: two nets that share nothing.

    users, snapshots, antennas: K, M, N    sector: (least, largest) [rad] of the angles
    width, blocks, stem, norm, pool: of both nets, as ResNet's
    raises BadParam for values that are none
    source: paper 000, fig. 1 and section III-B
    """

    def __init__(
        self,
        users: int,
        snapshots: int,
        antennas: int,
        sector: tuple[float, float],
        *,
        width: int = 64,
        blocks: Sequence[int] = EIGHTEEN,
        stem: Stem = "imagenet",
        norm: Norm = "batch",
        pool: Pool = "average",
    ) -> None:
        super().__init__()
        refuse(
            ("dual_path.users", users, "at least 1", users >= 1),
            ("dual_path.snapshots", snapshots, "at least 1", snapshots >= 1),
            ("dual_path.sector", sector, "least < largest", sector[0] < sector[1]),
        )
        net = {"width": width, "blocks": tuple(blocks), "stem": stem, "norm": norm, "pool": pool}
        self.angles = AnglePath(users, antennas, sector, **net)
        self.channel = ChannelPath(users, snapshots, antennas, **net)

    def forward(self, observation: Tensor) -> Posterior:
        """Return the posterior of frames (F, M, N)."""
        return Posterior(self.angles(observation), *self.channel(observation))


class SpectrumNet(nn.Module):
    """The unsupervised CNN that the paper compares with: covariance image -> power of every direction of a grid.

    Decision: the paper names its source without a recipe. Here: `layers` convolutions 3 x 3 of the covariance, stride 2
    after every other, one linear layer to the powers, softplus; learned without labels, see `losses.spectrum_fit`

    antennas: N    points: of the grid    width: channels of the first layer
    """

    def __init__(self, antennas: int, points: int, width: int = 32, layers: int = 4) -> None:
        super().__init__()
        made, inputs, size = list[nn.Module](), 2, antennas
        for layer in range(layers):
            stride, outputs = (2, 2 * width) if layer % 2 else (1, width)
            made += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs, size = outputs, (size + stride - 1) // stride
        self.layers = nn.Sequential(*made, nn.Flatten(), nn.Linear(inputs * size * size, points))

    def forward(self, observation: Tensor) -> Tensor:
        """Return powers (F, points), not negative, of frames (F, M, N)."""
        return nn.functional.softplus(self.layers(image(covariance(observation))).float())


def covariance(observation: Tensor) -> Tensor:
    """Return the sample covariance (F, N, N) of frames (F, M, N), row n and column l the mean of y_n y_l^*.

    source: paper 000, eq. (8)
    """
    return observation.mT @ observation.conj() / observation.shape[-2]


def image(matrix: Tensor) -> Tensor:
    """Return a complex matrix (F, rows, columns) as two channels, (F, 2, rows, columns)."""
    return torch.stack([matrix.real, matrix.imag], 1)


def lower_factor(raw: Tensor, size: int) -> Tensor:
    """Return complex lower triangular matrices with a positive diagonal, of size^2 real numbers each.

    raw: (..., K^2): K of the diagonal, through softplus; real, then imaginary parts below it, by rows
    returns (..., K, K) complex
    """
    below = torch.tril_indices(size, size, -1, device=raw.device)
    count = below.shape[1]
    factor = torch.zeros(*raw.shape[:-1], size, size, dtype=_complex(raw.dtype), device=raw.device)
    diagonal = nn.functional.softplus(raw[..., :size]) + _LEAST_SPREAD
    factor[..., below[0], below[1]] = torch.complex(raw[..., size : size + count], raw[..., size + count :])
    return factor + torch.diag_embed(diagonal).to(factor.dtype)


def reparameterise(mean: Tensor, factor: Tensor, noise: Tensor) -> Tensor:
    """Return a draw of CN(mean, factor factor^H), through which derivatives pass.

    mean: (..., K) complex    factor: (..., K, K) complex    noise: (..., K) complex, of CN(0, I)
    source: paper 000, eq. (12), with a complex factor and eps ~ CN(0, I)
    """
    return mean + (factor @ noise[..., None])[..., 0]


def recover(gain: Tensor) -> tuple[Tensor, Tensor]:
    """Return path gain and path angle [rad] of complex gains.

    source: paper 000, eq. (13), with atan2
    """
    return gain.abs(), gain.angle()


def label_grid(sector: tuple[float, float], step: float) -> Tensor:
    """Return the angles that pseudo-labels can take, (points,) float64 [rad]: the sector in steps, both ends in.

    source: paper 000, eq. (9)
    """
    low, high = sector
    refuse(("labels.step", step, "more than 0, at most the sector [rad]", 0 < step <= high - low))
    return torch.linspace(low, high, round((high - low) / step) + 1, dtype=torch.float64)


def label_spectrum(observation: Tensor, grid: Tensor, spacing: float = 0.5, average: Average = "power") -> Tensor:
    """Return the power that a line of antennas sees from every direction of a grid, (F, points).

    In double precision, as the grid: in steps of 0.01 degrees neighbours on a peak differ by less than single has.

    observation: (F, M, N)    grid: (points,) float64 [rad]
    source: paper 000, eq. (10), squared
    """
    if average == "coherent":
        observation = observation.mean(-2, keepdim=True)
    seen = covariance(observation)
    antennas = seen.shape[-1]
    # a^H R a is a Fourier sum over the diagonals of R: 2 N numbers a frame meet the grid instead of N^2.
    lags = torch.stack([seen.diagonal(lag, -2, -1).sum(-1) for lag in range(antennas)], -1)
    lags = torch.cat([lags[..., :1].real, 2 * lags[..., 1:].real, -2 * lags[..., 1:].imag], -1)
    phase = 2 * math.pi * spacing * torch.sin(grid)[:, None] * torch.arange(antennas, device=grid.device)
    waves = torch.cat([torch.cos(phase), torch.sin(phase)[:, 1:]], -1)
    return lags.to(waves.dtype) @ waves.T


def largest_maxima(spectrum: Tensor, count: int, pick: Pick = "maxima") -> Tensor:
    """Return where a spectrum has its largest local maxima, (F, count) int64; ends of the grid can be maxima.

    Where there are fewer, the largest of the other values follow.

    spectrum: (F, points)
    source: paper 000, eq. (11), of local maxima
    """
    if pick == "largest":
        return spectrum.topk(count, -1).indices
    rising = torch.diff(spectrum, dim=-1) > 0
    edge = torch.ones_like(rising[:, :1])
    peak = torch.cat([edge, rising], -1) & ~torch.cat([rising, ~edge], -1)
    below = spectrum.amax(-1, keepdim=True) - spectrum.amin(-1, keepdim=True) + 1
    return torch.where(peak, spectrum, spectrum - below).topk(count, -1).indices


def pseudo_labels(
    observation: Tensor,
    users: int,
    grid: Tensor,
    spacing: float = 0.5,
    *,
    average: Average = "power",
    pick: Pick = "maxima",
) -> Tensor:
    """Return pseudo-labels of the angles, ascending, (F, users) [rad].

    observation: (F, M, N)    grid: (points,) [rad], as `label_grid` returns it
    source: paper 000, eqs. (9)-(11)
    """
    parts = observation.split(max(1, _CHUNK // len(grid)))
    places = [largest_maxima(label_spectrum(part, grid, spacing, average), users, pick) for part in parts]
    return grid[torch.cat(places)].sort(-1).values.to(observation.real.dtype)


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype == torch.float64 else torch.complex64
