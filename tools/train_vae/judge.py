"""Accuracy of estimates of angles and gains, users in the order of their angles.

RMSE over all frames is ruled by a few that are far off, so three figures are told: the share of frames with a user
further off than half a beam, the RMSE without them, and the RMSE with them.
"""

import math

import torch
from torch import Tensor

from beamslot.dsp.nets import losses
from beamslot.dsp.nets.losses import Prior
from train_vae.scene import Frames, TorchScene

OUTLIER = math.radians(1.79)
"""Half a beam of 32 antennas at broadside [rad]; a frame with a user further off is an outlier."""


def sums(scene: TorchScene, prior: Prior, frames: Frames, theta: Tensor, gain: Tensor) -> dict[str, float]:
    """Return sums over frames, to be added up and given to `figures`.

    theta: (F, K) [rad] in any order    gain: (F, M, K) in the order of theta
    """
    order = theta.argsort(-1)
    theta = theta.gather(-1, order)
    gain = gain.gather(-1, order[:, None].expand_as(gain))
    error = _wrapped(theta - frames.theta)
    good = (error.abs() <= OUTLIER).all(-1)
    atoms, truth = scene.array(theta), frames.gain @ scene.array(frames.theta)
    best = losses.posterior(frames.observation, atoms, prior, frames.noise_var).mean
    sums = {
        "frames": float(len(theta)),
        "good": good.sum(),
        "angle": error.square().sum(),
        "angle_good": error[good].square().sum(),
        "channel": _relative(gain @ atoms, truth),
        "closed": _relative(best @ atoms, truth),
        "gain": (gain.abs() - frames.gain.abs()).square().mean((1, 2)).sum(),
        "phase": _wrapped(gain.angle() - frames.gain.angle()).square().mean((1, 2)).sum(),
    }
    return {name: float(value) for name, value in sums.items()}


def figures(sums: dict[str, float], users: int) -> dict[str, float]:
    """Return what is told.

    aoa_rmse_deg: without outliers, nan where there are no others    aoa_rmse_all_deg: with them
    outliers: share of frames
    nmse_db: of the channel A h by the gains that were estimated    nmse_closed_db: by Prop. 3 at the angles estimated
    gain_mse, phase_mse: of path gains, of path angles [rad^2], wrapped, by the gains that were estimated
    """
    frames, good = sums["frames"], sums["good"]
    return {
        "aoa_rmse_deg": math.degrees(math.sqrt(sums["angle_good"] / (good * users))) if good else math.nan,
        "aoa_rmse_all_deg": math.degrees(math.sqrt(sums["angle"] / (frames * users))),
        "outliers": 1 - good / frames,
        "nmse_db": 10 * math.log10(sums["channel"] / frames),
        "nmse_closed_db": 10 * math.log10(sums["closed"] / frames),
        "gain_mse": sums["gain"] / frames,
        "phase_mse": sums["phase"] / frames,
    }


def _relative(seen: Tensor, truth: Tensor) -> Tensor:
    """Return the sum over frames of ||seen - truth||^2 / ||truth||^2."""
    power = truth.abs().square().sum((1, 2))
    return ((seen - truth).abs().square().sum((1, 2)) / power).sum()


def _wrapped(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
