"""Where the parts of a recording lie: the names of its files, and which arrays of a stream become SigMF.

A name is worked out from the stream, never read from a file, so no recording can point elsewhere.
"""

import fcntl
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from beamslot.errors import StorageError
from beamslot.frame import StreamInfo

RECORDING, LOG, DATA, META = "recording.json", ".log", ".sigmf-data", ".sigmf-meta"
FORMAT, VERSION = "beamslot recording", 1
MARKER = b"BSR1"
"""How each record of a log begins."""

MAX_JSON = 64 * 1024 * 1024
"""A file of JSON beyond this is none of ours [bytes]."""

_SAMPLE = np.dtype("<c8")
_PORT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclass(frozen=True)
class Stored:
    """An array that is kept as SigMF: a sample is a slot, its channels are the other axes in C order.

    name: of the array    shape: of a slot    file: name of its files without suffix
    """

    name: str
    shape: tuple[int, ...]
    file: str

    @cached_property
    def channels(self) -> int:
        """Complex numbers of a slot."""
        return math.prod(self.shape)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a slot."""
        return self.channels * _SAMPLE.itemsize


def shapes_stored(info: StreamInfo) -> dict[str, tuple[int, ...]]:
    """Return the shape of a slot of every array that is kept as SigMF: complex64, with a slot axis."""
    return {
        name: info.shape(name, 1)[1:]
        for name, array in info.arrays.items()
        if array.dtype == _SAMPLE and array.axes[:1] == ("slot",)
    }


class Segments:
    """The arrays of a stream that are kept as SigMF, while its descriptions come.

    A description that changes names or shapes of these arrays begins a segment, which has files of its own.
    kept: those of the description that holds, by name
    """

    def __init__(self, port: str) -> None:
        self._port, self._number = port, -1
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self.kept: dict[str, Stored] = {}

    def describe(self, info: StreamInfo) -> dict[str, Stored]:
        """Take in the next description; return the arrays that are kept under it."""
        shapes = shapes_stored(info)
        if shapes != self._shapes:
            self._number, self._shapes = self._number + 1, shapes
            self.kept = {name: self._stored(name, shape, place) for place, (name, shape) in enumerate(shapes.items())}
        return self.kept

    def _stored(self, name: str, shape: tuple[int, ...], place: int) -> Stored:
        called = name if _PLAIN.fullmatch(name) else f"array-{place}"
        return Stored(name, shape, f"{self._port}.{called}" + (f".{self._number}" if self._number else ""))


def check_port(port: str) -> str:
    """Return the name of a port; raises StorageError for what is no "block.port"."""
    if not _PORT.fullmatch(port) or len(port) > 200:
        raise StorageError(f"recording: a port is called {port!r}; wanted block.port")
    return port


def ports(directory: Path) -> list[str]:
    """Return the names of the ports that are recorded in a directory."""
    found = sorted(path.name.removesuffix(LOG) for path in directory.glob(f"*{LOG}"))
    return [name for name in found if _PORT.fullmatch(name) and _is_ours(directory, name)]


def _is_ours(directory: Path, port: str) -> bool:
    """Whether a file is a log of a recording, or was to become one; others have names that end so, too."""
    try:
        with (directory / f"{port}{LOG}").open("rb") as file:
            begins = MARKER.startswith(file.read(len(MARKER)))
    except OSError:
        return True
    return begins or any(directory.glob(f"{port}.*{DATA}"))


def files(directory: Path, port: str) -> list[Path]:
    """Return all files of one port, the log last."""
    kept = [path for suffix in (META, DATA) for path in sorted(directory.glob(f"{port}.*{suffix}"))]
    log = directory / f"{port}{LOG}"
    return [*kept, log] if log.exists() else kept


def recorded(directory: Path | str) -> bool:
    """Whether there is a recording in a directory."""
    return bool(ports(Path(directory))) or (Path(directory) / RECORDING).exists()


def check_free(directory: Path) -> None:
    """Raise StorageError where a recording is being written: each writer holds a lock while it lives."""
    for port in ports(directory):
        with suppress(OSError), (directory / f"{port}{LOG}").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(f"{directory}: {port} is being written; wanted a recording that is over") from None


def remove(directory: Path | str) -> None:
    """Remove a recording, and nothing else that is in its directory.

    raises StorageError where that cannot be done, or the recording is being written
    """
    place = Path(directory)
    check_free(place)
    try:
        for port in ports(place):
            for path in files(place, port):
                path.unlink()
        (place / RECORDING).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{place}: the recording there cannot be removed: {why(error)}") from None


def amend(directory: Path | str, about: Mapping[str, Any]) -> None:
    """Put facts of the run beside the streams of a recording, in place of those of the same name.

    about: plain values by name: flowgraph, overrides, seed, versions, threads, timeline, ...
    raises StorageError where that cannot be written
    """
    place = Path(directory)
    known = read_about(place) if (place / RECORDING).exists() else {}
    whole = {"format": FORMAT, "version": VERSION, "about": {**known, **about}}
    try:
        text = json.dumps(whole, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StorageError(f"{place}: facts of a recording are plain values; {error}") from None
    write_whole(place / RECORDING, text + "\n")


def read_about(directory: Path) -> dict[str, Any]:
    """Return the facts of the run.

    raises StorageError where there is no recording, or it is damaged or of another version
    """
    path = directory / RECORDING
    value = read_json(path)
    if value.get("format") != FORMAT or not isinstance(value.get("about"), dict):
        raise StorageError(f"{path}: is no recording of beamslot; wanted format {FORMAT!r} and about")
    if value.get("version") != VERSION:
        raise StorageError(f"{path}: has version {str(value.get('version'))[:40]}; wanted {VERSION}")
    return value["about"]


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; raises StorageError where it cannot be read or holds none."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise StorageError(f"{path}: has {path.stat().st_size} bytes; wanted at most {MAX_JSON}")
        value: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {why(error)}") from None
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path}: is no JSON: {str(error)[:80]}") from None
    if not isinstance(value, dict):
        raise StorageError(f"{path}: holds no JSON object")
    return value


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or as it was; raises StorageError."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {why(error)}") from None


def why(error: OSError) -> str:
    """Return what the system says, in a few words."""
    return (error.strerror or str(error)).lower()
