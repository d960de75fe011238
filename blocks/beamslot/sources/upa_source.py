"""A simulated uniform planar array: one LOS and some discrete NLOS paths per user, plane waves, noise per antenna."""

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamslot.dsp.channel import PathChannel, noise_variance
from beamslot.frame import Geometry, StreamInfo
from beamslot.ports import FIELD_AXES, TRUTH
from beamslot.runtime import Block, Live, Out
from beamslot.sources.front_end import describe_front_end, observe


class UpaSource(Block):
    """Stream what the antennas of a UPA see of the paper's channel, slot by slot, and the truth beside it.

    SNR is ||h||^2 / (N_r sigma^2), per antenna, unless `snr_reference` says otherwise; ||h||^2 = N_r in every slot.
    """

    field = Out(FIELD_AXES, np.complex64, unit="sqrt(W)")
    truth = Out(TRUTH)

    n_y: int = Field(64, ge=1, description="antenna columns (1 makes a vertical line array)")
    n_z: int = Field(72, ge=1, description="antenna rows (1 makes a horizontal line array)")
    users: int = Field(1, ge=1, description="users with orthogonal pilots")
    paths: int = Live(10, ge=1, description="paths of a user, the LOS included")
    snr_db: float = Live(5.0, description="signal-to-noise ratio", json_schema_extra={"unit": "dB"})
    snr_reference: Literal["antenna", "chain"] = Field(
        "antenna", description="SNR per antenna, or per RF chain as eq. (1) literally reads (10 log10 M less noise)"
    )
    antennas_per_chain: int = Field(12, ge=1, description="M of the combiner, used where snr_reference is chain")
    redraw: int = Field(1, ge=0, description="slots per independent channel draw, 0 for one draw for ever")
    drift: float = Live(0.0, ge=0, description="rms change of u and v per slot within a draw")
    phase: Literal["fresh", "fixed"] = Field("fresh", description="phases of the paths: fresh in every slot, or fixed")
    phase_noise: float = Live(0.0, ge=0, description="rms phase common to all paths", json_schema_extra={"unit": "rad"})
    k_factor_db: float = Live(9.0, description="mean Rician K-factor", json_schema_extra={"unit": "dB"})
    k_factor_std_db: float = Field(3.5, ge=0, description="its deviation over draws", json_schema_extra={"unit": "dB"})
    shadowing_db: float = Field(3.0, ge=0, description="spread of the NLOS powers", json_schema_extra={"unit": "dB"})
    azimuth: float = Field(
        math.pi / 3, ge=0, le=math.pi / 2, description="half width of the sector", json_schema_extra={"unit": "rad"}
    )
    interval: tuple[float, float] = Field((-0.5, 0.0), description="interval of v = sin(elevation)")
    carrier: float = Field(28e9, gt=0, description="carrier frequency", json_schema_extra={"unit": "Hz"})

    def start(self) -> dict[str, StreamInfo]:
        """Prepare the channel."""
        shared = ("users", "paths", "k_factor_db", "k_factor_std_db", "azimuth", "interval", "shadowing_db")
        moving = ("drift", "phase", "phase_noise", "redraw")
        self._geometry = Geometry(self.n_y, self.n_z)
        self._channel = PathChannel(
            geometry=self._geometry, **{name: getattr(self, name) for name in (*shared, *moving)}
        )
        channel, rng = self._channel, self.rng
        self._draw = lru_cache(maxsize=4)(lambda number: channel.draw(rng(2 * number)))  # slots share draws
        return describe_front_end(
            self._geometry,
            users=self.users,
            paths=self.paths,
            slot_period=self.run.slot_period,
            carrier=self.carrier,
        )

    def process(self, slots: range) -> dict[str, Any]:
        """Make some slots."""
        paths = self._channel.evolve(slots, self.rng, self._draw)
        noise_var = noise_variance(self.snr_db, self.antennas_per_chain if self.snr_reference == "chain" else None)
        return observe(paths, slots, self._geometry, noise_var, lambda slot: self.rng(slot, 1))
