"""Newtonised matching pursuit by variable projection: few paths near the bound, without a dictionary, within a slot.

The search is `path_search`, its weights and what it says of its error `evidence`; `kernel/vp_nomp.cpp` is the same,
made fast, and runs where it could be compiled.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp import evidence, kernel, path_search
from beamslot.dsp.combine import distinct
from beamslot.dsp.estimate import Budget, Estimate, Slot, blank, collect, refuse, shaped, slots_of, spoilt
from beamslot.dsp.path_search import Settings, search
from beamslot.dsp.sensing import FAINTEST, Sensing, joint_sensing, normalised
from beamslot.frame import Geometry, Operator

MOST_PATHS = 64


class Start(NamedTuple):
    """Directions that were proposed from outside for each of S slots, of which a slot has the first few.

    u, v: (S, P) float64, the likeliest first: of new ones that look alike, the first is kept
    paths: (S, 2) int32, how many, and how many of these are old: they have been told apart before
    """

    u: NDArray[np.float64]
    v: NDArray[np.float64]
    paths: NDArray[np.int32]


class SlotSearch:
    """The search of `path_search` over slots that do not depend on each other, compiled where that was possible.

    geometry: the array    operator: what compressed the channel    settings: what bounds the search
    guard, variant: see `VpNomp`
    raises ShapeError when the operator does not fit the array, BadParam for a variant that does not run here
    """

    def __init__(
        self, geometry: Geometry, operator: Operator, settings: Settings, guard: float, variant: str | None = None
    ) -> None:
        self.settings, self.geometry = settings, geometry
        self.sensing = joint_sensing(geometry, operator, guard)
        module = kernel.load(variant)
        self._kernel: Any = None if module is None else compiled(module, self.sensing, operator, settings)

    def estimate(
        self, slots: Iterable[NDArray[Any]], budget: Budget | None = None, start: Start | None = None
    ) -> Estimate:
        """Return the channel of every slot, see `VpNomp.estimate`.

        slots: (S, y, chain) complex [sqrt(W)]    start: directions to begin with, see `path_search.search`
        """
        if self._kernel is not None:
            return self._compiled(np.ascontiguousarray(slots, np.complex64), budget, start)
        found = [self._slot(one, budget, start and _proposed(start, index)) for index, one in enumerate(slots)]
        return collect(found, self.geometry, self.settings.max_paths, (len(found),))

    def _compiled(self, slots: NDArray[np.complex64], budget: Budget | None, start: Start | None) -> Estimate:
        made = blank(len(slots), self.settings.max_paths, self.geometry)
        variances = np.empty((len(slots), 2), np.float32)
        paths = (made.gain, made.u, made.v, made.mask)
        self._kernel.estimate(
            slots, made.channel, *paths, variances, made.iterations, made.converged, budget, *(start or ())
        )
        made.noise_var[:], made.error_var[:] = variances.T
        return made

    def _slot(self, observation: NDArray[Any], budget: Budget | None, start: Any) -> Slot:
        rows, scale = normalised(self.sensing.gather(observation), self.sensing)
        if not np.isfinite(scale[0]):
            return spoilt()
        found = search(rows[0], self.sensing, self.settings, budget=budget, start=start)
        gain = scale[0] * self.sensing.from_middle((found.gain * found.weight)[None], found.u[None], found.v[None])[0]
        order = np.argsort(-np.abs(gain), kind="stable")
        return Slot(
            gain[order],
            found.u[order],
            found.v[order],
            np.ones(len(order), np.bool_),
            float(scale[0]) ** 2 * found.noise_var,
            float(scale[0]) ** 2 * found.error_var,
            found.rounds,
            found.settled,
        )


def _proposed(start: Start, slot: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    paths, old = map(int, start.paths[slot])
    return start.u[slot, :paths], start.v[slot, :paths], old


class VpNomp:
    """Newtonised matching pursuit by variable projection; the noise variance is learned, whatever the operator says.

    Nothing depends on the scale of the observations or on a phase common to a slot.

    geometry: the array    operator: what compressed the channel; its beams may be any
    max_paths: at most so many    max_rounds: searches at most
    threshold: power over the noise from which a peak is taken for a path, see `path_search`
    expected_paths: prior mean of the number of paths
    guard: how far beyond the interval to search, each side, in v
    variant: which compiled form, see `kernel.load`; None for the fastest that runs here
    raises ShapeError when the operator does not fit the array, BadParam
    source: the module's
    """

    def __init__(
        self,
        geometry: Geometry,
        operator: Operator,
        *,
        max_paths: int = 24,
        max_rounds: int = 20,
        threshold: float = 9.0,
        expected_paths: float = 10.0,
        guard: float = 0.1,
        variant: str | None = None,
    ) -> None:
        self.settings = Settings(max_paths, max_rounds, 5, threshold, expected_paths)
        refuse(
            ("vp_nomp.max_paths", max_paths, f"1 .. {MOST_PATHS}", 1 <= max_paths <= MOST_PATHS),
            ("vp_nomp.max_rounds", max_rounds, "at least 1", max_rounds >= 1),
            ("vp_nomp.threshold", threshold, "more than 0", threshold > 0),
            ("vp_nomp.expected_paths", expected_paths, "more than 0", expected_paths > 0),
        )
        self.geometry, self.operator = geometry, operator
        self._search = SlotSearch(geometry, operator, self.settings, guard, variant)
        self.sensing = self._search.sensing

    def estimate(self, observation: NDArray[Any], budget: Budget | None = None) -> Estimate:
        """Return the channel of every slot; slots do not depend on each other.

        observation: (..., y, chain) complex64 [sqrt(W)], y = F_a h + w
        budget: says whether time is up; then a slot comes back with the best so far, not converged
        returns an Estimate, paths sorted by power. error_var is the expectation of the error from gains, directions
            and existence of the paths found, and of the power of those below the threshold, which leans on the prior
            of number and power. A slot that is not finite comes back without paths, noise_var and error_var NaN.
        raises ShapeError when the last two axes are not (y, chain) of the operator
        """
        slots = slots_of("vp_nomp", observation, self.operator.weights.shape[:2])
        return shaped(self._search.estimate(slots, budget), observation.shape[:-2])


def compiled(module: Any, sensing: Sensing, operator: Operator, settings: Settings) -> Any:
    """Return the compiled search for one operator: the same tables, the same constants."""
    tables, which = distinct(operator.weights)
    active = np.isin(np.arange(len(which)), sensing.column[0][sensing.valid[0]])
    options = {
        "spacing_y": sensing.geometry.spacing_y,
        "spacing_z": sensing.geometry.spacing_z,
        "low": float(sensing.low[0]),
        "high": float(sensing.high[0]),
        "cell_u": sensing.cell[0],
        "cell_v": sensing.cell[1],
        "cells": float(sensing.cells[0]),
        "rows": float(sensing.rows[0]),
        "faintest": FAINTEST,
        **settings._asdict(),
        "powers": evidence.POWERS,
        "apart": path_search.APART,
        "peaks": path_search.PEAKS_A_ROUND,
        "next_peak": path_search.NEXT_PEAK,
        "longest_step": path_search.LONGEST_STEP,
        "damping": path_search.DAMPING,
        "merge": path_search.MERGE,
        "settled": path_search.SETTLED,
        "freedom": evidence.FREEDOM,
        "path_power": evidence.PATH_POWER,
        "certainty": evidence.CERTAINTY,
        "rank": path_search.RANK,
        "twin": path_search.TWIN,
        "neighbour": path_search.NEIGHBOUR,
        "silence": path_search.SILENCE,
    }
    which = np.where(active, which, -1).astype(np.int32)
    return module.Kernel(options, which, tables.astype(np.complex128), sensing.grid_u, sensing.grid_v[0])
