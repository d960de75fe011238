"""Estimation of distribution algorithm: which columns form a group, for low side lobes at a given resolution.

| symbol | name | meaning |
|---|---|---|
| S = [s_1 .. s_G] | group | group of each column |
| Q, T_best, I_max | population, elite, iterations | members, members that are learned from, iterations |
| p(n, g) | chances | share of the elite that has column n in group g |
| rho_g | limit | greatest SRL_g allowed |

Without the limit on SRL_g the columns of a group gather: a compact group has few side lobes and a wide main lobe.

source: paper 004, eqs. (19)-(21) and Algorithm 1
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.ambiguity import centre_cosines, membership, side_lobe_level
from beamslot.dsp.grouping import DesignedGrouping, Setting, balanced_random, figures
from beamslot.dsp.resolution import crb_difference
from beamslot.errors import BadParam

Groupings = NDArray[np.int16]
Draw = Callable[[int], Groupings]
Progress = Callable[[int, float], None]
"""Told the iterations done and the best max ISL_g so far."""

_REFERENCES = 32
_START_ROUNDS, _ROUNDS = 60, 20


@dataclass(frozen=True)
class Design:
    """What the algorithm found.

    setting: what it was asked for    group: (y,) int16, the best grouping
    isl, srl, limit: (group,) float64, ISL_g, SRL_g and rho_g of it, linear; no srl is above its limit
    start: mean max ISL_g of the first population    history: best max ISL_g at the start and after every iteration
    """

    setting: Setting
    group: Groupings
    isl: NDArray[np.float64]
    srl: NDArray[np.float64]
    limit: NDArray[np.float64]
    start: float
    history: tuple[float, ...]

    @property
    def iterations(self) -> int:
        """Iterations done; fewer than allowed where patience ended them."""
        return len(self.history) - 1

    def record(self, seed: int | None) -> DesignedGrouping:
        """Return what goes into a file.

        seed: of the generator that the design was made with
        """
        return DesignedGrouping(
            package=version("beamslot"),
            seed=seed,
            setting=self.setting,
            group=self.group.tolist(),
            isl=self.isl.tolist(),
            srl=self.srl.tolist(),
            limit=self.limit.tolist(),
            history=list(self.history),
        )


def design(setting: Setting, rng: np.random.Generator, progress: Progress | None = None) -> Design:
    """Minimise max_g ISL_g over groupings with SRL_g <= rho_g, each column in one group.

    The first population has each column in a random group, p(n, g) = 1 / G. The best member is carried over, so the
    history never rises. Where random groupings rarely keep the limits, a population is filled up by repeating members.

    setting: array, groups and limits    rng: the only source of randomness    progress: called after every iteration
    returns the best member and how it was reached
    raises BadParam where the array has no side lobes, or no random grouping keeps the limits
    source: paper 004, Algorithm 1
    """
    problem = _Problem(setting, _limits(setting, rng))
    population = problem.filled(_begin(problem, rng))
    worst = problem.worst(population)
    start, history, best = float(worst.mean()), [float(worst.min())], population[worst.argmin()]
    while len(history) <= setting.iterations and not _stalled(history, setting.patience):
        elite = population[np.argsort(worst, kind="stable")[: setting.elite]]
        chances = membership(elite, setting.groups).mean(0).T
        drawn = problem.collect(lambda count, p=chances: sample(p, count, rng), setting.population - 1, _ROUNDS)
        population = problem.filled(np.concatenate([best[None], drawn]))
        worst = problem.worst(population)
        best = population[worst.argmin()]
        history.append(float(worst.min()))
        if progress:
            progress(len(history) - 1, history[-1])
    isl, srl = figures(best, setting)
    return Design(setting, best, isl, srl, problem.limit, start, tuple(history))


def sample(chances: NDArray[np.float64], count: int, rng: np.random.Generator) -> Groupings:
    """Return groupings whose columns are drawn independently, column n into group g with probability p(n, g).

    chances: (y, group), rows that sum to 1    count: groupings
    returns (count, y) int16
    source: paper 004, eqs. (20), (21)
    """
    edges = chances.cumsum(1)[:, :-1]  # the last edge is 1 but for rounding, and must not be passed
    return (rng.random((count, len(chances), 1)) >= edges).sum(-1, dtype=np.int16)


class _Problem:
    """What all members are measured by."""

    def __init__(self, setting: Setting, limit: NDArray[np.float64]) -> None:
        self.setting, self.limit = setting, limit
        self._cosine = centre_cosines(setting.interval, setting.groups)
        self._side_lobes = setting.side_lobes

    def worst(self, group: Groupings) -> NDArray[np.float64]:
        """Return max_g ISL_g of each grouping, to be minimised (19)."""
        return side_lobe_level(self._members(group), self._cosine, self._side_lobes, self.setting.spacing).max(-1)

    def keeps(self, group: Groupings) -> NDArray[np.bool_]:
        """Return which groupings keep every limit.

        sqrt(CRB) falls from infinity, so a distance that it does not exceed has the least crossing, SRL_g, at or
        below it: one evaluation at rho_g does for a bisection.
        """
        bound = crb_difference(self._members(group), self._cosine, self.limit, self.setting.snr, self.setting.spacing)
        return np.all(bound <= self.limit**2, axis=-1)

    def collect(self, draw: Draw, wanted: int, rounds: int) -> Groupings:
        """Return up to `wanted` groupings that keep the limits, from at most `rounds` populations drawn."""
        found: list[Groupings] = []
        while sum(map(len, found)) < wanted and len(found) < rounds:
            drawn = draw(self.setting.population)
            found.append(drawn[self.keeps(drawn)])
        return np.concatenate(found)[:wanted]

    def filled(self, members: Groupings) -> Groupings:
        """Return a whole population, with members repeated where there are too few."""
        return np.resize(members, (self.setting.population, self.setting.n_y))

    def _members(self, group: Groupings) -> NDArray[np.float64]:
        return membership(group, self.setting.groups).astype(np.float64)


def _limits(setting: Setting, rng: np.random.Generator) -> NDArray[np.float64]:
    """rho_g: the median over random groupings, of equal sizes as a front end without a design would have them."""
    return setting.rho * np.median(figures(_balanced(setting, _REFERENCES, rng), setting)[1], axis=0)


def _begin(problem: _Problem, rng: np.random.Generator) -> Groupings:
    """Random groupings that keep the limits; with equal sizes where columns drawn one by one make groups too small."""
    setting = problem.setting
    uniform = np.full((setting.n_y, setting.groups), 1 / setting.groups)
    found = problem.collect(lambda count: sample(uniform, count, rng), setting.population, _START_ROUNDS)
    if len(found) < setting.population:
        more = problem.collect(lambda count: _balanced(setting, count, rng), setting.population, _START_ROUNDS)
        found = np.concatenate([found, more])[: setting.population]
    if len(found) == 0:
        raise BadParam(
            f"eda: rho is {setting.rho}, and no random grouping of {setting.n_y} columns in {setting.groups} groups "
            f"keeps it in all of them; wanted a rho above {_reached(problem, rng):.2f}, which the best of some had"
        )
    return found


def _reached(problem: _Problem, rng: np.random.Generator) -> float:
    """The least rho that one of some random groupings keeps."""
    srl = figures(_balanced(problem.setting, problem.setting.population, rng), problem.setting)[1]
    return problem.setting.rho * float((srl / problem.limit).max(-1).min())


def _balanced(setting: Setting, count: int, rng: np.random.Generator) -> Groupings:
    return np.stack([balanced_random(setting.n_y, setting.groups, rng) for _ in range(count)])


def _stalled(history: list[float], patience: int) -> bool:
    return len(history) > patience and history[-1] >= history[-1 - patience]
