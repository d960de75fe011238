"""Trainings by `train_vae`, each once and kept, and estimates by what they made.

A training is a configuration; its folder is named after it. One that was stopped goes on where it last saved. What was
trained stays until its folder is deleted: a change of the trainer's source trains nothing anew.

The first phase of the paper's VAE does not depend on what follows: it is trained once, is a method of its own ("first
phase only"), and both second phases, by the ELBO and by the collapsed one, go on from it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from beamslot.dsp.nets.checkpoint import load, save
from beamslot.dsp.ula import Frames
from paper_vae.scene import Scene
from train_vae import dual_path, settings
from train_vae.dual_path import MODEL, STATE, Config
from train_vae.log import CSV, Table
from train_vae.methods import METHODS, Method
from train_vae.scene import Frames as Tensors
from train_vae.scene import TorchScene
from train_vae.state import KIND

QUICK, SMALL = (Path(__file__).parent / "configs" / name for name in ("quick.yml", "small.yml"))
"""Budgets that come with the tool; the paper's is `paper.yml` of `train_vae`."""

FIRST = "first phase"
"""In place of a method's changes: what is there after the first phase."""

_PAPER_FRAMES = 312_000 * 128
"""That the paper's training sees, over all epochs."""

_CPU = torch.device("cpu")


@lru_cache
def _read(training: Path) -> dict[str, Any]:
    return settings.read(training)


def config(training: Path, scene: Scene, changes: Mapping[str, Any]) -> Config:
    """Return the configuration of one training: a budget, a scene, and what a method changes.

    Decision: gamma of the VAE with labels is what a decoder that explains nothing leaves, so that both terms of its
    loss are of the same order, as the paper asks of (14); with the fixed one labels do not count at high SNR
    """
    found = json.loads(json.dumps(_read(training)))
    found["scene"] = found.get("scene", {}) | {
        "antennas": scene.antennas,
        "users": scene.users,
        "snapshots": scene.snapshots,
        "spacing": scene.spacing,
        "separation": scene.separation,
        "sector_deg": scene.sector_deg,
        "correlation": scene.correlation,
        "snr_db": scene.snr_db,
    }
    found["seed"] = scene.seed
    for name, value in changes.items():
        found[name] = found.get(name, {}) | value if isinstance(value, Mapping) else value
    if found["method"] == "labelled_vae":
        found["gamma"] = scene.antennas * scene.snapshots * scene.users * 10 ** (scene.snr_db / 10)
    made = settings.checked(Config, found, str(training))
    if changes.get("initialisation_epochs") == 0:  # as many steps in all
        epochs = settings.checked(Config, _read(training), str(training))
        return made.model_copy(update={"training_epochs": epochs.initialisation_epochs + epochs.training_epochs})
    return made


def budget(training: Path) -> str:
    """Return a budget in words."""
    one = settings.checked(Config, _read(training), str(training))
    net = one.encoder
    return (
        f"{one.steps} steps of {one.batch} frames, {one.initialisation_epochs * one.epoch} of them the first phase "
        f"(paper: 312,000 of 128, 62,400), width {net.width} and {2 * sum(net.blocks) + 2} layers (paper: 64, 18), "
        f"one training and one seed an SNR"
    )


def share(training: Path) -> str:
    """Return what part of the frames that the paper trains with a budget has."""
    one = settings.checked(Config, _read(training), str(training))
    return f"{100 * one.steps * one.batch / _PAPER_FRAMES:.2g} %"


def place(one: Config, folder: Path) -> Path:
    """Return where a training is kept."""
    text = json.dumps(one.model_dump(mode="json"), sort_keys=True)
    name = f"{one.method}-{one.loss}-{one.scene.snr_db}dB"
    return folder / "nets" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def trained(one: Config, folder: Path) -> Path:
    """Return the checkpoint of a training; train it where there is none."""
    out = place(one, folder)
    if not (out / MODEL).exists():
        out.mkdir(parents=True, exist_ok=True)
        if one.first_phase and one.training_epochs and not (out / STATE).exists():
            _adopt(trained(first_phase(one), folder).parent / STATE, one, out / STATE)
        dual_path.train(one, out, _Log(out))
    return out / MODEL


def first_phase(one: Config) -> Config:
    """Return a training that ends after its first phase, which is the same for both forms of the second."""
    return one.model_copy(update={"training_epochs": 0, "loss": "corrected"})


def _adopt(source: Path, one: Config, target: Path) -> None:
    """Begin a training with the state that another one reached by the same steps."""
    state = load(source, KIND)
    save(target, replace(state, architecture={**state.architecture, "loss": one.loss}))


class _Log:
    """Keeps what a training tells."""

    def __init__(self, out: Path) -> None:
        self.table = Table(out / CSV)

    def __call__(self, told: dict[str, Any]) -> None:
        if "resumed" in told:
            self.table.after(told["step"])
        elif len(told) > 3:
            self.table.add({name: value for name, value in told.items() if name != "steps"})


@lru_cache(maxsize=4)
def _net(path: Path) -> Method:
    found = load(path, "dual_path")
    one = Config.model_validate(found.card["config"])
    made = METHODS[one.method](one, TorchScene(one.scene.made(), one.scene.snr_db, _CPU))
    made.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in found.weights.items()})
    return made.eval()


def estimate(path: Path, frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Return theta (F, K) and gain (F, M, K) of a checkpoint; the truth in the frames is not looked at."""
    with torch.no_grad():
        theta, gain = _net(path).estimate(_tensors(frames))
    return theta.double().numpy(), gain.to(torch.complex128).numpy()


def _tensors(frames: Frames) -> Tensors:
    single = (torch.from_numpy(frames.observation), torch.from_numpy(frames.gain.astype(np.complex64)))
    return Tensors(*single, *(torch.from_numpy(one.astype(np.float32)) for one in (frames.theta, frames.noise_var)))
