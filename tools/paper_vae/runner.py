"""Works through trainings and cells in several processes; only this process writes cells, one at a time."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from paper_hbf.methods import fingerprint
from paper_hbf.runner import told
from paper_hbf.store import Store
from paper_vae.experiments import Experiment, Plan
from paper_vae.measures import Values, measure
from paper_vae.methods import METHODS, configuration, source
from paper_vae.scene import CHUNK, Scene


@dataclass(frozen=True)
class Cell:
    """A method in a scene, frames start .. stop - 1 of one chunk; nets by a budget, kept under a folder."""

    scene: Scene
    method: str
    start: int
    stop: int
    training: Path
    folder: Path

    @property
    def key(self) -> str:
        """What the cell is, without how many frames of its chunk it has."""
        method, code = METHODS[self.method], [source(self.method), fingerprint("paper_vae.measures")]
        if method.net is not None:
            from paper_vae import nets

            code.append(nets.place(configuration(method, self.scene, self.training), self.folder).name)
        return json.dumps([asdict(self.scene), self.method, method.refined, self.start, code])

    def compute(self) -> Values:
        """Return its values."""
        return measure(self.scene, self.method, self.start, self.stop, self.training, self.folder)


@dataclass(frozen=True)
class Training:
    """A training that cells wait for."""

    settings: str
    folder: Path

    def compute(self) -> str:
        """Train; return where."""
        from paper_vae import nets

        return str(nets.trained(nets.Config.model_validate_json(self.settings), self.folder))


def cells(scene: Scene, method: str, plan: Plan, folder: Path) -> list[Cell]:
    """Return the cells of a point."""
    starts = range(0, plan.frames, CHUNK)
    return [Cell(scene, method, at, min(at + CHUNK, plan.frames), plan.training, folder) for at in starts]


def gathered(store: Store, scene: Scene, method: str, plan: Plan) -> Values:
    """Return all frames of a point; empty where some are missing."""
    parts = [_kept(store, cell) for cell in cells(scene, method, plan, store.path.parent)]
    whole = [part for part in parts if part is not None]
    if not whole or len(whole) < len(parts):
        return {}
    return {name: [x for part in whole for x in part[name]] for name in whole[0]}


def _kept(store: Store, cell: Cell) -> Values | None:
    kept, wanted = store.get(cell.key), cell.stop - cell.start
    if kept is None or len(kept["angle"]) < wanted:
        return None
    return {name: numbers[:wanted] for name, numbers in kept.items()}


def run(store: Store, experiments: Iterable[Experiment], plan: Plan, jobs: int, console: Console) -> None:
    """Train what is not trained yet, then compute the cells that are not there yet."""
    folder = store.path.parent
    wanted = [
        cell
        for experiment in experiments
        for line in experiment.lines
        for snr_db in line.snrs(plan)
        for cell in cells(line.at(snr_db), line.method, plan, folder)
    ]
    missing = list({cell.key: cell for cell in wanted if _kept(store, cell) is None}.values())
    for stage in _trainings(missing, plan, folder):
        for _ in told(stage, _compute, jobs, "trainings", console):
            pass
    for cell, values in told(missing, _compute, jobs, "cells", console):
        store.put(cell.key, values)


def _trainings(missing: Sequence[Cell], plan: Plan, folder: Path) -> list[list[Training]]:
    """Return what is to be trained: first phases, then what may go on from them."""
    stages: list[dict[str, Training]] = [{}, {}]
    points = {(cell.scene, cell.method) for cell in missing if METHODS[cell.method].net is not None}
    for scene, method in sorted(points, key=str):
        from paper_vae import nets

        one = configuration(METHODS[method], scene, plan.training)
        first = nets.first_phase(one)
        for stage, each in enumerate((first, one) if one.first_phase and one != first else (one,)):
            out = nets.place(each, folder)
            if not (out / nets.MODEL).exists() and out.name not in stages[0]:
                stages[stage][out.name] = Training(each.model_dump_json(), folder)
    return [list(stage.values()) for stage in stages]


def _compute(task: Any) -> Any:
    compute: Callable[[], Any] = task.compute
    return compute()
