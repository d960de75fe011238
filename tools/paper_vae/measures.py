"""What is kept of every frame.

| name | meaning |
|---|---|
| angle | mean over users of the squared error of the angle, matched and wrapped [rad^2]; of a bound its variance |
| worst | largest error of an angle [rad]; above `doa_metrics.HALF_BEAM` the frame is an outlier |
| folded, folded_worst | the same where theta and 180 - theta count alike |
| gain | mean over users and snapshots of (abs(h_hat) - abs(h))^2 |
| phase | the same of the wrapped error of arg h [rad^2]; of a bound at most pi^2 / 3, that of no knowledge |
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa_bounds import crb_conditional, crb_gain, crb_unconditional
from beamslot.dsp.doa_metrics import fold, match, path_errors
from beamslot.dsp.ula import Frames
from paper_vae.methods import METHODS, estimate
from paper_vae.scene import Scene, observe

Values = dict[str, list[float]]

_IGNORANT = math.pi**2 / 3


def measure(scene: Scene, name: str, start: int, stop: int, training: Path, folder: Path) -> Values:
    """Return what is kept of frames start .. stop - 1, all of one chunk, under a method."""
    frames = observe(scene, start, stop)
    if METHODS[name].is_bound:
        return _bound(scene, name, frames)
    theta, gain = estimate(name, scene, frames, training, folder)
    matching = match(theta, frames.theta)
    paths = path_errors(gain, frames.gain, matching.which)
    folded = match(fold(theta), frames.theta, mirrored=True).error
    kept = {
        "angle": _mean_square(matching.error),
        "worst": np.abs(matching.error).max(axis=1),
        "folded": _mean_square(folded),
        "folded_worst": np.abs(folded).max(axis=1),
        "gain": _mean_square(paths.gain),
        "phase": _mean_square(paths.angle),
    }
    return {key: array.tolist() for key, array in kept.items()}


def _mean_square(error: NDArray[Any]) -> NDArray[Any]:
    return np.mean(error**2, axis=tuple(range(1, error.ndim)))


def _bound(scene: Scene, name: str, frames: Frames) -> Values:
    known = scene.antennas, scene.spacing
    if name == "crb":
        gains = crb_gain(frames.theta, frames.gain, frames.noise_var, *known)
        return {
            "angle": crb_conditional(frames.theta, frames.gain, frames.noise_var, *known).mean(-1).tolist(),
            "gain": gains.gain.mean((-2, -1)).tolist(),
            "phase": np.minimum(gains.angle, _IGNORANT).mean((-2, -1)).tolist(),
        }
    covariance = np.broadcast_to(frames.covariance, (len(frames.theta), *frames.covariance.shape))
    variance = crb_unconditional(
        frames.theta, covariance, frames.noise_var, scene.antennas, scene.snapshots, scene.spacing
    )
    return {"angle": variance.mean(-1).tolist()}
