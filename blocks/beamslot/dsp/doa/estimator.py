"""Channels of frames of snapshots: angles by one of the methods, steps through the decoder, gains by least squares.

| symbol | name | meaning |
|---|---|---|
| Y | field | (M, user, N, 1) what the antennas of a uniform line saw in the snapshots of a frame |
| K | users | directions of a frame, on the axis path of an estimate |

source: paper 000, eqs. (1), (2); the modules of the methods
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import default_subarray
from beamslot.dsp.doa.esprit import esprit
from beamslot.dsp.doa.kr_music import kr_music
from beamslot.dsp.doa.maximum_likelihood import alternating_projection, refine
from beamslot.dsp.doa.mode import mode
from beamslot.dsp.doa.music import music
from beamslot.dsp.doa.order import count_users
from beamslot.dsp.doa.peaks import pseudo_labels
from beamslot.dsp.doa.root_music import root_music
from beamslot.dsp.estimate import Estimate, blank, refuse
from beamslot.dsp.geometry import render
from beamslot.dsp.ula import Real
from beamslot.errors import ShapeError
from beamslot.frame import Geometry

Method = Literal[
    "music", "root_music", "kr_music", "esprit", "fbss_root_music", "fbss_esprit", "mode", "ap_ml", "peaks"
]
"""How the angles are found; those of `fbss_` see coherent users, as do `mode` and `ap_ml`."""

METHODS: tuple[Method, ...] = get_args(Method)

SETTLED = 0.02
"""Angles have settled when the last step moved none further [cells]."""


def angles(
    observation: NDArray[Any],
    users: int,
    spacing: float = 0.5,
    *,
    method: Method = "fbss_root_music",
    subarray: int | None = None,
) -> Real:
    """Return the angles by one of the methods, as its module has it by default; `mode` starts from `fbss_esprit`.

    observation: (F, M, N)    users: K    subarray: L of the methods `fbss_`; None for three quarters of the antennas
    returns (F, K) ascending [rad]
    raises BadParam where so many users cannot be found
    """
    length = subarray or default_subarray(observation.shape[-1])
    table: dict[Method, Callable[[], Real]] = {
        "music": lambda: music(observation, users, spacing),
        "root_music": lambda: root_music(observation, users, spacing),
        "kr_music": lambda: kr_music(observation, users, spacing),
        "esprit": lambda: esprit(observation, users, spacing),
        "fbss_root_music": lambda: root_music(observation, users, spacing, subarray=length),
        "fbss_esprit": lambda: esprit(observation, users, spacing, subarray=length),
        "mode": lambda: mode(
            observation, users, spacing, rounds=1, start=esprit(observation, users, spacing, subarray=length)
        ),
        "ap_ml": lambda: alternating_projection(observation, users, spacing),
        "peaks": lambda: pseudo_labels(observation, users, spacing),
    }
    return table[method]()


class Doa:
    """Estimates of frames of snapshots in front of a uniform line; the noise variance is learned.

    geometry: the array, n_z = 1    method: see `angles`
    users: K; 0 to count them by MDL, frame by frame    max_users: then at most so many
    steps: Gauss-Newton steps through the decoder after the method    subarray: L; 0 for three quarters of the antennas
    raises ShapeError for an array that is no line along y, BadParam
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        method: Method = "fbss_root_music",
        users: int = 0,
        max_users: int = 8,
        steps: int = 0,
        subarray: int = 0,
    ) -> None:
        if geometry.n_z != 1:
            raise ShapeError(f"doa: the array is {geometry.n_y} x {geometry.n_z}; wanted a line along y, n_z = 1")
        length, least = subarray or default_subarray(geometry.n_y), 2
        most = length - 1
        refuse(
            ("doa.method", method, f"one of {', '.join(METHODS)}", method in METHODS),
            ("doa.subarray", subarray, f"{least} .. {geometry.n_y}, or 0", least <= length <= geometry.n_y),
            ("doa.users", users, f"0 .. {most}, fewer than the antennas of a subarray", 0 <= users <= most),
            ("doa.max_users", max_users, "at least 1", max_users >= 1),
            ("doa.steps", steps, "at least 0", steps >= 0),
        )
        self.geometry, self.steps, self.subarray = geometry, steps, length
        self.method: Method = method
        self.users, self.paths = users, users or min(max_users, most)

    def estimate(self, field: NDArray[Any]) -> Estimate:
        """Return the estimate of every slot of a frame; its slots share angles, noise_var, and what they converged to.

        field: (M, user, N, 1) complex [sqrt(W)], a frame for every user of the stream
        returns an Estimate (M, user, ...), paths by ascending angle. error_var is that of gains and angles at the
            bound; a frame that is not finite has no paths, and variances that are NaN; one of zeros has none of both
        raises ShapeError for another array
        """
        if field.ndim != 4 or field.shape[2:] != (self.geometry.n_y, 1):
            wanted = f"(slot, user, y, z) with y, z = {self.geometry.n_y}, 1"
            raise ShapeError(f"doa: field is {field.shape}, wanted {wanted}")
        observation = np.moveaxis(field[..., 0], 1, 0)
        snapshots, frames = field.shape[:2]
        made = blank(snapshots * frames, self.paths, self.geometry)
        made = Estimate(*(array.reshape(snapshots, frames, *array.shape[1:]) for array in vars(made).values()))
        power = np.mean(np.abs(observation.astype(np.complex128)) ** 2, axis=(1, 2))
        finite = np.isfinite(power)
        for variance in (made.noise_var, made.error_var):
            variance[:] = np.where(finite, power, np.nan)
        made.converged[:] = finite
        alive = np.flatnonzero(finite & (power > 0))
        counts = self._counts(observation[alive])
        for users in np.unique(counts[counts > 0]):
            which = alive[counts == users]
            self._fill(made, which, observation[which], int(users))
        made.channel[:] = render(made.gain, made.u, made.v, self.geometry, made.mask)
        return made

    def _counts(self, observation: NDArray[Any]) -> NDArray[np.int64]:
        if self.users or not len(observation):
            return np.full(len(observation), self.users, np.int64)
        return np.minimum(count_users(observation, subarray=self.subarray), self.paths)

    def _fill(self, made: Estimate, which: NDArray[np.int64], observation: NDArray[Any], users: int) -> None:
        spacing, (snapshots, antennas) = self.geometry.spacing_y, observation.shape[1:]
        start = angles(observation, users, spacing, method=self.method, subarray=self.subarray)
        found = refine(start, observation, spacing, self.steps)
        made.gain[:, which, :users] = np.swapaxes(found.gain, 0, 1)
        made.u[:, which, :users] = np.sin(found.theta)
        made.mask[:, which, :users] = True
        made.noise_var[:, which] = found.noise_var
        made.error_var[:, which] = found.noise_var * users * (1 + 0.5 / snapshots) / antennas
        made.iterations[:, which] = self.steps
        made.converged[:, which] = found.step <= SETTLED
