"""A simulated uniform planar array on 3GPP TR 38.901 channels: rays from Sionna, the array from our steering sum."""

import math
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamslot.dsp.channel import Paths, noise_variance
from beamslot.dsp.rays import UmiRays
from beamslot.frame import Geometry, StreamInfo
from beamslot.ports import FIELD_AXES, TRUTH
from beamslot.runtime import Block, Live, Out
from beamslot.sources.front_end import describe_front_end, observe


class UmiSource(Block):
    """Stream what the antennas of a UPA see of users dropped in a 3GPP street canyon, slot by slot, and the truth.

    SNR is the mean of ||h||^2 / (N_r sigma^2) per antenna: the rays' powers sum to 1, so ||h||^2 fades around N_r.
    Needs the extra `umi`.
    """

    field = Out(FIELD_AXES, np.complex64, unit="sqrt(W)")
    truth = Out(TRUTH)

    n_y: int = Field(64, ge=1, description="antenna columns")
    n_z: int = Field(72, ge=1, description="antenna rows")
    users: int = Field(1, ge=1, description="users with orthogonal pilots")
    scenario: Literal["umi", "uma"] = Field("umi", description="urban micro or urban macro cell")
    los: Literal["los", "nlos", "mixed"] = Field("mixed", description="LOS state; mixed: as the scenario's probability")
    snr_db: float = Live(5.0, description="mean signal-to-noise ratio", json_schema_extra={"unit": "dB"})
    redraw: int = Field(1, ge=1, description="slots per independent drop of the users")
    distance: tuple[float, float] = Field(
        (50.0, 150.0), description="nearest and farthest user on the ground", json_schema_extra={"unit": "m"}
    )
    sector: float = Field(
        2 * math.pi / 3, gt=0, description="full width of the sector in azimuth", json_schema_extra={"unit": "rad"}
    )
    downtilt: float = Field(0.0, description="downtilt of the panel", json_schema_extra={"unit": "rad"})
    carrier: float = Field(28e9, gt=0, description="carrier frequency", json_schema_extra={"unit": "Hz"})

    def start(self) -> dict[str, StreamInfo]:
        """Load Sionna and make the first drops, so that no slot waits for it."""
        names = ("users", "scenario", "los", "distance", "sector", "downtilt", "carrier")
        self._geometry = Geometry(self.n_y, self.n_z)
        self._rays = UmiRays(
            geometry=self._geometry, seed=self.run.seed, **{name: getattr(self, name) for name in names}
        )
        self._rays.rays(range(1))
        return describe_front_end(
            self._geometry,
            users=self.users,
            paths=self._rays.paths,
            slot_period=self.run.slot_period,
            carrier=self.carrier,
        )

    def process(self, slots: range) -> dict[str, Any]:
        """Make some slots: the drop's rays with fresh phases."""
        draw = np.array([slot // self.redraw for slot in slots], np.int64)
        rays = self._rays.rays(draw.tolist())
        phase = np.stack([self.rng(slot).random(rays.gain.shape[1:], np.float32) for slot in slots])
        gain = rays.gain * np.exp(2j * np.pi * phase).astype(np.complex64)
        paths = Paths(gain, rays.u, rays.v, rays.mask, draw)
        return observe(paths, slots, self._geometry, noise_variance(self.snr_db), lambda slot: self.rng(slot, 1))
