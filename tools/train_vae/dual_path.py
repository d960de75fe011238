"""The trainer of the paper's dual-path VAE: two phases, in the second the two paths in turn; and of its rivals.

Random numbers are keyed by seed and step: a training that was stopped anywhere goes on to the same numbers as one that
was not, on the same device and with the same number of threads.

source: paper 000, sections III-C and V
"""

import hashlib
import json
import math
import platform
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.optim import Adam

from beamslot.dsp.nets.checkpoint import Checkpoint, save
from beamslot.dsp.nets.dual_path import Average, Pick, label_grid, pseudo_labels
from beamslot.dsp.nets.losses import Weighting, weighted_mean
from beamslot.dsp.nets.resnet import EIGHTEEN, Norm, Pool, Stem, parameters
from beamslot.dsp.ula import S0, UlaScene
from beamslot.errors import BadParam
from train_vae import judge, state
from train_vae.methods import METHODS, Method, Phase
from train_vae.scene import Frames, TorchScene
from train_vae.together import Team, chosen, team
from train_vae.trainers import Progress

STATE, MODEL, RESULT = "state.safetensors", "model.safetensors", "result.json"
"""Where a training stands; what it made; how accurate that is."""

_CHUNK = 1000
"""Frames that are made, or judged, at a time."""

_ASK_EVERY = 10
"""Steps between two times that several processes ask each other whether to stop."""

_FREE = ("device", "training_epochs", "log_every", "checkpoint_every", "evaluate_every")
"""What may differ when a training goes on."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneSettings(_Settings):
    """Where users are and how their channels behave, as dsp/ula.UlaScene has it; angles in degrees here."""

    antennas: int = 32
    users: int = 3
    snapshots: int = 40
    spacing: float = 0.5
    sector_deg: tuple[float, float] = (-60.0, 60.0)
    separation: float = S0
    correlation: float = 0.0
    k_factor_db: float | None = None
    mean_phase: Literal["known", "random"] = "known"
    snr_db: float | tuple[float, float] = Field(default=10.0, description="of every frame, or uniform between two")

    def made(self) -> UlaScene:
        """Return the scene; raises BadParam for a value that it cannot have."""
        kept = self.model_dump(exclude={"sector_deg", "snr_db"})
        return UlaScene(**kept, sector=_radians(self.sector_deg))


class EncoderSettings(_Settings):
    """Both nets of the encoder."""

    width: int = Field(default=64, ge=1)
    blocks: tuple[int, ...] = EIGHTEEN
    stem: Stem = "imagenet"
    norm: Norm = "batch"
    pool: Pool = "average"
    sector_deg: tuple[float, float] | None = Field(
        default=None, description="of the angles; the scene's where it is not given"
    )


class LabelSettings(_Settings):
    """Pseudo-labels of the first phase."""

    step_deg: float = Field(default=0.01, gt=0)
    average: Average = "power"
    pick: Pick = "maxima"


class SpectrumSettings(_Settings):
    """Of the unsupervised CNN."""

    points: int = Field(default=181, ge=3)
    width: int = Field(default=32, ge=1)
    sparsity: float = Field(default=1e-3, ge=0)


class Config(_Settings):
    """What is trained, on what, for how long.

    data "fixed": the same training frames in every epoch, as in the paper; "fresh": new ones in every step
    alternation: batches before the other path's turn    batch: frames, of all processes together
    """

    kind: Literal["dual_path"] = "dual_path"
    method: Literal["dual_path", "original_vae", "labelled_vae", "supervised", "unsupervised_cnn"] = "dual_path"
    scene: SceneSettings = SceneSettings()
    encoder: EncoderSettings = EncoderSettings()
    labels: LabelSettings = LabelSettings()
    spectrum: SpectrumSettings = SpectrumSettings()
    loss: Literal["corrected", "as_printed", "collapsed"] = "corrected"
    expectation: Literal["sampled", "exact"] = "sampled"
    weighting: Weighting = "none"
    gamma: float = Field(default=1000.0, gt=0, description="of squared angles [1/rad^2]")
    initialisation_epochs: int = Field(default=200, ge=0)
    training_epochs: int = Field(default=800, ge=0)
    alternation: int = Field(default=1, ge=1)
    data: Literal["fixed", "fresh"] = "fixed"
    train_frames: int = Field(default=40_000, ge=1)
    test_frames: int = Field(default=10_000, ge=1)
    batch: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = Field(default=2025, ge=0)
    log_every: int = Field(default=100, ge=1, description="steps")
    checkpoint_every: int = Field(default=1000, ge=1, description="steps")
    evaluate_every: int = Field(default=10, ge=0, description="epochs; 0: at the end only")

    @property
    def sector(self) -> tuple[float, float]:
        """Where the net looks for users [rad]."""
        return _radians(self.encoder.sector_deg or self.scene.sector_deg)

    @property
    def epoch(self) -> int:
        """Steps of an epoch; frames beyond the last whole batch wait for the next shuffle."""
        return self.train_frames // self.batch

    @property
    def first_phase(self) -> int:
        """Steps of the first phase, which is of the paper's VAE only."""
        return self.initialisation_epochs * self.epoch if self.method == "dual_path" else 0

    @property
    def steps(self) -> int:
        """Steps of both phases; all methods get as many."""
        return (self.initialisation_epochs + self.training_epochs) * self.epoch


def train(config: Config, out: Path, progress: Progress) -> None:
    """Train, or go on; leaves STATE, MODEL and RESULT under `out`.

    raises BadParam for settings that do not fit; BadCheckpoint for a state that does not; KeyboardInterrupt
        where `progress` does, once it has saved
    """
    if not config.epoch:
        raise BadParam(f"batch is {config.batch}, wanted at most train_frames = {config.train_frames}")
    device = chosen(config.device)
    with team(device) as crew:
        if config.batch % crew.size:
            raise BadParam(f"batch is {config.batch}, wanted a multiple of the {crew.size} processes")
        Training(config, out, crew, device).run(progress)


class Training:
    """One process of a training."""

    def __init__(self, config: Config, out: Path, crew: Team, device: torch.device) -> None:
        self.config, self.out, self.crew, self.device = config, out, crew, device
        self.scene = TorchScene(config.scene.made(), config.scene.snr_db, device)
        torch.manual_seed(_key(config.seed, "weights"))
        self.method: Method = METHODS[config.method](config, self.scene).to(device)
        self.optimisers = self._begin()
        self.step, self._order = 0, (-1, torch.empty(0))
        self.losses = dict[str, Tensor]()

    def run(self, progress: Progress) -> None:
        """Train to the end."""
        self._resume(progress)
        steps, wish = self.config.steps, False
        while self.step < steps:
            told = {"step": self.step + 1, "steps": steps, "phase": self._advance()}
            if not self.step % self.config.log_every:
                told |= {f"loss_{name}": round(float(loss), 6) for name, loss in self.losses.items()}
            if self._judges(self.step):
                told |= self._accuracy()
            if not self.step % self.config.checkpoint_every:
                self._save()
            try:
                progress(told)
            except KeyboardInterrupt:
                wish = True
            if (self.crew.size == 1 or not self.step % _ASK_EVERY) and self.crew.any(wish):
                self._save()
                raise KeyboardInterrupt
        self._finish(progress)

    def _begin(self) -> dict[str, Adam]:
        """Return new optimisers, for each phase: with moments of a loss of another scale Adam takes steps too long."""
        return {name: Adam(part.parameters(), self.config.learning_rate) for name, part in self.method.parts().items()}

    def _advance(self) -> Phase:
        """Learn from one batch."""
        config, step = self.config, self.step
        phase: Phase = "initialisation" if step < config.first_phase else "training"
        turns = self.method.turns(phase)
        active = turns[(step - config.first_phase) // config.alternation % len(turns)]
        if step == config.first_phase:
            self.losses.clear()
            self.optimisers = self._begin()
        frames, labels = self._batch(step, phase)
        noise = torch.randn(
            frames.gain.shape,
            generator=_generator(self.device, config.seed, "draws", step),
            dtype=frames.gain.dtype,
            device=self.device,
        )
        if self.crew.size > 1:
            share = self.crew.share(config.batch)
            frames, labels, noise = frames.at(share), labels[share], noise[share]
        loss = weighted_mean(self.method.loss(frames, labels, phase, active, noise), frames.noise_var, config.weighting)
        learning = [self.optimisers[name] for name in active]
        for optimiser in learning:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [w.grad for one in learning for group in one.param_groups for w in group["params"]]
        self.crew.average([gradient for gradient in gradients if gradient is not None])
        for optimiser in learning:
            optimiser.step()
        self.losses["_".join(active)] = loss.detach()
        self.step += 1
        return phase

    def _batch(self, step: int, phase: Phase) -> tuple[Frames, Tensor]:
        """Return the frames of a step, and their pseudo-labels where these are wanted."""
        config, wanted = self.config, phase == "initialisation"
        if config.data == "fresh":
            frames = self.scene.frames(_generator(self.device, config.seed, "frames", step), config.batch)
            return frames, self._labels(frames) if wanted else frames.theta
        epoch, place = divmod(step, config.epoch)
        if self._order[0] != epoch:
            shuffle = _generator(torch.device("cpu"), config.seed, "order", epoch)
            self._order = epoch, torch.randperm(config.train_frames, generator=shuffle).to(self.device)
        places = self._order[1][place * config.batch : (place + 1) * config.batch]
        frames = self._fixed.at(places)
        return frames, self._fixed_labels[places] if wanted else frames.theta

    @cached_property
    def _fixed(self) -> Frames:
        parts = self._drawn("training", self.config.train_frames)
        return Frames(*(torch.cat(arrays) for arrays in zip(*parts, strict=True)))

    @cached_property
    def _fixed_labels(self) -> Tensor:
        return self._labels(self._fixed)

    def _labels(self, frames: Frames) -> Tensor:
        known, labels = self.config.scene, self.config.labels
        grid = label_grid(self.config.sector, math.radians(labels.step_deg)).to(self.device)
        how = {"average": labels.average, "pick": labels.pick}
        return pseudo_labels(frames.observation, known.users, grid, known.spacing, **how)  # type: ignore[arg-type]

    def _drawn(self, name: str, count: int) -> Iterator[Frames]:
        for place in range(0, count, _CHUNK):
            generator = _generator(self.device, self.config.seed, name, place)
            yield self.scene.frames(generator, min(_CHUNK, count - place))

    def _judges(self, step: int) -> bool:
        every = self.config.evaluate_every * self.config.epoch
        return bool(every) and not step % every and step < self.config.steps

    def _accuracy(self) -> dict[str, float]:
        """Return the accuracy on frames that were never trained on, the same every time; by every process, to agree."""
        self.crew.agree(self.method)
        self.method.eval()
        total = dict[str, float]()
        with torch.no_grad():
            for frames in self._drawn("test", self.config.test_frames):
                seen = judge.sums(self.scene, self.method.prior, frames, *self.method.estimate(frames))
                total = {name: total.get(name, 0.0) + value for name, value in seen.items()}
        self.method.train()
        found = judge.figures(total, self.config.scene.users)
        return {name: float(f"{value:.6g}") for name, value in found.items() if not math.isnan(value)}

    def _resume(self, progress: Progress) -> None:
        path = self.out / STATE
        if path.exists():
            card = state.read(path, self.method, self.optimisers, self._identity())
            self.step = int(card["step"])
            self.losses = {name: torch.tensor(loss) for name, loss in card["losses"].items()}
            progress({"step": self.step, "steps": self.config.steps, "resumed": 1})

    def _save(self) -> None:
        self.crew.agree(self.method)
        if self.crew.leads:
            card = {"step": self.step, "losses": {name: float(loss) for name, loss in self.losses.items()}}
            state.write(self.out / STATE, self.method, self.optimisers, self._identity(), card)

    def _finish(self, progress: Progress) -> None:
        self._save()
        found = self._accuracy()
        if self.crew.leads:
            card = {
                "config": self.config.model_dump(mode="json"),
                "steps": self.step,
                "parameters": parameters(self.method),
                "test": found,
                "versions": {"python": platform.python_version()} | {n: version(n) for n in ("beamslot", "torch")},
            }
            architecture = self.config.model_dump(mode="json", include={"method", "scene", "encoder", "spectrum"})
            save(self.out / MODEL, Checkpoint("dual_path", architecture, state.weights(self.method), card))
            (self.out / RESULT).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        progress({"step": self.step, "steps": self.config.steps, "phase": "result", **found})

    def _identity(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json", exclude=set(_FREE))


def _radians(degrees: tuple[float, float]) -> tuple[float, float]:
    return math.radians(degrees[0]), math.radians(degrees[1])


def _key(seed: int, name: str, number: int = 0) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name} {number}".encode()).digest()[:8]) >> 1


def _generator(device: torch.device, seed: int, name: str, number: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(_key(seed, name, number))
