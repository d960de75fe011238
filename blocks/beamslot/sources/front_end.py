"""What the simulated front ends share: paths to antenna field and truth, slot by slot."""

from collections.abc import Callable
from typing import Any

import numpy as np

from beamslot.dsp.channel import Paths, add_noise
from beamslot.dsp.geometry import render
from beamslot.frame import Geometry, StreamInfo
from beamslot.ports import TRUTH


def observe(
    paths: Paths, slots: range, geometry: Geometry, noise_var: float, rng: Callable[[int], np.random.Generator]
) -> dict[str, Any]:
    """Return what the antennas see, and the truth beside it, by port.

    paths: of these slots    noise_var: per antenna and complex entry [W]
    rng: the noise generator of a slot, so that bursts and single slots give the same
    """
    channel = paths.field
    if channel is None:
        channel = render(paths.gain, paths.u, paths.v, geometry, paths.mask)
    noisy = [add_noise(h, noise_var, rng(slot)) for h, slot in zip(channel, slots, strict=True)]
    field = np.stack(noisy) if len(noisy) > 1 else noisy[0][None]
    truth = {
        "channel": channel,
        "gain": paths.gain,
        "u": paths.u,
        "v": paths.v,
        "mask": paths.mask,
        "antenna_noise_var": np.full(paths.gain.shape[:2], noise_var, np.float32),
        "draw": paths.draw,
    }
    return {"field": field, "truth": truth}


def describe_front_end(
    geometry: Geometry, *, users: int, paths: int, slot_period: float, carrier: float
) -> dict[str, StreamInfo]:
    """Return the descriptions of the ports `field` and `truth`."""
    axes = {"user": users, "y": geometry.n_y, "z": geometry.n_z, "path": paths}
    info = StreamInfo(TRUTH, axes, slot_period, carrier, geometry)
    return {"field": info, "truth": info}
