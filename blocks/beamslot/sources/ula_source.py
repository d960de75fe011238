"""A simulated uniform linear array in front of several users: frames of snapshots that share the angles."""

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamslot.dsp.channel import Paths, noise_variance
from beamslot.dsp.geometry import render
from beamslot.dsp.ula import S0, UlaScene
from beamslot.dsp.ula_walk import leg, walk
from beamslot.frame import Geometry, StreamInfo
from beamslot.ports import FIELD_AXES, TRUTH
from beamslot.runtime import Block, Live, Out
from beamslot.sources.front_end import describe_front_end, observe

ANGLES, MEANS, GAINS, NOISE, ARRAY = range(5)
"""What the block's generators are for."""


class UlaSource(Block):
    """Stream what a ULA sees of its users, a snapshot a slot, and the truth beside it, a user a path.

    Users come in the order of u = sin(theta), v = 0. SNR is E|h_k|^2 / sigma^2, per antenna and user. A frame of
    `snapshots` slots shares the angles, and is one draw. Frames are independent, unless there is a drift: then users
    walk smoothly from one independent draw of their angles to the next and keep their separation on the way. Phase
    errors are part of the channel, and stand in the notes of the description.
    """

    field = Out(FIELD_AXES, np.complex64, unit="sqrt(W)")
    truth = Out(TRUTH)

    antennas: int = Field(32, ge=2, description="antennas")
    users: int = Field(3, ge=1, description="users that send at the same time, without pilots")
    snr_db: float = Live(10.0, description="signal-to-noise ratio", json_schema_extra={"unit": "dB"})
    snapshots: int = Field(40, ge=1, description="slots of a frame, which share the angles")
    separation: float = Live(S0, ge=0, description="least distance of two users in sin(theta)")
    correlation: float = Live(0.0, ge=0, le=1, description="of the gains of any two users (1: coherent)")
    k_factor_db: float | None = Live(
        None, description="power of the gains' mean over the rest; none for Rayleigh", json_schema_extra={"unit": "dB"}
    )
    mean_phase: Literal["known", "random"] = Field(
        "known", description="phase of the gains' mean: 0 in every frame, or drawn for each frame and user"
    )
    spacing: float = Field(0.5, gt=0, description="distance of antennas in wavelengths")
    sector: tuple[float, float] = Field(
        (-math.pi / 3, math.pi / 3),
        description="interval of theta; beyond +-pi/2 users are behind the array",
        json_schema_extra={"unit": "rad"},
    )
    drift: float = Field(
        0.0,
        ge=0,
        description="rms change of theta from frame to frame, 0 for independent frames",
        json_schema_extra={"unit": "rad"},
    )
    phase_errors: float = Field(
        0.0, ge=0, description="rms of the fixed phase errors of the antennas", json_schema_extra={"unit": "rad"}
    )
    carrier: float = Field(28e9, gt=0, description="carrier frequency", json_schema_extra={"unit": "Hz"})

    def start(self) -> dict[str, StreamInfo]:
        """Prepare the scene."""
        shared = ("antennas", "users", "snapshots", "spacing", "sector", "separation", "correlation")
        fading = ("k_factor_db", "mean_phase")
        scene = self._scene = UlaScene(**{name: getattr(self, name) for name in (*shared, *fading)})
        self._geometry = Geometry(self.antennas, 1, self.spacing)
        rng = self.rng
        # slots share frames, and frames the draws that they lie between
        draw = lru_cache(maxsize=4)(lambda number: np.sort(np.sin(scene.angles(rng(number, ANGLES))[0])))
        self._u = walk(draw, leg(scene, self.drift)) if self.drift else draw
        self._mean = lru_cache(maxsize=4)(lambda frame: scene.means(rng(frame, MEANS))[0])
        errors = self.phase_errors * self.rng(0, ARRAY).standard_normal(self.antennas)
        self._turn = np.exp(1j * errors).astype(np.complex64)[:, None]
        infos = describe_front_end(
            self._geometry, users=1, paths=self.users, slot_period=self.run.slot_period, carrier=self.carrier
        )
        notes = {"phase_errors": errors.tolist()} if self.phase_errors else {}
        return {port: info.replace(notes=notes) for port, info in infos.items()}

    def process(self, slots: range) -> dict[str, Any]:
        """Make some slots."""
        frames = [slot // self.snapshots for slot in slots]
        gain = [self._mean(f) + self._scene.fading(self.rng(s, GAINS)) for f, s in zip(frames, slots, strict=True)]
        gain = np.array(gain, np.complex64)[:, None]
        u = np.array([self._u(frame) for frame in frames], np.float32)[:, None]
        v, mask = np.zeros_like(u), np.ones(u.shape, np.bool_)
        channel = render(gain, u, v, self._geometry) * self._turn
        paths = Paths(gain, u, v, mask, np.array(frames, np.int64), channel)
        return observe(paths, slots, self._geometry, noise_variance(self.snr_db), lambda slot: self.rng(slot, NOISE))
