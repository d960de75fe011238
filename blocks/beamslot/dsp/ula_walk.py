"""Users that walk in front of a uniform linear array: smooth, within the sector, never closer than they may be.

| symbol | name | meaning |
|---|---|---|
| u_k | u | sin(theta_k), ascending |
| j | number | independent draws of the u, between which the users walk |
| T | frames | frames from draw to draw |

u(f) = (1 - s) u_j + s u_{j+1} at frame f = (j + t) T, 0 <= t < 1, s = (1 - cos(pi t)) / 2. Ascending u that keep a
distance keep it in all their weighted means, and stay in the sector.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.estimate import refuse
from beamslot.dsp.ula import UlaScene

Positions = Callable[[int], NDArray[np.float64]]

_LEGS, _STEPS = 256, 32
"""Ways from draw to draw, and steps of each, from which the pace is taken."""


def walk(draw: Positions, frames: float) -> Positions:
    """Return where the users are, (K,) u, as a function of the frame alone.

    draw: u of draw j, (K,) ascending    frames: T
    """

    def at(frame: int) -> NDArray[np.float64]:
        number = math.floor(frame / frames)
        share = _ease(frame / frames - number)
        return (1 - share) * draw(number) + share * draw(number + 1)

    return at


def leg(scene: UlaScene, drift: float) -> float:
    """Return the T with which theta changes by so much from frame to frame, rms over users and time.

    drift: rms change of theta a frame, in front of the array [rad]
    raises BadParam where T would be less than 1, so that nothing were smooth
    """
    ends = np.sort(np.sin(scene.angles(np.random.default_rng(0), 2 * _LEGS)), axis=1)
    first, last = ends.reshape(2, _LEGS, 1, scene.users)
    theta = np.arcsin(first + _ease(np.linspace(0, 1, _STEPS + 1))[:, None] * (last - first))
    rate = float(np.sqrt(np.mean(np.diff(theta, axis=1) ** 2))) * _STEPS
    refuse(("ula.drift", drift, f"more than 0, at most {rate:.3g} rad a frame", 0 < drift <= rate))
    return rate / drift


def _ease(time: Any) -> Any:
    return (1 - np.cos(np.pi * time)) / 2
