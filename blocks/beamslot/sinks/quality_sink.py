"""Judge estimates by all that there is: error, bound, stated error, strongest direction, residual, and how it came."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp import quality
from beamslot.dsp.bounds import crb_channel
from beamslot.dsp.quality import LEVELS, DrawMoments, Moments, Residuals, mean_db, mean_of, names_of, ratio_db, share_of
from beamslot.errors import PortMismatch
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, TRUTH
from beamslot.runtime import Block, In

Arrays = dict[str, NDArray[Any]]

MOST_PATHS = 64
"""Beyond so many paths the parameters are more than the observations, and the bound says nothing."""

KEPT = 4096
"""Slots whose bound is kept for the other estimators."""

_EFFORT = ("iterations", "paths", "converged")
_ERROR = ("nmse", "stated", *(f"within_{level:g}" for level in LEVELS), "found", "angle")
_BOUND = ("bound",)
_RESIDUAL = ("residual", "noise", "plausible", "white", "column_re", "column_im", "chain_re", "chain_im")


class QualitySink(Block):
    """NMSE beside the bound, whether the stated error holds, and whether noise alone is left of the observations.

    What is not connected is not judged: errors want the truth, residuals the observations. Each estimate is joined
    with them in a join of its own, so that a slow estimator does not hold up the others. Slots of a draw are averaged
    first; without the truth each slot counts as a draw. A residual is judged against the true noise, without the truth
    against that which the estimator states.
    """

    truth = In(TRUTH, optional=True)
    rf = In(RF_AXES, np.complex64, unit="sqrt(W)", optional=True)
    estimate = In(ESTIMATE, many=True)

    crb: bool = Field(True, description="whether to compute the Cramer-Rao bound, at the first slot of every draw")
    unknowns: float = Field(
        quality.UNKNOWNS, ge=1, le=8, description="real unknowns of a path in its error; 2 where directions are told"
    )

    def start(self, truth: StreamInfo | None, rf: StreamInfo | None, estimate: dict[str, StreamInfo]) -> None:
        """Begin to count, or go on where only a description has changed.

        raises PortMismatch where the observations come without their operator
        """
        if rf is not None and rf.operator is None:
            raise PortMismatch(
                f"{self.run.name}.rf: the stream carries no measurement operator; wanted that of a beamformer"
            )
        self._info = next((i for i in (rf, *estimate.values()) if i is not None and i.operator and i.geometry), None)
        self._residuals = Residuals(rf.operator.weights) if rf is not None and rf.operator is not None else None
        bounded = self.crb and truth is not None and truth.axes["path"] <= MOST_PATHS and self._info is not None
        self._figures = [*_EFFORT, *(_ERROR if truth else ()), *(_BOUND if bounded else ()), *(_RESIDUAL if rf else ())]
        names = names_of([*estimate])
        if getattr(self, "_known", None) != (names, self._figures):
            self._known = names, self._figures
            self._names = names
            self._moments = {name: DrawMoments(len(self._figures)) for name in names.values()}
            self._bounds: dict[str, tuple[int, float]] = {}
            self._unsound: dict[str, tuple[int, int]] = {}
        self._geometry = next((i.geometry for i in (truth, *estimate.values()) if i is not None and i.geometry), None)
        self._bound_at: dict[int, float] = {}

    def process(self, estimate: Arrays, slots: range, source: str, truth: Any = None, rf: Any = None) -> None:
        """Judge some slots of one estimator."""
        name, paths = self._names[source], estimate["mask"].sum(-1)
        columns = [estimate["iterations"], paths, estimate["converged"]]
        draws = list(slots)
        if truth is not None:
            draws = truth["draw"].tolist()
            columns += self._errors(truth, estimate, paths)
            if "bound" in self._figures:
                columns.append(self._bound(name, truth, slots))
        if rf is not None:
            columns += self._residual(rf, estimate, paths, truth)
        table = np.stack([np.asarray(column, np.float64) for column in columns], -1)
        sound = [bool(np.isfinite(row).all()) for row in table]
        for slot, draw, row, fine in zip(slots, draws, table.mean(1), sound, strict=True):
            if fine:
                self._moments[name].add(draw, row)
            else:
                count, first = self._unsound.get(name, (0, slot))
                self._unsound[name] = count + 1, first

    def _errors(self, truth: Arrays, estimate: Arrays, paths: NDArray[Any]) -> list[NDArray[Any]]:
        """The figures `_ERROR` of some slots, (slot, user) each."""
        channel = truth["channel"]
        power = quality.energy(channel)
        with np.errstate(divide="ignore", invalid="ignore"):
            nmse = quality.energy(estimate["channel"] - channel) / power
            stated = estimate["error_var"].astype(np.float64) * (channel.shape[-1] * channel.shape[-2]) / power
        covered = quality.covered(nmse, stated, paths, self.unknowns)
        found, angle = np.zeros(paths.shape), np.zeros(paths.shape)
        if self._geometry is not None:
            found, angle = quality.strongest(truth, estimate, self._geometry)
        return [nmse, stated, *np.moveaxis(covered, -1, 0), found, angle]

    def _bound(self, name: str, truth: Arrays, slots: range) -> NDArray[np.float64]:
        """The bound at the first slot of the draw of each slot, (slot, user)."""
        bounds = np.zeros(truth["antenna_noise_var"].shape)
        for row, (slot, draw) in enumerate(zip(slots, truth["draw"].tolist(), strict=True)):
            if name not in self._bounds or self._bounds[name][0] != draw:
                self._bounds[name] = draw, self._bound_of(truth, row, slot)
            bounds[row] = self._bounds[name][1]
        return bounds

    def _bound_of(self, truth: Arrays, row: int, slot: int) -> float:
        """The bound of a slot, mean over users; it is the same for all estimators, so it is computed for the first."""
        if slot not in self._bound_at and self._info is not None and self._info.operator and self._info.geometry:
            operator, one = self._info.operator, slice(row, row + 1)
            gain, u, v, mask = (truth[key][one] for key in ("gain", "u", "v", "mask"))
            noise_var = operator.weights.shape[-1] * truth["antenna_noise_var"][one]
            bound = crb_channel(gain, u, v, mask, operator, self._info.geometry, noise_var)
            self._bound_at[slot] = float(bound.mean())
            if len(self._bound_at) > KEPT:
                del self._bound_at[next(iter(self._bound_at))]
        return self._bound_at[slot]

    def _residual(self, rf: NDArray[Any], estimate: Arrays, paths: NDArray[Any], truth: Any) -> list[NDArray[Any]]:
        """The figures `_RESIDUAL` of some slots, (slot, user) each."""
        residuals = self._residuals
        if residuals is None:
            return []
        shape, channel = paths.shape, estimate["channel"]
        observed, fields = rf.reshape(-1, *rf.shape[-2:]), channel.reshape(-1, *channel.shape[-2:])
        found = residuals.judge(observed, fields)
        noise = estimate["noise_var"].astype(np.float64)
        if truth is not None:
            noise = residuals.antennas * truth["antenna_noise_var"].astype(np.float64)
        left = np.maximum(residuals.entries - quality.UNKNOWNS / 2 * paths, 1)
        power = found.energy.reshape(shape)
        lags = found.lags.reshape(*shape, 2)
        parts = [lags[..., 0].real, lags[..., 0].imag, lags[..., 1].real, lags[..., 1].imag]
        white = found.portmanteau.reshape(shape) <= residuals.limit
        return [power / left, noise, quality.within(power, noise, left), white, *parts]

    def snapshot(self) -> dict[str, Any]:
        """Return what was judged so far; its size does not depend on how much that was."""
        return {
            "moments": {name: moments.snapshot() for name, moments in self._moments.items()},
            "bounds": {name: list(bound) for name, bound in self._bounds.items()},
            "unsound": {name: list(found) for name, found in self._unsound.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what was judged."""
        self._moments = {name: DrawMoments.restore(moments) for name, moments in state["moments"].items()}
        self._bounds = {name: (draw, bound) for name, (draw, bound) in state["bounds"].items()}
        self._unsound = {name: (count, first) for name, (count, first) in state["unsound"].items()}

    def results(self) -> dict[str, Any]:
        """Return the judgement of every estimator by its block's name, and the bound as "crb".

        slots, draws    not_finite, first_not_finite: slots that were left out, and the first, where there are any
        iterations, paths: means    converged_share
        With the truth: nmse_db, ci95_db, as `nmse_sink` has them    over_crb_db, over_crb_ci95_db: over the bound
            stated_nmse_db, error_to_stated_db, error_to_stated_ci95_db: what is stated, and what is over what is stated
            coverage, coverage_ci95: by level, share of slots within the stated interval, see `quality.covered`
            strongest_found_share, strongest_rmse_deg: of the strongest path, see `quality.strongest`
        With the observations: residual_to_noise_db, residual_to_noise_ci95_db: energy a dimension over the noise
            plausible_share, plausible_ci95: slots whose residual has an energy within 95 % of noise
            white_share, white_ci95: slots whose residual is white at 95 %
            column_lag, chain_lag: |mean of rho| of neighbours
        """
        told = {name: self._told(name, moments) for name, moments in self._moments.items()}
        if "bound" not in self._figures:
            return told
        known = next(iter(self._moments.values())).moments()
        bound, interval = mean_db(known, self._figures.index("bound"))
        return told | {"crb": {"nmse_db": bound, "ci95_db": interval, "draws": known.draws}}

    def _told(self, name: str, moments: DrawMoments) -> dict[str, Any]:
        known, at = moments.moments(), {figure: index for index, figure in enumerate(self._figures)}
        told: dict[str, Any] = {"slots": moments.slots, "draws": known.draws}
        told |= {key: mean_of(known, at[key])[0] for key in ("iterations", "paths")}
        told["converged_share"] = mean_of(known, at["converged"])[0]
        if "nmse" in at:
            told |= _errors_told(known, at)
        if "bound" in at:
            told["over_crb_db"], told["over_crb_ci95_db"] = ratio_db(known, at["nmse"], at["bound"])
        if "residual" in at:
            told |= _residuals_told(known, at)
        if name in self._unsound:
            told["not_finite"], told["first_not_finite"] = self._unsound[name]
        return told | ({"draw_returned": moments.left_out} if moments.left_out else {})


def _errors_told(known: Moments, at: dict[str, int]) -> dict[str, Any]:
    error, interval = mean_db(known, at["nmse"])
    ratio, ratio_interval = ratio_db(known, at["nmse"], at["stated"])
    shares = {f"{level:g}": share_of(known, at[f"within_{level:g}"]) for level in LEVELS}
    found, square = mean_of(known, at["found"])[0], mean_of(known, at["angle"])[0]
    return {
        "nmse_db": error,
        "ci95_db": interval,
        "stated_nmse_db": mean_db(known, at["stated"])[0],
        "error_to_stated_db": ratio,
        "error_to_stated_ci95_db": ratio_interval,
        "coverage": {level: share for level, (share, _) in shares.items()},
        "coverage_ci95": {level: interval for level, (_, interval) in shares.items()},
        "strongest_found_share": found,
        "strongest_rmse_deg": math.degrees(math.sqrt(square / found)) if found and square is not None else None,
    }


def _residuals_told(known: Moments, at: dict[str, int]) -> dict[str, Any]:
    ratio, interval = ratio_db(known, at["residual"], at["noise"])
    plausible, plausible_interval = share_of(known, at["plausible"])
    white, white_interval = share_of(known, at["white"])
    lags = {
        f"{axis}_lag": math.hypot(*known.mean[[at[f"{axis}_re"], at[f"{axis}_im"]]].tolist()) if known.draws else None
        for axis in ("column", "chain")
    }
    return {
        "residual_to_noise_db": ratio,
        "residual_to_noise_ci95_db": interval,
        "plausible_share": plausible,
        "plausible_ci95": plausible_interval,
        "white_share": white,
        "white_ci95": white_interval,
        **lags,
    }
