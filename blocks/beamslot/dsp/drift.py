"""Charts of residuals that say when they leave their band, at a stated rate of false alarms, without any truth.

| symbol | name | meaning |
|---|---|---|
| x | power | energy of the residual a complex dimension, ||r||^2 / (R - 2 K), averaged over some slots |
| z | score | x as a standard normal number while nothing has changed |
| C+, C- | up, down | max(0, C + z - k), max(0, C - z - k) |
| k, h | slack, threshold | half of the shift to be found soonest, and where the alarm is raised [sigma] |
| S_c | up of a chain | max(0, S_c + |r_c|^2 / mean |r|^2 - k_c), for a chain c of the front end |
| ARL | run_length | mean number of scores until a false alarm |

Where the noise variance is known, z follows from the chi-square distribution of the energy. Where it is not, the band
is learned as the stream goes on, and z compares an average with all before it, in a way that leaves z exactly standard
normal and independent whatever was learned: so the stated rate of false alarms holds from the first that is charted.

Residuals of one channel are alike: an estimator that cannot tell two paths apart leaves their difference for as long as
they lie so. Then averages as long as the channel needs to change make scores independent, and the rate hold.

source: Page, Biometrika 41, 1954; Hawkins, Self-starting cusum charts, The Statistician 36, 1987; Brook and Evans,
Biometrika 59, 1972; averages: Runger and Willemain, IIE Transactions 28, 1996
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtr, ndtr, ndtri, stdtr

Real = NDArray[np.float64]

MOST = 4.0
"""Scores are cut at this, so that a slot that is spoilt counts for no more."""

LOUD = 4.0
"""A chain whose residual has so many times the energy of the others is found soonest."""

_STATES, _CLOSE = 300, 1e-7


@lru_cache(maxsize=64)
def run_length(slack: float, threshold: float, shift: float = 0.0) -> float:
    """Return the mean number of scores until C+ or C- reaches the threshold, from 0, with scores of mean `shift`.

    source: both sides by 1 / ARL = 1 / ARL+ + 1 / ARL-, van Dobben de Bruyn, Cumulative Sum Tests, 1968
    """
    sides = [_one_sided(slack, threshold, lambda z, mean=mean: _cut(z, mean)) for mean in sorted({shift, -shift})]
    return 1 / sum(1 / side for side in (sides * 2)[:2])


def _cut(score: Real, mean: float) -> Real:
    return np.where(score < MOST, ndtr(score - mean), 1.0)  # all that is above the cut lies at it


@lru_cache(maxsize=64)
def chain_run_length(chains: int, threshold: float) -> float:
    """Return the mean slots until S_c of any of some chains reaches the threshold, where all have the same noise.

    source: |r_c|^2 over the mean of n chains is n times a beta variable of parameters 1 and n - 1; chains apart from
        their common mean taken as independent
    """

    def below(energy: Real) -> Real:
        return 1 - (1 - np.clip(energy / chains, 0, 1)) ** (chains - 1)

    return _one_sided(chain_slack(), threshold, below) / chains


def chain_slack() -> float:
    """Return k_c, which finds a change of exponentially distributed energies by `LOUD` soonest.

    source: the likelihood ratio; Moustakides, Annals of Statistics 14, 1986
    """
    return math.log(LOUD) / (1 - 1 / LOUD)


def _one_sided(slack: float, threshold: float, below: Callable[[Real], Real]) -> float:
    """Return the mean run length of max(0, C + x - k).

    below: the probability that a score x is below a number
    source: Brook and Evans 1972, a Markov chain of states
    """
    width = 2 * threshold / (2 * _STATES - 1)
    middle = np.arange(_STATES) * width
    edges: Real = np.concatenate([[-np.inf], (np.arange(_STATES) + 0.5) * width])
    scores: Real = np.asarray(edges[None, :] - middle[:, None] + slack, np.float64)
    moves = np.diff(below(scores), axis=1)
    return float(np.linalg.solve(np.eye(_STATES) - moves, np.ones(_STATES))[0])


@lru_cache(maxsize=64)
def threshold_for(slack: float, false_alarm_every: float) -> float:
    """Return the least h at which false alarms are so many scores apart on average, or more."""
    return _least(lambda threshold: run_length(slack, threshold), false_alarm_every)


@lru_cache(maxsize=64)
def chain_threshold_for(chains: int, false_alarm_every: float) -> float:
    """Return the least threshold at which false alarms of so many chains are so many slots apart, or more.

    One that no score reaches where there are too few chains to tell one from the others.
    """
    if chains <= LOUD:
        return math.inf
    return _least(lambda threshold: chain_run_length(chains, threshold), false_alarm_every)


def _least(length: Callable[[float], float], wanted: float) -> float:
    """Return the least threshold with at least the wanted run length, by bisection."""
    low, high = 0.0, 1.0
    while length(high) < wanted:
        low, high = high, 2 * high
    while high - low > _CLOSE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if length(middle) < wanted else (low, middle)
    return high


class DriftChart:
    """Charts the energy of residuals; an alarm is raised at the threshold and goes when its side is back at 0.

    While an alarm is on, nothing is learned.

    slack, threshold: k and h, which may change    average: slots of a score
    learn: scores before the first that is charted, where the band must be learned
    alarm: 1 above the band, -1 below it, 0 within    slots, not_finite: taken in, left out
    """

    def __init__(self, slack: float, threshold: float, learn: int = 30, average: int = 1) -> None:
        self.slack, self.threshold, self.learn, self.average = slack, threshold, learn, average
        self.slots = self.not_finite = self.alarm = 0
        self.up = self.down = 0.0
        self._count, self._mean, self._scatter = 0, 0.0, 0.0
        self._power, self._dimensions, self._held = 0.0, 0.0, 0

    @property
    def learning(self) -> bool:
        """Whether too little is known yet for an alarm."""
        return self._count < self.learn

    @property
    def level(self) -> float:
        """How far it is on the way to an alarm: 1 at the threshold, below 0 on the lower side."""
        return (self.up if self.up >= self.down else -self.down) / self.threshold

    def add(self, power: float, dimensions: float, noise_var: float | None = None) -> None:
        """Take in the residual of a slot.

        power: ||r||^2 [W]    dimensions: complex ones of it    noise_var: of an entry [W], None: to be learned
        """
        if not (0 < power < math.inf and dimensions > 0):
            self.not_finite += 1
            return
        self.slots += 1
        self._power, self._dimensions, self._held = self._power + power, self._dimensions + dimensions, self._held + 1
        if self._held >= self.average:
            self._take(self._power, self._dimensions, noise_var)
            self._power, self._dimensions, self._held = 0.0, 0.0, 0

    def _take(self, power: float, dimensions: float, noise_var: float | None) -> None:
        if noise_var is not None:
            self._count = max(self._count, self.learn)
            self._chart(_normal(float(chdtr(2 * dimensions, 2 * power / noise_var))))
            return
        # The root that makes chi-square nearly normal: Wilson and Hilferty, PNAS 17, 1931.
        value = (power / dimensions) ** (1 / 3)
        if self._count >= max(self.learn, 3):
            deviation = math.sqrt(self._scatter / (self._count - 1))
            away = math.sqrt(self._count / (self._count + 1)) * (value - self._mean)
            self._chart(_normal(float(stdtr(self._count - 1, away / deviation))) if deviation else 0.0)
        if not self.alarm:
            self._count += 1
            away = value - self._mean
            self._mean += away / self._count
            self._scatter += away * (value - self._mean)

    def _chart(self, score: float) -> None:
        self.up = min(max(self.up + score - self.slack, 0.0), self.threshold)
        self.down = min(max(self.down - score - self.slack, 0.0), self.threshold)
        if (self.alarm > 0 and not self.up) or (self.alarm < 0 and not self.down):
            self.alarm = 0
        if not self.alarm and max(self.up, self.down) >= self.threshold:
            self.alarm = 1 if self.up >= self.threshold else -1

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state."""
        return {name: value for name, value in vars(self).items() if name not in _SETTINGS}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` gave; the settings stay as they are."""
        vars(self).update({name: state[name] for name in vars(self) if name not in _SETTINGS})


_SETTINGS = frozenset({"slack", "threshold", "learn", "average"})


class ChainChart:
    """Charts each chain against the mean of all: one that dies, or drifts alone, stands out long before the sum does.

    It learns nothing, and what all chains have in common does not move it.

    shape: (y, chain)    threshold: of S_c, which may change
    up: (y, chain) S_c    loud: (y, chain) bool, chains in alarm, each until its S_c is back at 0
    """

    def __init__(self, shape: tuple[int, ...], threshold: float) -> None:
        self.threshold = threshold
        self.up, self.loud = np.zeros(shape), np.zeros(shape, np.bool_)

    @property
    def level(self) -> float:
        """How far the loudest chain is on the way to an alarm, 1 at the threshold."""
        return float(self.up.max(initial=0.0)) / self.threshold

    def add(self, power: ArrayLike, chains: int) -> None:
        """Take in a slot.

        power: (y, chain) |r_c|^2, finite and not all 0    chains: how many there are that have any weight
        """
        power = np.asarray(power, np.float64)
        self.up = np.clip(self.up + power * (chains / power.sum()) - chain_slack(), 0, self.threshold)
        self.loud = (self.loud & (self.up > 0)) | (self.up >= self.threshold)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state."""
        return {"up": self.up, "loud": self.loud}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` gave; the threshold stays as it is."""
        self.up, self.loud = np.array(state["up"], np.float64), np.array(state["loud"], np.bool_)


def _normal(probability: float) -> float:
    return min(max(float(ndtri(probability)), -MOST), MOST)
