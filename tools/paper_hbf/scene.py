"""What an estimator is put before: channels, beams and noise, the same for whoever is compared.

Every draw is keyed by its number: its channel and the noise of its antennas are the same whatever the beams, the SNR
(noise is scaled), the method, the chunk it is computed in, or the order. So all comparisons are paired.

source: paper 004, simulation setting; what it leaves open is decided in `beamslot.dsp.channel`
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams, random_beams, wide_beams
from beamslot.dsp.channel import PathChannel, Paths, add_noise, noise_variance
from beamslot.dsp.combine import combine
from beamslot.dsp.geometry import render
from beamslot.dsp.grouping import balanced_random, contiguous, interleaved
from beamslot.frame import Geometry, Operator

INTERVAL = (-0.5, 0.0)
"""v = sin(elevation) of all paths: the elevations -pi/6 .. 0 of the paper."""

CHUNK = 10
"""Draws that are computed and kept together; random beams and random groupings are drawn anew for each chunk."""

_CHANNEL, _NOISE, _BEAMS = 0, 1, 2


@dataclass(frozen=True)
class Scene:
    """One setting: the array, the beams, the channel and the noise.

    beams: random, wide, contiguous, interleaved, balanced (random groups of equal size) or eda
    pattern: group of each column, of beams "eda" only
    """

    snr_db: float = 5.0
    paths: int = 10
    beams: str = "balanced"
    groups: int = 4
    n_y: int = 64
    n_z: int = 72
    m: int = 12
    seed: int = 2025
    pattern: tuple[int, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """The array."""
        return Geometry(self.n_y, self.n_z)

    @property
    def noise_var_w(self) -> float:
        """sigma_w^2 = M 10^(-SNR/10), per complex entry of y."""
        return self.m * noise_variance(self.snr_db)


@dataclass(frozen=True)
class Observed:
    """Some draws: the true paths, the channel (draw, y, z), and what the chains saw of it (draw, y, chain)."""

    paths: Paths
    channel: NDArray[np.complex64]
    observation: NDArray[np.complex64]


def keyed(seed: int, kind: int, key: int) -> np.random.Generator:
    """Return the generator of one thing: a channel key, the noise of a draw, the beams of a chunk."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, (kind << 48) + key], np.uint64)))


@lru_cache(maxsize=64)
def operator(scene: Scene, chunk: int) -> Operator:
    """Return the front end; it depends on the chunk where beams or groups are random."""
    chains, rng = scene.n_z // scene.m, keyed(scene.seed, _BEAMS, chunk)
    if scene.beams in ("random", "wide"):
        weights = (
            random_beams(scene.n_y, chains, scene.m, rng)
            if scene.beams == "random"
            else wide_beams(scene.n_y, chains, scene.m, INTERVAL)
        )
        return Operator(weights, np.zeros(scene.n_y, np.int16), INTERVAL)
    group = grouping(scene, rng)
    return Operator(group_beams(group, INTERVAL, chains, scene.m), group, INTERVAL)


def grouping(scene: Scene, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return the group of each column."""
    if scene.beams == "eda":
        return np.array(scene.pattern, np.int16)
    if scene.beams == "balanced":
        return balanced_random(scene.n_y, scene.groups, rng)
    return {"contiguous": contiguous, "interleaved": interleaved}[scene.beams](scene.n_y, scene.groups)


def observe(scene: Scene, start: int, stop: int) -> Observed:
    """Return draws start .. stop - 1, all of one chunk."""
    geometry = scene.geometry
    channel = PathChannel(geometry=geometry, paths=scene.paths, interval=INTERVAL, redraw=1)
    paths = channel.evolve(range(start, stop), lambda key: keyed(scene.seed, _CHANNEL, key))
    field = render(paths.gain, paths.u, paths.v, geometry)[:, 0]
    sigma2 = noise_variance(scene.snr_db)
    noisy = np.stack([add_noise(h, sigma2, keyed(scene.seed, _NOISE, start + i)) for i, h in enumerate(field)])
    return Observed(_one_user(paths), field, combine(noisy, operator(scene, start // CHUNK).weights))


def _one_user(paths: Paths) -> Paths:
    parts: dict[str, Any] = {name: getattr(paths, name)[:, 0] for name in ("gain", "u", "v", "mask")}
    return Paths(**parts, draw=paths.draw)
