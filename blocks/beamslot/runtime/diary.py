"""The record of a run: one directory of plain files that tells afterwards what ran, what happened and what failed.

run.json          what was run: graph, parameters as given, seed, versions, machine
parameters.jsonl  the timeline of the parameters: {"slot", "block", "values"}; slot 0 has all of them
events.jsonl      what happened: {"time" (UTC), "at" (seconds since the start), "kind", ...}
report.json       the report, so far while the run lasts; its end has `exit_code`
crash-BLOCK-EPOCH/  failure.json, and frame-PORT.npz for each input of the call that failed
BLOCK.log         what a block printed

A whole file is written beside its place and renamed, a line is one write: whenever the run is killed, all that is there
can be read.
"""

import contextlib
import json
import math
import os
import platform
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import StorageError
from beamslot.runtime import rundir
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph

RUN, PARAMETERS, EVENTS, REPORT, FAILURE = (
    "run.json",
    "parameters.jsonl",
    "events.jsonl",
    "report.json",
    "failure.json",
)

ACCOUNTS_EVERY = 5.0
"""Least time between two reports of a run that lasts [s]."""

PACKAGES = ("beamslot", "numpy", "pyzmq", "msgpack", "scipy")

Frames = dict[str, dict[str, NDArray[Any]]]
"""Arrays of a call, by input port and name."""


class Diary:
    """Writes the record of one run; a disk that is full or read-only costs the record, never the run.

    directory: where it lies, made where it is not there; what an earlier run recorded in it goes, all else stays
    on_problem: told once of each thing that cannot be written    began: by the monotonic clock [s]
    raises StorageError when a living run keeps its record there
    """

    def __init__(self, directory: Path, on_problem: Callable[[str], None]) -> None:
        self.directory = directory
        self._on_problem = on_problem
        self._told: set[str] = set()
        self.began = time.monotonic()
        self._reported = -math.inf
        self._versions = versions()
        self._take()

    def begin(self, graph: Graph) -> None:
        """Write what is run, and open the timeline of the parameters."""
        self.began = time.monotonic()
        self._write(RUN, {**_about(), "versions": self._versions, **_described(graph)})
        for name, spec in graph.blocks.items():
            self.parameter(name, 0, spec.build().model_dump())

    def event(self, kind: str, /, **fields: Any) -> None:
        """Add what happened, with the time."""
        at = round(time.monotonic() - self.began, 6)
        self._append(EVENTS, {"time": _now(), "at": at, "kind": kind, **fields})

    def parameter(self, block: str, slot: int, values: Mapping[str, Any]) -> None:
        """Add values that hold for a block from a slot on."""
        self._append(PARAMETERS, {"slot": slot, "block": block, "values": values})

    def accounts(self, report: Mapping[str, Any]) -> None:
        """Write the report: its end (which has `exit_code`) always, before that at most every few seconds."""
        now = time.monotonic()
        if "exit_code" in report or now - self._reported >= ACCOUNTS_EVERY:
            self._reported = now
            self._write(REPORT, report)

    def crash(
        self,
        block: str,
        epoch: int,
        failure: Mapping[str, Any],
        frame: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    ) -> Path | None:
        """Save what a block failed with and return where it lies, None where it could not be written.

        failure: plain values: slots, seed, error, message, traceback
        frame: the arrays of the call that failed, by input port and name
        """
        told = {"block": block, "epoch": epoch, "time": _now(), **failure, "versions": self._versions}
        with self._noting(f"crash-{block}"):
            return _save_crash(self.directory, f"crash-{block}-{epoch}", told, frame or {})

    def _take(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self.directory, os.W_OK | os.X_OK):
                raise PermissionError(None, "not writable")
        except OSError as error:
            wanted, self.directory = self.directory, rundir.spare()
            self._on_problem(f"{wanted}: cannot be written: {rundir.why(error)}; the record is in {self.directory}")
        earlier = RunRecord(self.directory)
        if earlier.alive and earlier.card["pid"] != os.getpid():
            raise StorageError(
                f"{self.directory}: the run {earlier.name} (process {earlier.card['pid']}) is recorded there and"
                " goes on; wanted a directory of its own for each run"
            )
        with self._noting(RUN):
            earlier.remove()

    def _write(self, name: str, value: Any) -> None:
        with self._noting(name):
            write_whole(self.directory / name, value)

    def _append(self, name: str, value: Any) -> None:
        with self._noting(name):
            append_line(self.directory / name, value)

    @contextlib.contextmanager
    def _noting(self, what: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if what not in self._told:
                self._told.add(what)
                self._on_problem(f"{self.directory / what}: cannot be written: {rundir.why(error)}; the run goes on")


@dataclass(frozen=True)
class RunRecord:
    """What a run has recorded in its directory, read again whenever it is asked for."""

    path: Path

    @cached_property
    def card(self) -> dict[str, Any]:
        """What was run; empty where that cannot be read."""
        return _object(self.path / RUN)

    @property
    def name(self) -> str:
        """The name of the graph."""
        return str(self.card.get("name", self.path.name))

    @property
    def report(self) -> dict[str, Any]:
        """The report of the run, so far while it lasts; empty where there is none."""
        return _object(self.path / REPORT)

    @property
    def alive(self) -> bool:
        """Whether the process that writes here lives and has not written its end."""
        began = rundir.born(self.card["pid"]) if "pid" in self.card else None
        return began is not None and began == self.card.get("born") and "exit_code" not in self.report

    @property
    def state(self) -> str:
        """How the run is: "running", "ended CODE", or "died" where it ended without a word."""
        if self.alive:
            return "running"
        code = self.report.get("exit_code")
        return "died" if code is None else f"ended {code}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened, in order."""
        path = self.path / EVENTS
        return [*filter(None, map(parse, path.read_text().splitlines()))] if path.exists() else []

    @property
    def outputs(self) -> dict[str, Path]:
        """Where the output of each block lies, in the order of the graph."""
        order = [*self.card.get("blocks", ())]
        found = {path.stem: path for path in sorted(self.path.glob("*.log"))}
        return dict(sorted(found.items(), key=lambda one: order.index(one[0]) if one[0] in order else len(order)))

    @property
    def crashes(self) -> list[Path]:
        """Where the crash reports lie, oldest first."""
        found = [path.parent for path in self.path.glob(f"crash-*/{FAILURE}")]
        return sorted(found, key=lambda path: (str(_object(path / FAILURE).get("time")), path.name))

    def remove(self) -> None:
        """Remove what a run has recorded here, and nothing else.

        raises OSError where that cannot be done
        """
        for crash in self.crashes:
            shutil.rmtree(crash)
        blocks = self.card.get("blocks", ())
        ours = [path for name, path in self.outputs.items() if name.partition(".")[0] in blocks]
        for path in (*ours, *(self.path / name for name in (EVENTS, PARAMETERS, REPORT, RUN))):
            path.unlink(missing_ok=True)


def kept() -> list[RunRecord]:
    """Return the records that are kept of this user's runs, newest first."""
    return [RunRecord(path.parent) for path in sorted(rundir.state().glob(f"*/{RUN}"), reverse=True)]


def load_crash(path: Path | str) -> tuple[dict[str, Any], Frames]:
    """Return a saved failure and the arrays that its block was given, by input port and name.

    raises StorageError when there is no crash report
    """
    place = Path(path)
    failure = _object(place / FAILURE)
    if not failure:
        raise StorageError(f"{place}: no crash report is there; wanted a directory as `beamslot logs --crash` lists it")
    frames: Frames = {}
    for file in sorted(place.glob("frame-*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            frames[file.stem.removeprefix("frame-")] = dict(arrays)
    return failure, frames


def versions() -> dict[str, str | None]:
    """Return the versions that a run depends on, None for what is missing; nothing is imported for it."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    bundled = [file.name for file in metadata.files("pyzmq") or () if ".so" in file.name and "libzmq" in file.name]
    return {**dict.fromkeys(PACKAGES), **found, "libzmq": bundled[0] if bundled else None}


def write_whole(path: Path, value: Any) -> None:
    """Write a file of JSON so that it is there as a whole or as it was.

    raises OSError
    """
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.write_bytes(_json(value, indent=2) + b"\n")
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def append_line(path: Path, value: Any) -> None:
    """Add a line of JSON to a file, as a whole or not at all.

    raises OSError
    """
    line = _json(value) + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        written = os.write(descriptor, line)
        if written < len(line):
            os.ftruncate(descriptor, before)
            raise OSError(None, f"only {written} of {len(line)} bytes had room")
    finally:
        os.close(descriptor)


def parse(line: str) -> dict[str, Any] | None:
    """Return the object that a line of JSON holds, None where it holds none."""
    try:
        value: Any = json.loads(line)
    except ValueError:
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def _object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty where there is none, as a file may go while it is looked for."""
    try:
        return parse(path.read_text()) or {}
    except OSError:
        return {}


def _save_crash(
    directory: Path, name: str, failure: Mapping[str, Any], frame: Mapping[str, Mapping[str, NDArray[Any]]]
) -> Path:
    draft = directory / f".{name}.draft"
    try:
        draft.mkdir(exist_ok=True)
        write_whole(draft / FAILURE, failure)
        for port, arrays in frame.items():
            _save_arrays(draft / f"frame-{port}.npz", arrays)
        return draft.rename(_free(directory / name))
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write what `numpy.savez` would, for arrays of any name, and never by pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _free(path: Path) -> Path:
    """Return a path that is not taken: replicas of a block may fail in one epoch."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _about() -> dict[str, Any]:
    return {
        "started": _now(),
        "pid": os.getpid(),
        "born": rundir.born(os.getpid()),
        "command": sys.argv,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "architecture": platform.machine(),
        },
    }


def _described(graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "title": graph.title,
        "seed": graph.seed,
        "slots": graph.slots,
        "slot_period": graph.slot_period,
        "pace": "max" if math.isinf(graph.pace) else graph.pace,
        "burst": graph.burst,
        "blocks": {name: described(spec) for name, spec in graph.blocks.items()},
        "edges": [_edge(edge, graph.windows[edge.name]) for edge in graph.edges],
    }


def described(spec: BlockSpec) -> dict[str, Any]:
    """Return a block of a graph in the terms of JSON: its class, its parameters and how it is run."""
    return {
        "class": f"{spec.kind.__module__}:{spec.kind.__qualname__}",
        "parameters": _plain(spec.parameters),
        "process": spec.process,
        "replicas": spec.replicas,
        "restart": vars(spec.restart),
        "deadline": spec.deadline,
    }


def _edge(edge: EdgeSpec, window: int) -> dict[str, Any]:
    return {"edge": edge.name, "policy": edge.policy, "window": window, "nbytes": edge.nbytes, "buffer": edge.buffer}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _json(value: Any, indent: int | None = None) -> bytes:
    """Return JSON in ASCII, which can also say what is no text, as arguments of a command need not be."""
    return json.dumps(_plain(value), indent=indent, default=str).encode()


def _plain(value: Any) -> Any:
    """Return a value in the terms of JSON; inf and nan, which it has not, as texts that a flowgraph reads."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in cast(list[Any], value)]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
