"""Frames of `beamslot.dsp.ula`, made by torch where they are wanted; the same scene, other random numbers.

Everything is drawn from one generator in a fixed order, so that a seed gives the same frames again on the same device.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from beamslot.dsp.nets.decoder import Ula
from beamslot.dsp.nets.losses import Prior
from beamslot.dsp.ula import UlaScene
from beamslot.errors import BadParam

RIDGE = 1e-6
"""Added to the diagonal of a prior's covariance [W], so that coherent users have a density."""

_TRIES = 1000


class Frames(NamedTuple):
    """F frames: observation (F, M, N), gain (F, M, K), complex64; theta (F, K), ascending [rad]; noise_var (F,)."""

    observation: Tensor
    gain: Tensor
    theta: Tensor
    noise_var: Tensor

    def at(self, places: Tensor | slice) -> "Frames":
        """Return some of the frames."""
        return Frames(*(array[places] for array in self))


class TorchScene:
    """A scene on a device.

    snr_db: of all frames, or (least, largest), uniform between
    """

    def __init__(self, scene: UlaScene, snr_db: float | tuple[float, float], device: torch.device) -> None:
        self.scene, self.device = scene, device
        self.snr_db = snr_db if isinstance(snr_db, tuple) else (snr_db, snr_db)
        self.array = Ula(scene.antennas, scene.spacing).to(device)
        values, vectors = torch.linalg.eigh(torch.from_numpy(scene.covariance))
        self._fading = (vectors * torch.sqrt(values.clamp(min=0))).to(device, torch.complex64)

    @property
    def prior(self) -> Prior:
        """What an estimator can know of the gains: a mean of random phase is none, its power is variance."""
        covariance, mean = torch.from_numpy(self.scene.covariance), self.scene.mean
        eye = torch.eye(self.scene.users, dtype=covariance.dtype)
        if self.scene.mean_phase == "random":
            covariance, mean = covariance + mean**2 * eye, 0.0
        factor = torch.linalg.cholesky(covariance + RIDGE * eye)
        known = torch.full((self.scene.users,), mean, dtype=torch.complex64, device=self.device)
        return Prior(known, factor.to(self.device, torch.complex64))

    def frames(self, generator: torch.Generator, count: int) -> Frames:
        """Return independent frames."""
        scene, (low, high) = self.scene, self.snr_db
        theta = self._angles(generator, count)
        noise_var = 10 ** (-(low + (high - low) * self._uniform(generator, count)) / 10)
        phase = torch.zeros(count, scene.users, device=self.device)
        if scene.mean_phase == "random":
            phase = 2 * math.pi * self._uniform(generator, count, scene.users)
        mean = torch.polar(torch.full_like(phase, scene.mean), phase)
        gain = mean[:, None] + self._normal(generator, count, scene.snapshots, scene.users) @ self._fading.T
        noise = self._normal(generator, count, scene.snapshots, scene.antennas)
        seen = gain @ self.array(theta) + torch.sqrt(noise_var)[:, None, None] * noise
        return Frames(seen, gain, theta, noise_var)

    def _angles(self, generator: torch.Generator, count: int) -> Tensor:
        low, high = self.scene.sector
        theta = torch.empty(count, self.scene.users, device=self.device)
        left = torch.arange(count, device=self.device)
        for _ in range(_TRIES):
            drawn = (low + (high - low) * self._uniform(generator, len(left), self.scene.users)).sort(-1).values
            theta[left] = drawn
            close = torch.diff(torch.sin(drawn).sort(-1).values, dim=-1) < self.scene.separation
            left = left[close.any(-1)]
            if not len(left):
                return theta
        raise BadParam(f"scene.separation is {self.scene.separation}, wanted such that the users fit the sector")

    def _uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=self.device)

    def _normal(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.complex64, device=self.device)  # E|.|^2 = 1
