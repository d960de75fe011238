"""What an estimator is put before: users in front of a line of antennas, the same frames for whoever is compared.

Frames are drawn in chunks, and a chunk is keyed by its number: its angles, white gains and white noise are the same
whatever the method, the SNR, the correlation or the spacing. So all comparisons are paired.

source: paper 000, section V. Decisions, which the paper leaves open: mu = 0, E |h_k|^2 = 1, SNR per antenna and user,
angles uniform, 1.5 beams apart
"""

import math
from dataclasses import dataclass

import numpy as np

from beamslot.dsp.doa_metrics import HALF_BEAM
from beamslot.dsp.ula import Frames, UlaScene

CHUNK = 50
"""Frames that are drawn, computed and kept together."""

SECTOR = (-60.0, 60.0)
"""A sector of 120 degrees around broadside [deg]."""

CIRCLE = (-180.0, 180.0)
"""All around: a line cannot tell theta from 180 - theta [deg]."""


@dataclass(frozen=True)
class Scene:
    """One setting; sector_deg: where users are [deg]."""

    snr_db: float = 10.0
    correlation: float = 0.0
    spacing: float = 0.5
    sector_deg: tuple[float, float] = SECTOR
    antennas: int = 32
    users: int = 3
    snapshots: int = 40
    seed: int = 2025

    @property
    def separation(self) -> float:
        """Least distance of two users in sin(theta): 1.5 beams of 2 / N, `ula.S0` of 32 antennas."""
        return 3 / self.antennas

    @property
    def half_beam(self) -> float:
        """Off by more than this is an outlier [rad]: `doa_metrics.HALF_BEAM` of 32 antennas."""
        return HALF_BEAM * 32 / self.antennas

    def made(self) -> UlaScene:
        """Return the scene of `beamslot.dsp.ula`."""
        return UlaScene(
            antennas=self.antennas,
            users=self.users,
            snapshots=self.snapshots,
            spacing=self.spacing,
            separation=self.separation,
            sector=(math.radians(self.sector_deg[0]), math.radians(self.sector_deg[1])),
            correlation=self.correlation,
        )


def observe(scene: Scene, start: int, stop: int) -> Frames:
    """Return frames start .. stop - 1, all of one chunk."""
    rng = np.random.Generator(np.random.Philox(key=np.array([scene.seed, start // CHUNK], np.uint64)))
    drawn = scene.made().frames(rng, CHUNK, scene.snr_db)
    own = slice(start % CHUNK, start % CHUNK + stop - start)
    return drawn._replace(
        observation=drawn.observation[own],
        gain=drawn.gain[own],
        theta=drawn.theta[own],
        mean=drawn.mean[own],
        noise_var=drawn.noise_var[own],
    )
