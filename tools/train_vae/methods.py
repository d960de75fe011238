"""What is trained, by name: the paper's VAE and what the paper compares it with.

| name | what it is | labels |
|---|---|---|
| dual_path | dual-path encoder, physics decoder, ELBO or collapsed ELBO | none |
| original_vae | the same encoder, a decoder that is learned, ELBO | none |
| labelled_vae | the same, and gamma times the squared error of the true angles | angles |
| supervised | the encoder alone: gamma times the squared error of the angles, and that of the gains | angles, gains |
| unsupervised_cnn | sparse powers on a grid that explain the covariance; their maxima, least squares for gains | none |

Decision: the paper names the last four and gives no recipe. Its first phase is of `dual_path` only.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from beamslot.dsp.nets import losses
from beamslot.dsp.nets.decoder import Decoder, LearnedDecoder, Ula
from beamslot.dsp.nets.dual_path import (
    DualPath,
    Posterior,
    SpectrumNet,
    covariance,
    largest_maxima,
    reparameterise,
)
from train_vae.scene import Frames, TorchScene

if TYPE_CHECKING:
    from train_vae.dual_path import Config

Phase = Literal["initialisation", "training"]
Parts = tuple[str, ...]


class Method(nn.Module):
    """A net in parts, each with an optimiser, and the loss of a batch."""

    def __init__(self, config: "Config", scene: TorchScene) -> None:
        super().__init__()
        self.config, self.scene, self.prior = config, scene, scene.prior
        self.make()

    def make(self) -> None:
        """Make the nets."""
        known, net = self.config.scene, self.config.encoder
        self.encoder = DualPath(
            known.users,
            known.snapshots,
            known.antennas,
            self.config.sector,
            width=net.width,
            blocks=net.blocks,
            stem=net.stem,
            norm=net.norm,
            pool=net.pool,
        )

    def parts(self) -> Mapping[str, nn.Module]:
        """Return the parts by name."""
        return {"angles": self.encoder.angles, "channel": self.encoder.channel}

    def turns(self, phase: Phase) -> Sequence[Parts]:
        """Return which parts learn in turn."""
        return [tuple(self.parts())]

    def loss(self, frames: Frames, labels: Tensor, phase: Phase, active: Parts, noise: Tensor) -> Tensor:
        """Return the loss of every frame, (F,), differentiable in the active parts.

        labels: (F, K) [rad]    noise: (F, M, K) complex, of CN(0, I), for the draws of the gains
        """
        raise NotImplementedError

    def estimate(self, frames: Frames) -> tuple[Tensor, Tensor]:
        """Return theta (F, K) and gain (F, M, K)."""
        found = self.encode(frames.observation, tuple(self.parts()))
        return found.theta, found.mean

    def encode(self, observation: Tensor, active: Parts) -> Posterior:
        """Return the posterior; parts that are not active are not differentiated."""
        with self.cast(), torch.set_grad_enabled("angles" in active and torch.is_grad_enabled()):
            theta = self.encoder.angles(observation)
        with self.cast(), torch.set_grad_enabled("channel" in active and torch.is_grad_enabled()):
            return Posterior(theta, *self.encoder.channel(observation))

    def cast(self) -> torch.autocast:
        """Return the context in which nets run, in mixed precision or not; the physics stay in single."""
        wanted = self.config.precision == "bfloat16"
        return torch.autocast(self.scene.device.type, torch.bfloat16, enabled=wanted)


class PhysicsVae(Method):
    """The paper's: the decoder is the propagation of waves."""

    linear = True
    """Whether the decoder is linear in the gains, so that an expectation has a closed form."""

    def make(self) -> None:
        """Make the nets."""
        super().make()
        known = self.config.scene
        self.decoder: nn.Module = Decoder(Ula(known.antennas, known.spacing))

    def turns(self, phase: Phase) -> Sequence[Parts]:
        """Both at once in the first phase, where they share nothing; then in turn."""
        return [("angles", "channel")] if phase == "initialisation" else [("channel",), ("angles",)]

    def loss(self, frames: Frames, labels: Tensor, phase: Phase, active: Parts, noise: Tensor) -> Tensor:
        """Return (14), then (7) or the collapsed ELBO."""
        if phase == "initialisation":
            found = self.encode(frames.observation, active)
            return losses.initialisation(
                self.elbo(frames, found._replace(theta=labels), noise), found.theta, labels, self.config.gamma
            )
        if self.config.loss == "collapsed" and active == ("angles",):
            with self.cast():
                theta = self.encoder.angles(frames.observation)
            atoms = self.scene.array(theta)
            return losses.collapsed(frames.observation, atoms, self.prior, frames.noise_var)
        return self.elbo(frames, self.encode(frames.observation, active), noise)

    def elbo(self, frames: Frames, found: Posterior, noise: Tensor) -> Tensor:
        """Return the negative ELBO of every frame, corrected or as printed."""
        printed = self.config.loss == "as_printed"
        divergence = (losses.printed_divergence if printed else losses.kl)(found.mean, found.factor, self.prior)
        misfit = self.misfit(frames, found, noise)
        if printed:
            return divergence + misfit
        return losses.negative_elbo(divergence, misfit, frames.noise_var, frames.observation[0].numel())

    def misfit(self, frames: Frames, found: Posterior, noise: Tensor) -> Tensor:
        """Return the second part of (7), of one draw or in closed form."""
        if self.config.expectation == "exact" and self.linear:
            atoms = self.scene.array(found.theta)
            return losses.expected_misfit(frames.observation, atoms, found.mean, found.factor, frames.noise_var)
        seen = self.decoder(found.theta, reparameterise(found.mean, found.factor, noise))
        return losses.misfit(frames.observation, seen, frames.noise_var)


class OriginalVae(PhysicsVae):
    """A decoder that is learned, with or without true angles beside; its misfit is always that of a draw."""

    linear = False

    def make(self) -> None:
        """Make the nets."""
        super().make()
        known = self.config.scene
        self.decoder = LearnedDecoder(known.users, known.snapshots, known.antennas)

    def parts(self) -> Mapping[str, nn.Module]:
        """Return the parts by name."""
        return {**super().parts(), "decoder": self.decoder}

    def turns(self, phase: Phase) -> Sequence[Parts]:
        """All at once: it has no order of things to find."""
        return [tuple(self.parts())]

    def loss(self, frames: Frames, labels: Tensor, phase: Phase, active: Parts, noise: Tensor) -> Tensor:
        """Return (7), and the error of the angles where it is told them."""
        found = self.encode(frames.observation, active)
        elbo = self.elbo(frames, found, noise)
        if self.config.method == "original_vae":
            return elbo
        return elbo + self.config.gamma * losses.angle_error(found.theta, frames.theta)


class Supervised(Method):
    """The encoder, told everything."""

    def loss(self, frames: Frames, labels: Tensor, phase: Phase, active: Parts, noise: Tensor) -> Tensor:
        """Return the squared errors of angles and gains."""
        found = self.encode(frames.observation, active)
        wrong = losses.angle_error(found.theta, frames.theta)
        return self.config.gamma * wrong + losses.gain_error(found.mean, frames.gain)


class UnsupervisedCnn(Method):
    """A sparse spectrum that explains the covariance."""

    grid: Tensor

    def make(self) -> None:
        """Make the net, and the grid, uniform in sin(theta) as beams are."""
        low, high = (math.sin(max(-math.pi / 2, min(math.pi / 2, end))) for end in self.config.sector)
        points = self.config.spectrum.points
        self.register_buffer("grid", torch.asin(torch.linspace(low, high, points)), persistent=False)
        self.net = SpectrumNet(self.config.scene.antennas, points, self.config.spectrum.width)

    def parts(self) -> Mapping[str, nn.Module]:
        """Return the parts by name."""
        return {"spectrum": self.net}

    def loss(self, frames: Frames, labels: Tensor, phase: Phase, active: Parts, noise: Tensor) -> Tensor:
        """Return how badly the spectrum explains the covariance, and its sparsity."""
        with self.cast():
            power = self.net(frames.observation)
        seen, atoms = covariance(frames.observation), self.scene.array(self.grid)
        return losses.spectrum_fit(seen, power, atoms, frames.noise_var, self.config.spectrum.sparsity)

    def estimate(self, frames: Frames) -> tuple[Tensor, Tensor]:
        """Return the largest maxima, by the mean of the two or three powers there, and gains by least squares."""
        with self.cast():
            power = self.net(frames.observation)
        places = largest_maxima(power, self.config.scene.users)
        around = (places[..., None] + torch.arange(-1, 2, device=places.device)).clamp(0, len(self.grid) - 1)
        heights = power.gather(1, around.flatten(1)).view_as(around) + torch.finfo(power.dtype).tiny
        theta = torch.asin((heights * self.grid.sin()[around]).sum(-1) / heights.sum(-1))
        return theta, frames.observation @ torch.linalg.pinv(self.scene.array(theta))


METHODS: dict[str, type[Method]] = {
    "dual_path": PhysicsVae,
    "original_vae": OriginalVae,
    "labelled_vae": OriginalVae,
    "supervised": Supervised,
    "unsupervised_cnn": UnsupervisedCnn,
}
