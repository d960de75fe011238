"""The one table of trainers: the `kind` of a configuration -> the module that trains it, imported when asked for."""

import difflib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import BaseModel

from beamslot.errors import BadParam

TRAINERS = {
    "dual_path": "train_vae.dual_path",
    "vae_ula": "beamslot.dsp.nets.vae_ula_training",
    "vae_upa": "beamslot.dsp.nets.vae_upa_training",
}
"""Of the paper's VAE; of the heat-map VAE of the line; of the one behind a combiner."""

Progress = Callable[[dict[str, Any]], None]
"""Called between steps with numbers by name; raises KeyboardInterrupt when it is time to save and stop."""


class Trainer(Protocol):
    """What a module of the table has."""

    Config: type[BaseModel]

    def train(self, config: Any, out: Path, progress: Progress) -> None:
        """Train, with everything that is kept under `out`; go on where `out` holds a training that was stopped."""


def trainer(kind: Any) -> Trainer:
    """Return the module of a kind; raises BadParam where there is none."""
    if kind not in TRAINERS:
        near = difflib.get_close_matches(str(kind), TRAINERS, 1)
        raise BadParam(f"kind is {kind!r}, wanted one of {', '.join(TRAINERS)}" + (f"; {near[0]}?" if near else ""))
    try:
        return cast(Trainer, import_module(TRAINERS[kind]))
    except ModuleNotFoundError as error:
        raise BadParam(f"kind {kind} needs {error.name}, which is not installed; `make train` sets it up") from None
