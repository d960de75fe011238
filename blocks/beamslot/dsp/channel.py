"""The clustered plane-wave channel of the paper, slot by slot, as a closed form of the slot index.

| symbol | name | meaning |
|---|---|---|
| K | k_factor_db | power of the LOS path over that of all NLOS paths together |
| alpha_k | gain | complex gain of path k; |alpha_k| is fixed within a draw but for the common normalisation |
| u, v | u, v | direction coordinates of a path, v = sin(elevation) |
| sigma^2 | noise_var | noise variance per antenna and complex entry |

Normalisation: in every slot and for every user the gains are scaled so that ||h||^2 = N_r, hence
SNR = ||h||^2 / (N_r sigma^2) = 1 / sigma^2 per antenna.

source: paper 004, eq. (3) and its simulation setting (1 LOS and 9 NLOS paths). Decision: the print names only a
generator, so K-factor, powers and angles are chosen here
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.geometry import render
from beamslot.errors import BadParam
from beamslot.frame import Geometry

KeyedGenerator = Callable[[int], np.random.Generator]


@dataclass(frozen=True)
class Paths:
    """The paths of consecutive slots.

    gain: (slot, user, path) complex64 [sqrt(W)], the LOS path first    u, v: (slot, user, path) float32
    mask: (slot, user, path) bool, which paths exist
    draw: (slot,) int64, the channel draw of each slot; slots of one draw are not independent
    field: (slot, user, y, z) complex64 [sqrt(W)], what the paths make at the antennas; None: not rendered
    """

    gain: NDArray[np.complex64]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    mask: NDArray[np.bool_]
    draw: NDArray[np.int64]
    field: NDArray[np.complex64] | None = None


@dataclass(frozen=True)
class Draw:
    """What one channel draw fixes, each (..., user, path) float64.

    amplitude: |alpha_k| before the normalisation, sum of squares 1    phase: [rad] of the fixed-phase option
    u, v: where the paths are at the first slot of the draw    rate_u, rate_v: their change per slot
    limit: |u| stays within it
    """

    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    rate_u: NDArray[np.float64]
    rate_v: NDArray[np.float64]
    limit: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PathChannel:
    """One LOS path and paths - 1 discrete NLOS paths per user, with ||h||^2 = N_r in every slot.

    geometry: the array    users: number of independent channels    paths: LOS and NLOS together
    k_factor_db, k_factor_std_db: mean and standard deviation of the normal K-factor [dB]
    azimuth: paths arrive uniformly within +-azimuth [rad]    interval: (v_min, v_max), v uniform in it
    shadowing_db: log-normal spread on top of the exponentially distributed NLOS powers [dB]
    drift: rms over paths of the change of u and of v per slot; each path moves at a constant rate and turns at its
        limits, which keeps v uniform in the interval and |u| <= sin(azimuth) cos(elevation at the draw)
    phase: "fresh" draws an independent uniform phase per path and slot, "fixed" one per draw
    phase_noise: rms of a phase common to all paths of a user, independent from slot to slot [rad]
    redraw: slots per channel draw, 0 for one draw for ever
    source: paper 004, eq. (3)
    raises BadParam for a value that it cannot have
    """

    geometry: Geometry = field(default_factory=lambda: Geometry(64, 72))
    users: int = 1
    paths: int = 10
    k_factor_db: float = 9.0
    k_factor_std_db: float = 3.5
    azimuth: float = np.pi / 3
    interval: tuple[float, float] = (-0.5, 0.0)
    shadowing_db: float = 3.0
    drift: float = 0.0
    phase: Literal["fresh", "fixed"] = "fresh"
    phase_noise: float = 0.0
    redraw: int = 0

    def __post_init__(self) -> None:
        low, high = self.interval
        problems = [
            f"channel.{name} is {getattr(self, name)!r}, wanted {wanted}"
            for name, wanted, ok in (
                ("users", "at least 1", self.users >= 1),
                ("paths", "at least 1", self.paths >= 1),
                ("azimuth", "0 .. pi/2 rad", 0 <= self.azimuth <= np.pi / 2),
                ("interval", "-1 <= v_min <= v_max <= 1", -1 <= low <= high <= 1),
                ("drift", "at least 0", self.drift >= 0),
                ("redraw", "at least 0 slots", self.redraw >= 0),
            )
            if not ok
        ]
        if problems:
            raise BadParam(*problems)

    def draw(self, rng: np.random.Generator) -> Draw:
        """Return one independent draw.

        rng: consumed in a fixed order
        returns the draw, arrays (user, path)
        """
        shape = (self.users, self.paths)
        amplitude = self._amplitudes(rng)
        v = rng.uniform(*self.interval, shape)
        limit = np.sin(self.azimuth) * np.sqrt(1 - v**2)
        u = np.sin(rng.uniform(-self.azimuth, self.azimuth, shape)) * np.sqrt(1 - v**2)
        phase = rng.uniform(0, 2 * np.pi, shape)
        rate_u, rate_v = self.drift * rng.standard_normal((2, *shape))
        return Draw(amplitude, phase, u, v, rate_u, rate_v, limit)

    def _amplitudes(self, rng: np.random.Generator) -> NDArray[np.float64]:
        k_factor = 10 ** (rng.normal(self.k_factor_db, self.k_factor_std_db, (self.users, 1)) / 10)
        shape = (self.users, self.paths - 1)
        power = rng.standard_exponential(shape) * 10 ** (rng.normal(0, self.shadowing_db, shape) / 10)
        power /= power.sum(-1, keepdims=True)
        power = np.concatenate([k_factor, power], -1)
        return np.sqrt(power / power.sum(-1, keepdims=True))

    def evolve(
        self, slots: Sequence[int], generator: KeyedGenerator, draw: Callable[[int], Draw] | None = None
    ) -> Paths:
        """Return the paths of any slots, each the same whether asked for alone, in a burst or out of order.

        slots: slot indices, a range as a rule
        generator: returns an independent generator for a key (a counter-keyed Philox); draw d is made from key 2 d,
            slot s from key 2 s + 1
        draw: returns draw d, for a caller that keeps draws; None makes them anew
        returns the paths
        """
        index = np.asarray(slots, np.int64)
        number, age = np.divmod(index, self.redraw) if self.redraw else (np.zeros_like(index), index)
        which, where = np.unique(number, return_inverse=True)
        made = draw or (lambda d: self.draw(generator(2 * d)))
        drawn = _stack([made(int(d)) for d in which], where, (self.users, self.paths))
        steps = age[:, None, None].astype(np.float64)
        u = _bounce(drawn.u + drawn.rate_u * steps, -drawn.limit, drawn.limit).astype(np.float32)
        v = _bounce(drawn.v + drawn.rate_v * steps, *self.interval).astype(np.float32)
        phase = self._phases(drawn.phase, [generator(2 * int(s) + 1) for s in index] if self._is_random() else [])
        gain = (drawn.amplitude * np.exp(1j * phase)).astype(np.complex64)
        field = render(gain, u, v, self.geometry)
        factor = np.sqrt(np.float32(self.geometry.antennas)) / np.linalg.norm(field, axis=(-2, -1))
        gain, field = gain * factor[..., None], field * factor[..., None, None]
        return Paths(gain, u, v, np.ones(gain.shape, np.bool_), number, field)

    def _is_random(self) -> bool:
        return self.phase == "fresh" or self.phase_noise > 0

    def _phases(self, phase: NDArray[np.float64], rngs: list[np.random.Generator]) -> NDArray[np.float64]:
        if self.phase == "fresh":
            fresh = np.array([rng.random((self.users, self.paths)) for rng in rngs])
            phase = 2 * np.pi * fresh.reshape(phase.shape)
        if self.phase_noise > 0:
            common = np.array([rng.standard_normal((self.users, 1)) for rng in rngs])
            phase = phase + self.phase_noise * common.reshape(*phase.shape[:-1], 1)
        return phase


def _stack(draws: list[Draw], where: NDArray[np.intp], shape: tuple[int, int]) -> Draw:
    if len(where) == 1:
        (only,) = draws
        return Draw(*(getattr(only, name)[None] for name in Draw.__dataclass_fields__))
    parts = ([getattr(draw, name) for draw in draws] for name in Draw.__dataclass_fields__)
    return Draw(*(np.array(part).reshape(-1, *shape)[where] for part in parts))


def _bounce(
    position: NDArray[np.float64], low: NDArray[np.float64] | float, high: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Fold the line onto [low, high] like a ball between two walls."""
    period = 2 * np.asarray(high - low, np.float64)
    turns = np.divide(position - low, period, out=np.zeros_like(position), where=period > 0)
    return low + period * np.abs(turns - np.round(turns))


def noise_variance(snr_db: float, antennas_per_chain: int | None = None) -> float:
    """Return the noise variance per antenna for a mean channel power of one per antenna.

    snr_db: signal-to-noise ratio [dB]
    antennas_per_chain: None refers the SNR to an antenna, sigma^2 = 10^(-SNR/10), so sigma_w^2 = M sigma^2 after the
        sum over M antennas; M refers it to a chain as eq. (1) literally reads, sigma_w^2 = 10^(-SNR/10), which lowers
        sigma^2 by that M (10.8 dB for M = 12)
    returns sigma^2 [W] per complex entry
    source: paper 004, eq. (1)
    """
    return 10 ** (-snr_db / 10) / (antennas_per_chain or 1)


def add_noise(field: NDArray[Any], noise_var: ArrayLike, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Return field + w with w circular complex Gaussian.

    field: (..., y, z) complex [sqrt(W)]
    noise_var: () or (...), variance per complex entry [W]
    returns (..., y, z) complex64 [sqrt(W)]
    """
    noise = rng.standard_normal((*field.shape[:-1], 2 * field.shape[-1]), np.float32).view(np.complex64)
    scale = np.sqrt(np.asarray(noise_var, np.float64) / 2).astype(np.float32)
    noise *= scale[..., None, None]
    noise += field
    return noise
