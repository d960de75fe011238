"""Figures of merit for estimated angles and gains of users.

| symbol | name | meaning |
|---|---|---|
| theta, theta_hat | | angles of the users of a frame, true and estimated; their numbers may differ |
| beta_m, psi_m | path gain, path angle | abs(h_m) and arg(h_m) of a user in snapshot m |
| outlier | outliers | a frame in which a user is missed, or is off by more than a limit |

An RMSE is governed by rare large errors, so it stands in two forms: over the frames without outlier, beside their
share, and over all. Every figure is a mean over frames of means over the users (and snapshots) that were found.

source: paper 000, eq. (13) and section V. Decision: path angles by atan2 and wrapped; the paper says neither how users
are matched nor what becomes of outliers
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from beamslot.dsp.metrics import ExactSum
from beamslot.errors import ShapeError

Real = NDArray[np.float64]

HALF_BEAM = math.radians(1.79)
"""Off by more than this is an outlier [rad]: half the beam width 2 / N of 32 antennas, asin(1 / 32)."""

_SIGMAS = float(ndtri(0.975))


def wrap(angle: ArrayLike) -> Real:
    """Return an angle in [-pi, pi) [rad]."""
    return (np.asarray(angle, np.float64) + np.pi) % (2 * np.pi) - np.pi


def fold(theta: ArrayLike) -> Real:
    """Return the angle in [-pi/2, pi/2] that a linear array cannot tell from theta: itself, or pi - theta [rad]."""
    return np.arcsin(np.sin(np.asarray(theta, np.float64)))


class Matching(NamedTuple):
    """Which estimated user stands for which true one, frame by frame.

    error: (F, K) float64, theta_hat - theta, wrapped [rad]; NaN for a user that is missed or does not exist
    which: (F, K) int64, the estimated user, -1 where there is none
    missed, extra: (F,) int64, true users without an estimate, and estimates without a true user
    """

    error: Real
    which: NDArray[np.int64]
    missed: NDArray[np.int64]
    extra: NDArray[np.int64]


class PathErrors(NamedTuple):
    """Errors of path gains abs(h) and of path angles arg(h), (F, M, K) each, NaN where a user is missed.

    gain: beta_hat - beta    angle: psi_hat - psi, wrapped [rad]
    """

    gain: Real
    angle: Real


def match(
    theta_hat: ArrayLike,
    theta: ArrayLike,
    mask_hat: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    mirrored: bool = False,
) -> Matching:
    """Return the assignment of estimated to true users with the least sum of squared wrapped errors, frame by frame.

    As many pairs are made as the smaller side has users. Estimates that are not finite do not exist.

    theta_hat: (F, K_hat) [rad]    theta: (F, K) [rad]    mask_hat, mask: the same shapes, bool, which users exist
    mirrored: whether an angle and its mirror image behind the array, pi - theta, are the same
    raises ShapeError where the numbers of frames differ
    """
    found, true = np.asarray(theta_hat, np.float64), np.asarray(theta, np.float64)
    if found.ndim != 2 or true.ndim != 2 or len(found) != len(true):
        raise ShapeError(f"match: estimated angles are {found.shape}, true ones {true.shape}; wanted (F, K) both")
    there_hat = np.isfinite(found) & (True if mask_hat is None else np.asarray(mask_hat, np.bool_))
    there = np.broadcast_to(True if mask is None else np.asarray(mask, np.bool_), true.shape)
    if mirrored:
        found, true = fold(np.where(there_hat, found, 0)), fold(true)
    # what does not exist comes last in order, and is never picked
    found, true = np.where(there_hat, found, np.inf), np.where(there, true, np.inf)
    which = _in_order(found, true)
    for frame in np.flatnonzero(~_on_a_line(found, true)):
        users, estimates = np.flatnonzero(there[frame]), np.flatnonzero(there_hat[frame])
        which[frame] = -1
        which[frame, users] = _assigned(true[frame, users], found[frame, estimates], estimates)
    frames, users = np.nonzero(which >= 0)
    error = np.full(true.shape, np.nan)
    error[frames, users] = wrap(found[frames, which[frames, users]] - true[frames, users])
    pairs = (which >= 0).sum(1)
    return Matching(error, which, there.sum(1) - pairs, there_hat.sum(1) - pairs)


def _on_a_line(found: Real, true: Real) -> NDArray[np.bool_]:
    """Frames with as many estimates as users, all within half a circle: sorted order is the best assignment there."""
    both = np.concatenate([found, true], 1)
    there = np.isfinite(both)
    low, high = (end(np.where(there, both, 0), 1, initial=0) for end in (np.min, np.max))
    as_many = there[:, : found.shape[1]].sum(1) == there[:, found.shape[1] :].sum(1)
    return as_many & (low >= -np.pi / 2) & (high <= np.pi / 2)


def _in_order(found: Real, true: Real) -> NDArray[np.int64]:
    """The first estimate by angle for the first user by angle, and so on, as far as there are users."""
    if not found.shape[1]:
        return np.full(true.shape, -1, np.int64)
    rank = np.minimum(np.argsort(np.argsort(true, 1), 1), found.shape[1] - 1)
    return np.where(np.isfinite(true), np.take_along_axis(np.argsort(found, 1), rank, 1), -1)


def _assigned(true: Real, found: Real, names: NDArray[np.intp]) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    chosen = np.full(len(true), -1, np.int64)
    users, estimates = linear_sum_assignment(wrap(found - true[:, None]) ** 2)
    chosen[users] = names[estimates]
    return chosen


def path_errors(gain_hat: NDArray[Any], gain: NDArray[Any], which: NDArray[np.int64]) -> PathErrors:
    """Return the errors of path gains and path angles of matched users.

    gain_hat: (F, M, K_hat) complex    gain: (F, M, K) complex    which: (F, K) of a `Matching`
    raises ShapeError where the frames differ
    source: paper 000, eq. (13)
    """
    if gain_hat.shape[:2] != gain.shape[:2] or which.shape != (len(gain), gain.shape[2]):
        raise ShapeError(
            f"path_errors: estimated gains are {gain_hat.shape}, true ones {gain.shape}, which {which.shape}; "
            "wanted (F, M, K_hat), (F, M, K), (F, K)"
        )
    if not gain_hat.shape[2]:
        return PathErrors(np.full(gain.shape, np.nan), np.full(gain.shape, np.nan))
    rows = which[:, None, :]
    matched = np.take_along_axis(np.asarray(gain_hat, np.complex128), np.maximum(rows, 0), 2)
    size, phase = np.abs(matched) - np.abs(gain), np.angle(matched) - np.angle(gain)
    return PathErrors(np.where(rows >= 0, size, np.nan), np.where(rows >= 0, wrap(phase), np.nan))


def outliers(matching: Matching, limit: float = HALF_BEAM) -> NDArray[np.bool_]:
    """Return the frames (F,) in which a user is missed, or off by more than the limit [rad]."""
    return (matching.missed > 0) | np.any(np.abs(matching.error) > limit, axis=1)


def wilson(count: int, total: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a share from `count` of `total`, None from nothing.

    source: Wilson, JASA 22, 1927
    """
    if not total:
        return None
    share, z = count / total, _SIGMAS
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    return (middle - half) / scale if count else 0.0, (middle + half) / scale if count < total else 1.0


class FrameMean:
    """Running mean over frames and its interval, the same to the last bit in whatever order and batches they come."""

    def __init__(self) -> None:
        self._sum, self._squares, self.frames = ExactSum(), ExactSum(), 0

    def add(self, values: ArrayLike) -> None:
        """Take in a figure of each of some frames, (F,)."""
        for value in np.atleast_1d(np.asarray(values, np.float64)).tolist():
            self._sum.add(value)
            self._squares.add(value * value)
            self.frames += 1

    @property
    def mean(self) -> float | None:
        """The mean, None where there is none or it is not finite."""
        mean = float(self._sum) / self.frames if self.frames else math.nan
        return mean if math.isfinite(mean) else None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean by the normal distribution, cut at 0; None with fewer than two frames."""
        mean, n = self.mean, self.frames
        if mean is None or n < 2:
            return None
        scatter = max(float(self._squares) / n - mean * mean, 0.0) / (n - 1)
        half = _SIGMAS * math.sqrt(scatter)
        return max(mean - half, 0.0), mean + half

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain numbers and short lists of them."""
        return {"sum": list(self._sum.parts), "squares": list(self._squares.parts), "frames": self.frames}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "FrameMean":
        """Return the mean that `snapshot` was taken from."""
        made = cls()
        made._sum, made._squares = ExactSum(state["sum"]), ExactSum(state["squares"])
        made.frames = state["frames"]
        return made


_COUNTS = ("frames", "outliers", "right", "missed", "extra")
_MEANS = ("angle", "all_angle", "gain", "all_gain", "phase", "all_phase")


class DoaScore:
    """What became of the frames of one estimator.

    limit: off by more than this is an outlier [rad]
    """

    def __init__(self, limit: float = HALF_BEAM) -> None:
        self.limit = limit
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._means = {name: FrameMean() for name in _MEANS}

    def add(self, matching: Matching, paths: PathErrors | None = None) -> None:
        """Take in some frames.

        paths: errors of the gains of the same frames, where there are gains
        """
        out = outliers(matching, self.limit)
        right = (matching.missed == 0) & (matching.extra == 0)
        sizes = len(out), out.sum(), right.sum(), matching.missed.sum(), matching.extra.sum()
        for name, size in zip(_COUNTS, sizes, strict=True):
            self._counts[name] += int(size)
        self._add("angle", matching.error, out)
        if paths is not None:
            self._add("gain", paths.gain, out)
            self._add("phase", paths.angle, out)

    def _add(self, name: str, errors: Real, out: NDArray[np.bool_]) -> None:
        flat = errors.reshape(len(out), math.prod(errors.shape[1:]))
        known = ~np.isnan(flat)
        some = known.any(1)
        square = np.sum(np.where(known, flat, 0) ** 2, 1) / np.maximum(known.sum(1), 1)
        self._means[f"all_{name}"].add(square[some])
        self._means[name].add(square[some & ~out])

    def result(self) -> dict[str, Any]:
        """Return what is known so far, as plain values; None for what is not known.

        returns frames: their number
            rmse_deg, rmse_ci95_deg: of the angles, over frames without outlier, and its interval
            outlier_share, outlier_ci95: share of frames with an outlier, and its interval (Wilson)
            total_rmse_deg: of the angles over all frames
            right_count_share: share of frames with the right number of users
            missed, extra: users over all frames that were not found, or found and not there
            path_gain_mse, path_angle_mse: over frames without outlier, the angle's in rad^2
            total_path_gain_mse, total_path_angle_mse: over all frames
        """
        counts, means = self._counts, self._means
        frames = counts["frames"]
        interval = means["angle"].ci95
        return {
            "frames": frames,
            "rmse_deg": root_deg(means["angle"].mean),
            "rmse_ci95_deg": None if interval is None else [root_deg(end) for end in interval],
            "outlier_share": counts["outliers"] / frames if frames else None,
            "outlier_ci95": None if (share := wilson(counts["outliers"], frames)) is None else list(share),
            "total_rmse_deg": root_deg(means["all_angle"].mean),
            "right_count_share": counts["right"] / frames if frames else None,
            "missed": counts["missed"],
            "extra": counts["extra"],
            "path_gain_mse": means["gain"].mean,
            "path_angle_mse": means["phase"].mean,
            "total_path_gain_mse": means["all_gain"].mean,
            "total_path_angle_mse": means["all_phase"].mean,
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain numbers and short lists of them."""
        means = {name: mean.snapshot() for name, mean in self._means.items()}
        return {"limit": self.limit, "counts": dict(self._counts), "means": means}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "DoaScore":
        """Return the score that `snapshot` was taken from."""
        made = cls(state["limit"])
        made._counts = dict(state["counts"])
        made._means = {name: FrameMean.restore(mean) for name, mean in state["means"].items()}
        return made


def root_deg(variance: float | None) -> float | None:
    """Return the root of a mean square [rad^2] in degrees; None stays None."""
    return None if variance is None else math.degrees(math.sqrt(variance))
