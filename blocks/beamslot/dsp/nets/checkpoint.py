"""Checkpoints: weights in safetensors, and in its metadata what they are weights of and where they came from.

Nothing of a file is executed: arrays are raw memory, metadata is JSON. A digest over all that is in it makes a damaged
file an error, also where the damage would still read as numbers.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadCheckpoint, BadParam, StorageError

FORMAT = 1
"""Version of the layout of the metadata."""

LARGEST = 1 << 30
"""A file of more bytes is not read, unless the caller says so."""

DTYPES = ("float16", "float32", "float64", "int64")
"""What weights can be."""

SHIPPED = Path(__file__).parent / "checkpoints"
"""Where the packaged checkpoints are."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained net.

    kind: what it is for, "vae_ula"    architecture: what the weights are weights of, plain data
    weights: arrays by name    card: data, seed, steps, metrics, command, versions; plain data
    """

    kind: str
    architecture: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the same checkpoint always makes the same bytes.

    raises BadParam for weights of another dtype, weights that are not finite, or what is not plain data;
        StorageError where the file cannot be written
    """
    from safetensors.numpy import save as to_bytes

    weights = {name: np.ascontiguousarray(checkpoint.weights[name]) for name in sorted(checkpoint.weights)}
    problem = _unfit(weights)
    if problem:
        raise BadParam(f"{path}: {problem}")
    try:
        texts = {name: _text(getattr(checkpoint, name)) for name in ("architecture", "card")}
    except (TypeError, ValueError) as error:
        raise BadParam(f"{path}: architecture and card are plain data: {error}") from None
    said = {"beamslot": str(FORMAT), "kind": checkpoint.kind, **texts}
    data = to_bytes(weights, {"beamslot": _text({**said, "digest": _digest(said, weights)})})
    target = Path(path)
    draft = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(target)
    except OSError as error:
        raise StorageError(f"{path}: the checkpoint cannot be written: {error}") from None


def load(path: str | Path, kind: str | None = None, largest: int = LARGEST) -> Checkpoint:
    """Read a checkpoint.

    kind: the only one that is wanted; None for any    largest: size of the file at most [bytes]
    raises BadCheckpoint saying which file, what came and what was wanted
    """
    said, weights = _read(Path(path), largest)
    if kind is not None and said["kind"] != kind:
        raise BadCheckpoint(f"{path}: a checkpoint of kind {said['kind']!r}, wanted {kind!r}")
    if said.get("digest") != _digest({name: text for name, text in said.items() if name != "digest"}, weights):
        raise BadCheckpoint(f"{path}: damaged, its content is not what its digest says")
    problem = _unfit(weights)
    if problem:
        raise BadCheckpoint(f"{path}: {problem}")
    plain = {name: _mapping(said[name], f"{path}: {name}") for name in ("architecture", "card")}
    return Checkpoint(said["kind"], plain["architecture"], weights, plain["card"])


def shipped(name: str) -> Path:
    """Return where the packaged checkpoint of a kind is."""
    return SHIPPED / f"{name}.safetensors"


def _read(path: Path, largest: int) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    from safetensors import safe_open

    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BadCheckpoint(f"{path}: not a file, wanted a checkpoint (.safetensors)")
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read: {error.strerror}") from None
    if size > largest:
        raise BadCheckpoint(f"{path}: {size} bytes, wanted at most {largest}")
    try:
        # safetensors has errors of its own, and lets those of its parsers and of NumPy through.
        with safe_open(path, framework="numpy") as file:
            said = _said((file.metadata() or {}).get("beamslot"), path)
            return said, {name: file.get_tensor(name) for name in sorted(file.keys())}
    except BadCheckpoint:
        raise
    except Exception as error:
        raise BadCheckpoint(f"{path}: {size} bytes that are no safetensors file: {error}") from None


def _said(text: str | None, path: Path) -> dict[str, str]:
    if text is None:
        raise BadCheckpoint(f"{path}: a safetensors file of somebody else, wanted one with 'beamslot' in its metadata")
    said = _mapping(text, f"{path}: metadata")
    if said.get("beamslot") != str(FORMAT):
        raise BadCheckpoint(f"{path}: format {said.get('beamslot')!r}, wanted {FORMAT}")
    wrong = [name for name in ("kind", "architecture", "card") if not isinstance(said.get(name), str)]
    if wrong:
        raise BadCheckpoint(f"{path}: metadata without {', '.join(wrong)}")
    return said


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{where} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{where} is {type(found).__name__}, wanted a mapping")
    return found


def _unfit(weights: Mapping[str, NDArray[Any]]) -> str:
    for name, array in weights.items():
        if str(array.dtype) not in DTYPES:
            return f"{name} is {array.dtype}, wanted {', '.join(DTYPES)}"
        if not np.isfinite(array).all():
            return f"{name} is not finite"
    return ""


def _text(data: Any) -> str:
    return json.dumps(dict(data), sort_keys=True, allow_nan=False)


def _digest(said: Mapping[str, str], weights: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(_text(said).encode())
    for name, array in weights.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
