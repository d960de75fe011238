"""Paths tracked across slots: directions and powers persist, phases do not.

| symbol | name | meaning |
|---|---|---|
| u_k, v_k, P_k | u, v, var_u, var_v | directions of a track and their variances [cells^2], a Kalman filter each |
| q^2 | drift_u, drift_v | variance of what a direction moves in a slot [cells^2], learned over all tracks |
| p_k | power | mean of |a_k|^2, fixed over the life of a path |
| l_k | log_odds | that the path exists, what all slots so far have to say |

A slot is one search of `vp_nomp` that begins with the tracks: their predicted directions and their powers are Gaussian
priors of its Gauss-Newton steps, which makes each the update of an iterated extended Kalman filter with the phases
eliminated. Peaks of what is left are born as new tracks, at a threshold lower than that of a single slot, since
evidence adds up over slots; a track dies when its evidence is gone. The channel weighs every track by the probability
that it exists.

The drift is learned from how far the directions move beyond what was predicted: a fixed guess costs accuracy where
nothing moves and loses the paths where they move faster; a plain forgetting factor diverges.

source: Bell and Cathey, IEEE TAC 38(2), 1993 (the Gauss-Newton form of the iterated Kalman update); `vp_nomp`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp import kernel
from beamslot.dsp.estimate import Budget, Estimate, Slot, collect, refuse, slots_of, spoilt
from beamslot.dsp.geometry import render
from beamslot.dsp.sensing import Real, Sensing, joint_sensing
from beamslot.dsp.vp_nomp import Found, Prior, Settings, compiled, search
from beamslot.frame import Geometry, Operator

SURVIVAL = 0.99
"""Probability that a path is still there in the next slot."""
MOST_CERTAIN = 12.0
"""Log-odds are held within it, so that the death of a path is noticed."""
DEAD = -3.0
"""A track below these log-odds is given up."""
MEMORY = 50
"""Slots over which powers and the drift are averaged."""
ROUNDS, FIRST_ROUNDS = 1, 20
"""Searches for new paths at most in a slot, and in the first."""
HIDDEN = 0.28
"""See `Settings`: less stays hidden than in a single slot."""
LEAST_DRIFT = 1e-4
"""Of a direction in a slot, rms [cells]."""


def _empty() -> Real:
    return np.zeros(0)


@dataclass
class Tracks:
    """What is known of the paths of one user; powers are in units of the observation [W].

    drift: (2,) variance of what u and v move in a slot [cells^2]    slots: how many it has seen
    """

    u: Real = field(default_factory=_empty)
    v: Real = field(default_factory=_empty)
    var_u: Real = field(default_factory=_empty)
    var_v: Real = field(default_factory=_empty)
    power: Real = field(default_factory=_empty)
    log_odds: Real = field(default_factory=_empty)
    age: Real = field(default_factory=_empty)
    drift: Real = field(default_factory=lambda: np.array([2.5e-5, 2.5e-5]))
    slots: int = 0

    def snapshot(self) -> dict[str, Any]:
        """Return all of it as arrays, which do not change any more, and a number."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"drift": self.drift.copy()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "Tracks":
        """Return the tracks that `snapshot` gave."""
        return cls(**state)


class GwTracker:
    """Tracks of the paths of every user, slot after slot.

    geometry: the array    operator: what compressed the channel
    users: channels that are tracked side by side
    max_paths, threshold, expected_paths, guard, variant: see `vp_nomp`; the threshold is of new paths
    raises ShapeError when the operator does not fit the array, BadParam
    """

    def __init__(
        self,
        geometry: Geometry,
        operator: Operator,
        *,
        users: int = 1,
        max_paths: int = 24,
        threshold: float = 8.5,
        expected_paths: float = 10.0,
        guard: float = 0.1,
        variant: str | None = None,
    ) -> None:
        self.settings = Settings(max_paths, ROUNDS, 3, threshold, expected_paths, HIDDEN)
        self._first = self.settings._replace(max_rounds=FIRST_ROUNDS)
        refuse(
            ("gw_tracker.users", users, "at least 1", users >= 1),
            ("gw_tracker.threshold", threshold, "more than 0", threshold > 0),
        )
        self.geometry, self.operator = geometry, operator
        self.sensing = joint_sensing(geometry, operator, guard)
        self._active = operator.group >= 0
        module = kernel.load(variant)
        if module is not None:
            self._kernel = compiled(module, self.sensing, operator, self.settings)
            self._first_kernel = compiled(module, self.sensing, operator, self._first)
        self._search = self._numpy if module is None else self._compiled
        self.tracks = [Tracks() for _ in range(users)]

    def estimate(self, observation: NDArray[Any], budget: Budget | None = None) -> Estimate:
        """Return the channel of every slot and take the tracks on by these slots, in order.

        observation: (slot, user, y, chain) complex64 [sqrt(W)]
        raises ShapeError for another shape
        """
        slots = np.ascontiguousarray(slots_of("gw_tracker", observation, self.operator.weights.shape[:2]), np.complex64)
        users, batch = observation.shape[-3], observation.shape[:-2]
        channel = np.empty((len(slots), self.geometry.n_y, self.geometry.n_z), np.complex64)
        found = [self._slot(one, self.tracks[index % users], channel[index], budget) for index, one in enumerate(slots)]
        return collect(found, self.geometry, self.settings.max_paths, batch, channel)

    def skip(self, slots: int) -> None:
        """Take the tracks on by slots that nothing was seen of."""
        for tracks in self.tracks:
            tracks.var_u = tracks.var_u + slots * tracks.drift[0]
            tracks.var_v = tracks.var_v + slots * tracks.drift[1]
            exists = SURVIVAL**slots / (1 + np.exp(-tracks.log_odds))
            tracks.log_odds = np.log(exists / (1 - exists))

    def _slot(
        self, observation: NDArray[np.complex64], tracks: Tracks, channel: NDArray[np.complex64], budget: Budget | None
    ) -> Slot:
        own = observation[self._active]
        power = float(np.vdot(own, own).real) / float(self.sensing.rows[0])
        if not np.isfinite(power) or not power:
            channel[:] = 0
            return spoilt()
        prior = predict(tracks, power)
        found = self._search(observation, np.sqrt(power), prior, not tracks.slots, channel, budget)
        update(tracks, prior, found, self.sensing, power)
        gain = np.sqrt(power) * self.sensing.from_middle(found.gain * found.weight, found.u, found.v)
        order = np.argsort(-np.abs(gain), kind="stable")
        return Slot(
            gain[order],
            found.u[order],
            found.v[order],
            np.ones(len(order), np.bool_),
            power * found.noise_var,
            power * found.error_var,
            found.rounds,
            found.settled,
        )

    def _numpy(
        self,
        observation: NDArray[np.complex64],
        scale: float,
        prior: Prior,
        first: bool,
        channel: NDArray[np.complex64],
        budget: Budget | None,
    ) -> Found:
        rows = self.sensing.gather(observation)[0] / scale
        found = search(rows, self.sensing, self._first if first else self.settings, prior, budget)
        gain = scale * self.sensing.from_middle(found.gain * found.weight, found.u, found.v)
        channel[:] = render(gain, found.u, found.v, self.geometry)
        return found

    def _compiled(
        self,
        observation: NDArray[np.complex64],
        scale: float,
        prior: Prior,
        first: bool,
        channel: NDArray[np.complex64],
        budget: Budget | None,
    ) -> Found:
        known = np.array(prior[:6], np.float64)
        which = self._first_kernel if first else self._kernel
        numbers, gain, origin, noise_var, error_var, rounds, settled = which.search(
            observation, scale, known, channel, budget
        )
        u, v, weight, inclusion, variance = numbers[:5]
        return Found(
            u,
            v,
            gain,
            weight,
            inclusion,
            variance,
            numbers[5:].reshape(-1),
            origin,
            noise_var,
            error_var,
            rounds,
            settled,
        )


def predict(tracks: Tracks, power: float) -> Prior:
    """Return the prior of a slot: directions less certain by the drift, existence by what may have ended.

    power: mean power of the observation, the unit of the slot [W]
    """
    exists = SURVIVAL / (1 + np.exp(-tracks.log_odds))
    return Prior(
        tracks.u,
        tracks.v,
        1 / (tracks.var_u + tracks.drift[0]),
        1 / (tracks.var_v + tracks.drift[1]),
        tracks.power / power,
        np.log(exists / (1 - exists)),
        np.arange(len(tracks.u)),
    )


def update(tracks: Tracks, prior: Prior, found: Found, sensing: Sensing, power: float) -> None:
    """Take the tracks on by what was found in a slot: learn drift and powers, let tracks be born and die."""
    old = found.origin >= 0
    which = found.origin[old]
    learn_drift(tracks, prior, found, sensing)
    odds = np.log(found.inclusion / np.maximum(1 - found.inclusion, 1e-300))
    age = np.ones(len(found.u))
    age[old] = tracks.age[which] + 1
    seen = power * (np.abs(found.gain) ** 2 + found.variance)
    # That of a new track is of what stood out of the noise, and so too large.
    mean = np.where(old, seen, power * np.abs(found.gain * found.weight) ** 2 + power * found.variance)
    share = np.maximum(1 / age[old], 1 / MEMORY)
    mean[old] = (1 - share) * tracks.power[which] + share * seen[old]
    keep = odds > DEAD
    half = len(found.u)
    tracks.u, tracks.v = found.u[keep], found.v[keep]
    tracks.var_u, tracks.var_v = found.spread[:half][keep], found.spread[half:][keep]
    tracks.power, tracks.age = mean[keep], age[keep]
    tracks.log_odds = np.clip(odds[keep], -MOST_CERTAIN, MOST_CERTAIN)
    tracks.slots += 1


def learn_drift(tracks: Tracks, prior: Prior, found: Found, sensing: Sensing) -> None:
    """Average what directions moved beyond their prediction, less what their variances explain.

    The update moves a direction by K times its innovation, K = 1 - P / P_predicted, and the innovation has the
    variance P_predicted / K: so (move / K)^2 - P_predicted / K + q^2 has the mean q^2.
    """
    old = found.origin >= 0
    which, half = found.origin[old], len(found.u)
    share = max(1 / (tracks.slots + 1), 1 / MEMORY)
    for axis, (now, before, precision, spread) in enumerate(
        (
            (found.u, prior.u, prior.precision_u, found.spread[:half]),
            (found.v, prior.v, prior.precision_v, found.spread[half:]),
        )
    ):
        expected = 1 / precision[which]
        gained = 1 - spread[old] / expected
        sure = (gained > 0.05) & (found.inclusion[old] > 0.9)
        if not sure.any():
            continue
        moved = (now[old][sure] - before[which][sure]) / sensing.cell[axis]
        gained, expected = gained[sure], expected[sure]
        sample = (moved / gained) ** 2 - expected / gained + tracks.drift[axis]
        weight = (gained / expected) ** 2
        mean = float(np.sum(weight * sample) / np.sum(weight))
        tracks.drift[axis] = max((1 - share) * tracks.drift[axis] + share * mean, LEAST_DRIFT**2)
