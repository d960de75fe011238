"""What is kept of every draw.

| name | meaning |
|---|---|
| nmse | ||h_hat - h||^2 / ||h||^2 over all N_r antennas |
| crb | the bound of the same, of that draw |
| found, missed, false | true paths found, true paths not found, estimated paths that are none |
| los_u, los_v, los_crb_u, los_crb_v | squared errors of the strongest path, and their bounds; NaN where not found |
| rest, rest_u, rest_v, rest_crb_u, rest_crb_v | the other paths found: how many, sums of squared errors and of bounds |
| gain | |h_hat^H h|^2 / (||h_hat||^2 ||h||^2): the beamforming gain kept by a receiver matched to h_hat, 0 for none |

A true path is found when an estimated one lies within half a resolution cell of it, 1 / (N d) wide, in u and in v
(pairs are matched one to one, so that the sum of distances is least). Angles are judged of paths that were found and
that can be resolved: the root of their bound is less than a quarter of a cell in u and in v. A bound of several cells,
as two paths on top of each other have, says nothing of errors that are cut at half a cell.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from beamslot.dsp.bounds import crb_channel
from beamslot.dsp.channel import Paths
from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import gram, steering
from beamslot.dsp.metrics import nmse
from beamslot.frame import Operator
from paper_hbf.methods import METHODS, estimate
from paper_hbf.scene import CHUNK, Observed, Scene, observe, operator

Values = dict[str, list[float]]

_FAR = 1e3
_RESOLVED = 0.25


def measure(scene: Scene, name: str, start: int, stop: int) -> Values:
    """Return what is kept of draws start .. stop - 1, all of one chunk, under a method."""
    seen, front = observe(scene, start, stop), operator(scene, start // CHUNK)
    if name == "crb":
        bound = crb_channel(
            seen.paths.gain, seen.paths.u, seen.paths.v, seen.paths.mask, front, scene.geometry, scene.noise_var_w
        )
        return {"nmse": bound.tolist()}
    method = METHODS[name]
    found = estimate(method, method(scene.geometry, front), seen.observation, seen.paths)
    kept: Values = {"nmse": nmse(found.channel, seen.channel).tolist(), "gain": _gain(found, seen).tolist()}
    if method.truth:
        return kept
    bounds = crb_directions(seen.paths, front, scene)
    rows = [_paths(scene, seen.paths, bounds, found, draw) for draw in range(stop - start)]
    return kept | {key: [row[key] for row in rows] for key in rows[0]}


def _gain(found: Estimate, seen: Observed) -> NDArray[np.float64]:
    def inner(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.complex128]:
        return np.einsum("dyz,dyz->d", one.conj(), other, dtype=np.complex128)

    norms = inner(found.channel, found.channel).real * inner(seen.channel, seen.channel).real
    match = np.abs(inner(found.channel, seen.channel)) ** 2
    return np.divide(match, norms, out=np.zeros_like(match), where=norms > 0)


def _paths(scene: Scene, truth: Paths, bounds: NDArray[np.float64], found: Estimate, draw: int) -> dict[str, float]:
    mask = found.mask[draw]
    off_u = truth.u[draw][:, None].astype(float) - found.u[draw][mask]
    off_v = truth.v[draw][:, None].astype(float) - found.v[draw][mask]
    in_cells = np.maximum(np.abs(off_u) * scene.n_y / 2, np.abs(off_v) * scene.n_z / 2)
    true, theirs = linear_sum_assignment(np.where(in_cells < 0.5, in_cells, _FAR))
    hit = in_cells[true, theirs] < 0.5
    true, theirs = true[hit], theirs[hit]
    strongest = int(np.abs(truth.gain[draw]).argmax())
    squares_u, squares_v = off_u[true, theirs] ** 2, off_v[true, theirs] ** 2
    limit = np.array([[2 / scene.n_y], [2 / scene.n_z]]) * _RESOLVED
    judged = np.all(bounds[draw] < limit**2, axis=0)[true]
    los, rest = judged & (true == strongest), judged & (true != strongest)
    nothing = float("nan")
    return {
        "missed": float(truth.u.shape[1] - len(true)),
        "false": float(mask.sum() - len(true)),
        "los_u": float(squares_u[los][0]) if los.any() else nothing,
        "los_v": float(squares_v[los][0]) if los.any() else nothing,
        "los_crb_u": float(bounds[draw, 0, strongest]) if los.any() else nothing,
        "los_crb_v": float(bounds[draw, 1, strongest]) if los.any() else nothing,
        "rest": float(rest.sum()),
        "rest_u": float(squares_u[rest].sum()),
        "rest_v": float(squares_v[rest].sum()),
        "rest_crb_u": float(bounds[draw, 0, true[rest]].sum()),
        "rest_crb_v": float(bounds[draw, 1, true[rest]].sum()),
    }


def crb_directions(paths: Paths, front: Operator, scene: Scene) -> NDArray[np.float64]:
    """Return the Cramer-Rao bounds of u and v of all paths, all angles and gains unknown.

    paths: (draw, path)    returns (draw, 2, path) float64
    source: paper 004, eq. (38), for all paths and both coordinates
    """
    columns, rows = steering(scene.n_y, paths.u), steering(scene.n_z, paths.v)
    moved = columns * paths.gain[..., None]
    kinds_y = np.concatenate([1j * np.pi * np.arange(scene.n_y) * moved, moved, columns, 1j * columns], -2)
    kinds_z = np.concatenate([rows, 1j * np.pi * np.arange(scene.n_z) * rows, rows, rows], -2)
    seen = combine_separable(kinds_y, kinds_z, *distinct(front.weights))
    information = 2 / scene.noise_var_w * np.real(gram(seen))
    scale = 1 / np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))
    inverse = np.linalg.pinv(information * scale[..., None] * scale[..., None, :], rcond=1e-12, hermitian=True)
    variance = np.diagonal(inverse, axis1=-2, axis2=-1) * scale**2
    return variance[..., : 2 * scene.paths].reshape(-1, 2, scene.paths)
