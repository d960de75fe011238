"""Paths tracked across slots: directions and powers persist, phases do not.

| symbol | name | meaning |
|---|---|---|
| u_k, v_k, P_k | direction, variance | directions of a track and their variances [cells^2], a Kalman filter each |
| q^2 | drift | variance of what a direction moves in a slot [cells^2], learned over all tracks |
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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp import kernel
from beamslot.dsp.estimate import Budget, Estimate, blank, refuse, shaped, slots_of
from beamslot.dsp.geometry import render
from beamslot.dsp.path_search import Prior, Settings, search
from beamslot.dsp.sensing import Real, joint_sensing
from beamslot.dsp.vp_nomp import compiled
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
LEAST_GAIN, SURE = 0.05, 0.9
"""The drift is learned from directions that a slot says so much about, of paths that exist with this probability."""
FIRST_DRIFT = 5e-3
"""Of a direction in a slot before anything is learned, rms [cells]."""
LEAST_DRIFT = 1e-4
"""Of a direction in a slot, rms [cells]."""


def _none(*shape: int) -> Real:
    return np.zeros((*shape, 0))


@dataclass
class Tracks:
    """What is known of the paths of one user; powers are in units of the observation [W].

    direction, variance: (2, K) u and v, and their variances [cells^2]    power, log_odds, age: (K,)
    drift: (2,) variance of what u and v move in a slot [cells^2]    slots: how many were seen
    """

    direction: Real = field(default_factory=lambda: _none(2))
    variance: Real = field(default_factory=lambda: _none(2))
    power: Real = field(default_factory=_none)
    log_odds: Real = field(default_factory=_none)
    age: Real = field(default_factory=_none)
    drift: Real = field(default_factory=lambda: np.full(2, FIRST_DRIFT**2))
    slots: int = 0

    def snapshot(self) -> dict[str, Any]:
        """Return all of it as arrays, which do not change any more, and a number."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "Tracks":
        """Return the tracks that `snapshot` gave."""
        return cls(**state)


class Seen(NamedTuple):
    """What a slot says of the paths in it, those that were tracked first, in their order.

    direction, spread: (2, K), the latter variances [cells^2]    inclusion, variance, power: (K,), power |a|^2
    shrunk: (K,) power after the gains were weighed    origin: (known,) which tracks they are
    """

    direction: Real
    spread: Real
    inclusion: Real
    variance: Real
    power: Real
    shrunk: Real
    origin: NDArray[np.int64]


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
        self._rows, self._cell = float(self.sensing.rows[0]), np.array(self.sensing.cell)
        self._active = None if np.all(operator.group >= 0) else operator.group >= 0
        module, both = kernel.load(variant), (self._first, self.settings)
        self._kernels: Any = module and [compiled(module, self.sensing, operator, settings) for settings in both]
        self.tracks = [Tracks() for _ in range(users)]

    def estimate(self, observation: NDArray[Any], budget: Budget | None = None) -> Estimate:
        """Return the channel of every slot and take the tracks on by these slots, in order.

        observation: (slot, user, y, chain) complex64 [sqrt(W)]
        raises ShapeError for another shape
        """
        slots = np.ascontiguousarray(slots_of("gw_tracker", observation, self.operator.weights.shape[:2]), np.complex64)
        users, batch = observation.shape[-3], observation.shape[:-2]
        made = blank(len(slots), self.settings.max_paths, self.geometry)
        for index, slot in enumerate(slots):
            self._slot(slot, self.tracks[index % users], made, index, budget)
        return shaped(made, batch)

    def skip(self, slots: int) -> None:
        """Take the tracks on by slots that nothing was seen of."""
        for tracks in self.tracks:
            tracks.variance = tracks.variance + slots * tracks.drift[:, None]
            exists = SURVIVAL**slots / (1 + np.exp(-tracks.log_odds))
            tracks.log_odds = np.log(exists / (1 - exists))

    def _slot(
        self, observation: NDArray[np.complex64], tracks: Tracks, made: Estimate, index: int, budget: Budget | None
    ) -> None:
        own = observation if self._active is None else observation[self._active]
        power = float(np.vdot(own, own).real) / self._rows
        if not np.isfinite(power) or not power:  # nothing at all, as from dead chains, is an estimate of nothing
            made.noise_var[index] = made.error_var[index] = 0.0 if power == 0 else np.nan
            made.converged[index] = power == 0
            return
        prior = predict(tracks, power)
        find = self._numpy if self._kernels is None else self._compiled
        seen, noise_var, error_var, made.iterations[index], made.converged[index] = find(
            observation, np.sqrt(power), prior, not tracks.slots, made, index, budget
        )
        made.noise_var[index], made.error_var[index] = power * noise_var, power * error_var
        update(tracks, prior, seen, self._cell, power)

    def _numpy(
        self,
        observation: NDArray[np.complex64],
        scale: float,
        prior: Prior,
        first: bool,
        made: Estimate,
        index: int,
        budget: Budget | None,
    ) -> tuple[Seen, float, float, int, bool]:
        rows = self.sensing.gather(observation)[0] / scale
        found = search(rows, self.sensing, self._first if first else self.settings, prior, budget)
        gain = scale * self.sensing.from_middle(found.gain * found.weight, found.u, found.v)
        order, count = np.argsort(-np.abs(gain), kind="stable"), len(gain)
        made.gain[index, :count], made.mask[index, :count] = gain[order], True
        made.u[index, :count], made.v[index, :count] = found.u[order], found.v[order]
        made.channel[index] = render(gain, found.u, found.v, self.geometry)
        power = np.abs(found.gain) ** 2
        seen = Seen(
            np.stack([found.u, found.v]),
            found.spread.reshape(2, -1),
            found.inclusion,
            found.variance,
            power,
            power * found.weight**2,
            found.origin[found.origin >= 0],
        )
        return seen, found.noise_var, found.error_var, found.rounds, found.settled

    def _compiled(
        self,
        observation: NDArray[np.complex64],
        scale: float,
        prior: Prior,
        first: bool,
        made: Estimate,
        index: int,
        budget: Budget | None,
    ) -> tuple[Seen, float, float, int, bool]:
        known = np.array(prior[:6], np.float64)
        row = (made.channel[index], made.gain[index], made.u[index], made.v[index], made.mask[index])
        numbers, origin, *rest = self._kernels[not first].search(observation, scale, known, *row, budget)
        power = numbers[7]
        origin = origin[: np.count_nonzero(origin >= 0)]
        seen = Seen(numbers[:2], numbers[5:7], numbers[3], numbers[4], power, power * numbers[2] ** 2, origin)
        return seen, *rest


def predict(tracks: Tracks, power: float) -> Prior:
    """Return the prior of a slot: directions less certain by the drift, existence by what may have ended.

    power: mean power of the observation, the unit of the slot [W]
    """
    exists = SURVIVAL / (1 + np.exp(-tracks.log_odds))
    (u, v), precision = tracks.direction, 1 / (tracks.variance + tracks.drift[:, None])
    return Prior(
        u,
        v,
        precision[0],
        precision[1],
        tracks.power / power,
        np.log(exists / (1 - exists)),
        np.arange(len(exists)),
    )


def update(tracks: Tracks, prior: Prior, seen: Seen, cell: Real, power: float) -> None:
    """Take the tracks on by what was seen in a slot: learn drift and powers, let tracks be born and die.

    cell: (2,) resolution in u and in v    power: what powers are relative to [W]
    """
    which, known = seen.origin, len(seen.origin)
    learn_drift(tracks, prior, seen, cell)
    odds = np.log(np.maximum(seen.inclusion, 1e-300) / np.maximum(1 - seen.inclusion, 1e-300))
    age = np.ones(len(odds))
    age[:known] += tracks.age[which]
    # A new track stood out of the noise, so what was seen of it is too large.
    mean = power * (seen.shrunk + seen.variance)
    share = np.maximum(1 / age[:known], 1 / MEMORY)
    now = power * (seen.power[:known] + seen.variance[:known])
    mean[:known] = (1 - share) * tracks.power[which] + share * now
    keep = odds > DEAD
    tracks.direction, tracks.variance = seen.direction[:, keep], seen.spread[:, keep]
    tracks.power, tracks.age = mean[keep], age[keep]
    tracks.log_odds = np.minimum(odds[keep], MOST_CERTAIN)
    tracks.slots += 1


def learn_drift(tracks: Tracks, prior: Prior, seen: Seen, cell: Real) -> None:
    """Average what directions moved beyond their prediction, less what their variances explain.

    The update moves a direction by K times its innovation, K = 1 - P / P_predicted, and the innovation has the
    variance P_predicted / K: so (move / K)^2 - P_predicted / K + q^2 has the mean q^2.
    """
    which, known = seen.origin, len(seen.origin)
    if not known:
        return
    share = max(1 / (tracks.slots + 1), 1 / MEMORY)
    expected = 1 / np.array(prior[2:4])[:, which]
    gained = np.maximum(1 - seen.spread[:, :known] / expected, LEAST_GAIN)
    moved = (seen.direction[:, :known] - np.array(prior[:2])[:, which]) / cell[:, None]
    sample = (moved / gained) ** 2 - expected / gained
    weight = (gained / expected) ** 2 * ((gained > LEAST_GAIN) & (seen.inclusion[:known] > SURE))
    total = weight.sum(axis=1)
    beyond = np.divide((weight * sample).sum(axis=1), total, out=np.zeros(2), where=total > 0)
    tracks.drift = np.maximum(tracks.drift + share * beyond, LEAST_DRIFT**2)
