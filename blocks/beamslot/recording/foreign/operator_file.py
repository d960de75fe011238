"""The operator file: what the channels of a recording of other software are, as .npz or as JSON.

| key | what | where it is left out |
|---|---|---|
| `weights` | (y, chain, m) complex: what chain t of column n multiplies onto its m antennas | antennas are seen |
| `group` | (y,) whole numbers: the group of each column, -1 where it is switched off | one group |
| `interval` | (v_min, v_max), the prior interval of v = sin(elevation) | -1, 1 |
| `noise_var` | variance of the noise of a channel [W] | learned |
| `geometry` | n_y, n_z, or n_y, n_z, spacing_y, spacing_z [wavelengths] | y columns of chain * m rows, 0.5 |
| `users` | users with orthogonal pilots | 1 |
| `carrier` | carrier frequency [Hz] | 0 |
| `slot_period` | time from slot to slot [s] | that of the recording, or 1e-3 |

One of `weights` and `geometry` must be there. In JSON a complex number is [real, imaginary] and the keys are the same.
A file is plain data: it can run nothing.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam
from beamslot.frame import Geometry, Operator
from beamslot.recording.foreign.bounded import reading
from beamslot.recording.foreign.numpy_files import read_npz

KEYS = ("weights", "group", "interval", "noise_var", "geometry", "users", "carrier", "slot_period")
MOST_TEXT = 1 << 26
"""A JSON file has at most so many bytes."""

LONGEST = 1 << 16
"""Columns, rows, chains and users are at most so many."""


@dataclass(frozen=True)
class FrontEnd:
    """What an operator file says.

    operator: None where the samples are those of the antennas    slot_period: None where the file does not say [s]
    """

    geometry: Geometry
    operator: Operator | None = None
    users: int = 1
    carrier: float = 0.0
    slot_period: float | None = None


def save_operator(path: Path | str, front_end: FrontEnd) -> None:
    """Write an operator file, .npz or .json by its name; raises BadParam for another name."""
    path = Path(path)
    geometry, operator = front_end.geometry, front_end.operator
    said: dict[str, Any] = {
        "geometry": np.array([geometry.n_y, geometry.n_z, geometry.spacing_y, geometry.spacing_z]),
        "users": np.int64(front_end.users),
        "carrier": np.float64(front_end.carrier),
    }
    if front_end.slot_period is not None:
        said["slot_period"] = np.float64(front_end.slot_period)
    if operator is not None:
        said |= {"weights": operator.weights, "group": operator.group, "interval": np.array(operator.interval)}
        if operator.noise_var is not None:
            said["noise_var"] = np.float64(operator.noise_var)
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **said)
    elif path.suffix == ".json":
        path.write_text(json.dumps({key: _plain(value) for key, value in said.items()}, indent=1), encoding="utf-8")
    else:
        raise BadParam(f"{path}: an operator file is called .npz or .json")


def _plain(value: Any) -> Any:
    array: Any = np.asarray(value)
    return (np.stack([np.real(array), np.imag(array)], -1) if np.iscomplexobj(array) else array).tolist()


def load_operator(path: Path | str) -> FrontEnd:
    """Read an operator file.

    raises StorageError where it cannot be read, BadParam naming file and key, what came and what was wanted
    """
    path = Path(path)
    with reading(path):
        said = _from_json(path) if path.suffix == ".json" else {k: one.array for k, one in read_npz(path).items()}
        unknown = [key for key in said if key not in KEYS]
        if unknown:
            raise BadParam(f"{path}: has no key {unknown[0]!r}; there is {', '.join(KEYS)}")
        return _front_end(path, said)


def _from_json(path: Path) -> dict[str, NDArray[Any]]:
    if path.stat().st_size > MOST_TEXT:
        raise BadParam(f"{path}: has {path.stat().st_size} bytes; the limit is {MOST_TEXT}")
    said = json.loads(path.read_bytes())
    if not isinstance(said, dict):
        raise BadParam(f"{path}: wanted a JSON object with {', '.join(KEYS)}")
    arrays = {str(key): _array(path, str(key), value) for key, value in said.items() if value is not None}
    if "weights" in arrays:
        pairs = arrays["weights"]
        if pairs.ndim != 4 or pairs.shape[-1] != 2:
            raise BadParam(f"{path}: weights has shape {pairs.shape}; wanted (y, chain, m) of [real, imaginary]")
        arrays["weights"] = pairs[..., 0] + 1j * pairs[..., 1]
    return arrays


def _array(path: Path, key: str, value: Any) -> NDArray[Any]:
    array = np.array(value)
    if array.dtype.kind not in "iuf":
        raise BadParam(f"{path}: {key[:40]} is of {str(array.dtype)[:20]}; wanted numbers")
    return array


def _front_end(path: Path, said: Mapping[str, NDArray[Any]]) -> FrontEnd:
    weights = said.get("weights")
    if weights is None and "geometry" not in said:
        raise BadParam(f"{path}: has neither weights nor geometry; one of them says what the channels are")
    if weights is not None:
        if weights.ndim != 3 or 0 in weights.shape or weights.dtype.kind not in "fc":
            came = f"{weights.shape} {weights.dtype}"
            raise BadParam(f"{path}: weights are {came}; wanted complex (y, chain, m)")
        if not np.isfinite(weights).all():
            raise BadParam(f"{path}: weights are not all finite")
    geometry = _geometry(path, said, weights)
    slot_period = None if "slot_period" not in said else _number(path, said, "slot_period", 0.0)
    if slot_period is not None and not slot_period:
        raise BadParam(f"{path}: slot_period is 0; wanted a time above 0")
    return FrontEnd(
        geometry,
        None if weights is None else _operator(path, said, weights),
        _whole(path, "users", _number(path, said, "users", 1)),
        _number(path, said, "carrier", 0.0),
        slot_period,
    )


def _geometry(path: Path, said: Mapping[str, NDArray[Any]], weights: NDArray[Any] | None) -> Geometry:
    if "geometry" not in said:
        assert weights is not None  # noqa: S101  (checked by the caller)
        return Geometry(weights.shape[0], weights.shape[1] * weights.shape[2])
    values = said["geometry"]
    if values.shape not in ((2,), (4,)) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise BadParam(f"{path}: geometry is {_short(values)}; wanted n_y, n_z or n_y, n_z, spacing_y, spacing_z")
    n_y, n_z = (_whole(path, name, float(value)) for name, value in zip(("n_y", "n_z"), values[:2], strict=True))
    if weights is not None and (n_y, n_z) != (weights.shape[0], weights.shape[1] * weights.shape[2]):
        raise BadParam(f"{path}: geometry is {n_y} x {n_z}; weights {weights.shape} want (y, chain * m) antennas")
    spacings = [float(value) for value in values[2:]] or [0.5, 0.5]
    if min(spacings) <= 0:
        raise BadParam(f"{path}: spacings are {spacings}; wanted wavelengths above 0")
    return Geometry(n_y, n_z, *spacings)


def _operator(path: Path, said: Mapping[str, NDArray[Any]], weights: NDArray[Any]) -> Operator:
    group = said.get("group", np.zeros(len(weights), np.int16))
    if group.shape != (len(weights),) or group.dtype.kind not in "iuf" or np.any(group != np.floor(group)):
        raise BadParam(f"{path}: group is {_short(group)}; wanted a whole number a column, {len(weights)} of them")
    if group.size and (group.min() < -1 or group.max() >= len(weights)):
        raise BadParam(f"{path}: group has {int(group.min())} to {int(group.max())}; wanted -1 to {len(weights) - 1}")
    interval = said.get("interval", np.array([-1.0, 1.0]))
    if interval.shape != (2,) or interval.dtype.kind not in "iuf" or not -1 <= interval[0] < interval[1] <= 1:
        raise BadParam(f"{path}: interval is {_short(interval)}; wanted -1 <= v_min < v_max <= 1")
    noise_var = None if "noise_var" not in said else _number(path, said, "noise_var", 0.0)
    low, high = map(float, interval)
    return Operator(weights.astype(np.complex64), group.astype(np.int16), (low, high), noise_var)


def _number(path: Path, said: Mapping[str, NDArray[Any]], key: str, default: float) -> float:
    value = said.get(key, np.array(default))
    if value.size != 1 or value.dtype.kind not in "iuf" or not 0 <= float(value.reshape(-1)[0]) < math.inf:
        raise BadParam(f"{path}: {key} is {_short(value)}; wanted one finite number of 0 or more")
    return float(value.reshape(-1)[0])


def _whole(path: Path, what: str, value: float) -> int:
    if value != int(value) or not 1 <= value <= LONGEST:
        raise BadParam(f"{path}: {what} is {value:g}; wanted a whole number from 1 to {LONGEST}")
    return int(value)


def _short(values: NDArray[Any]) -> str:
    return str(values.reshape(-1)[:6].tolist())[:60] if values.ndim == 1 else f"{values.shape} {values.dtype}"
