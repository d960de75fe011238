"""A small front end of other software, for tests: its samples as arrays, and its operator file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beamslot.frame import Geometry, Operator
from beamslot.recording.foreign import FrontEnd, save_operator

SLOTS, USERS, COLUMNS, CHAINS, M = 12, 2, 8, 4, 3


@dataclass(frozen=True)
class Lab:
    """Observations (slot, user, y, chain) complex64 behind a front end, and its operator file."""

    rf: NDArray[np.complex64]
    operator: Operator
    path: Path

    @property
    def front_end(self) -> FrontEnd:
        return FrontEnd(Geometry(COLUMNS, CHAINS * M), self.operator, USERS, 28e9, 2e-3)


def paths_at(rng: np.random.Generator, slots: int) -> NDArray[np.complex128]:
    """Two plane waves a user at the antennas, (slot, user, y, z), by sums over antennas that know no code of ours."""
    y, z = np.meshgrid(np.arange(COLUMNS), np.arange(CHAINS * M), indexing="ij")
    field = np.zeros((slots, USERS, COLUMNS, CHAINS * M), complex)
    for slot in range(slots):
        for user in range(USERS):
            for _ in range(2):
                u, v = rng.uniform(-0.8, 0.8), rng.uniform(-0.5, 0)
                field[slot, user] += np.exp(1j * np.pi * (y * u + z * v)) * np.exp(2j * np.pi * rng.random())
    return field


def lab_at(folder: Path) -> Lab:
    """Return a front end whose samples somebody else has written, its operator file in a folder."""
    rng = np.random.default_rng(7)
    weights = np.exp(2j * np.pi * rng.random((COLUMNS, CHAINS, M))).astype(np.complex64)
    operator = Operator(weights, (np.arange(COLUMNS) % 2).astype(np.int16), (-0.5, 0.0))
    field = paths_at(rng, SLOTS)
    rf = np.einsum("suytm,ytm->suyt", field.reshape(SLOTS, USERS, COLUMNS, CHAINS, M), weights)
    made = Lab((rf / 8).astype(np.complex64), operator, folder / "operator.npz")
    save_operator(made.path, made.front_end)
    return made
