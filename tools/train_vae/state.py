"""Where a training stands, on disk: weights and moments of the optimisers as arrays, the rest as JSON.

A checkpoint of `beamslot.dsp.nets.checkpoint`: written whole or not at all, and nothing in it is executed when it is
read. All random numbers are keyed by seed and step, so the step is all that there is to know of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from beamslot.dsp.nets.checkpoint import Checkpoint, load, save
from beamslot.errors import BadCheckpoint

KIND = "dual_path_training"


def write(
    path: Path, net: nn.Module, optimisers: Mapping[str, Optimizer], config: Any, card: Mapping[str, Any]
) -> None:
    """Write the state; raises StorageError where that is not possible."""
    save(path, Checkpoint(KIND, config, {**weights(net, "net."), **_moments(optimisers)}, card))


def read(path: Path, net: nn.Module, optimisers: Mapping[str, Optimizer], config: Mapping[str, Any]) -> dict[str, Any]:
    """Put back a state that is of the same configuration; return its card.

    raises BadCheckpoint for a file that is damaged, or of something else
    """
    found = load(path, KIND)
    differing = [name for name in {*config, *found.architecture} if config.get(name) != found.architecture.get(name)]
    if differing:
        told = (f"{name} was {found.architecture.get(name)!r}, is {config.get(name)!r}" for name in sorted(differing))
        raise BadCheckpoint(f"{path} is of another configuration ({'; '.join(told)}); --fresh starts anew")
    held = {name: torch.from_numpy(array) for name, array in found.weights.items()}
    try:
        net.load_state_dict({name[4:]: array for name, array in held.items() if name.startswith("net.")})
        for name, optimiser in optimisers.items():
            _restore(optimiser, f"moments.{name}.", held)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BadCheckpoint(f"{path}: does not fit the net: {error}") from None
    return dict(found.card)


def weights(net: nn.Module, prefix: str = "") -> dict[str, np.ndarray[Any, Any]]:
    """Return weights and buffers of a net as arrays."""
    return {prefix + name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}


def _moments(optimisers: Mapping[str, Optimizer]) -> dict[str, np.ndarray[Any, Any]]:
    return {
        f"moments.{name}.{place}.{key}": value.detach().cpu().numpy()
        for name, optimiser in optimisers.items()
        for place, entry in optimiser.state_dict()["state"].items()
        for key, value in entry.items()
    }


def _restore(optimiser: Optimizer, prefix: str, held: Mapping[str, torch.Tensor]) -> None:
    state = dict[int, dict[str, torch.Tensor]]()
    for name, tensor in held.items():
        if name.startswith(prefix):
            place, key = name[len(prefix) :].split(".")
            state.setdefault(int(place), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
