"""What every block did with every slot, as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing show.

Each process writes its calls, a line each, beside its log; when the run is over they become one file: a track a block,
arrows from block to block that follow a slot, and what happened to the run. Times are of the monotonic clock.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from beamslot.runtime import rundir

SUFFIX = ".trace.jsonl"
MOST_CALLS = 1_000_000
"""Calls of a process that are kept; what comes later is counted only."""


class Tracer:
    """Writes down the calls of one process.

    path: file to append to
    """

    def __init__(self, path: Path) -> None:
        self._file: TextIOWrapper | None = path.open("a", encoding="ascii")
        self._calls = 0

    def add(self, block: str, slots: range, begun: int, spent: int, captured: int) -> None:
        """Add a call: its slots, when it began and how long it took, and when the slots were captured [ns]."""
        self._calls += 1
        if self._file and self._calls <= MOST_CALLS:
            said = [block, slots.start, slots.stop, begun, spent, captured]
            self._file.write(f"{json.dumps(said)}\n")

    def close(self) -> None:
        """Write out what is held, and end."""
        self.flush()
        if self._file:
            self._file.close()

    def flush(self) -> None:
        """Write out what is held; a disk that is full costs the trace, not the run."""
        try:
            if self._file:
                self._file.flush()
        except OSError:
            self._file = None


def write(path: Path, logs: Path, blocks: Mapping[str, bool], origin: int, events: Iterable[Mapping[str, Any]]) -> int:
    """Make one trace of what the processes of a run have written, and take that away; return how many calls it has.

    path: file to write    logs: where the processes wrote
    blocks: in order, whether anything comes behind each    origin: when the first slot began, the trace's zero [ns]
    events: what happened to the run, by the clock of the trace: kind, and at [s]
    raises StorageError when it cannot be written
    """
    parts = sorted(logs.glob(f"*{SUFFIX}"))
    tracks = {name: track for track, name in enumerate(blocks, 1)}
    count = 0
    with rundir.storing(path, "the trace cannot be written", "make room there, or name another file"):
        with path.open("w", encoding="ascii") as file:
            file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
            for event in _named(tracks, events):
                file.write(f"{json.dumps(event)},\n")
            for part in parts:
                for call in _calls(part):
                    for event in _events(call, tracks, blocks, origin):
                        file.write(f"{json.dumps(event)},\n")
                    count += 1
            file.write('{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "beamslot"}}\n]}\n')
        for part in parts:
            part.unlink()
    return count


def _calls(part: Path) -> Iterator[list[Any]]:
    with part.open(encoding="ascii") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue  # the process was killed within a line


def _named(tracks: Mapping[str, int], events: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, track in tracks.items():
        yield {"name": "thread_name", "ph": "M", "pid": 1, "tid": track, "args": {"name": name}}
        yield {"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": track, "args": {"sort_index": track}}
    for event in events:
        told = {key: value for key, value in event.items() if key not in ("kind", "at", "time")}
        yield {"name": event["kind"], "ph": "i", "s": "g", "pid": 1, "tid": 0, "ts": event["at"] * 1e6, "args": told}


def _events(
    call: list[Any], tracks: Mapping[str, int], blocks: Mapping[str, bool], origin: int
) -> Iterator[dict[str, Any]]:
    """Yield a call as a slice, and its end of the arrow that follows its first slot."""
    name, first, end, begun, spent, captured = call
    track = tracks[name]
    at = (begun - origin) * 1e-3
    slots = f"slot {first}" if end == first + 1 else f"slots {first}..{end - 1}"
    told = {"first": first, "count": end - first, "age_ms": round((begun + spent - captured) * 1e-6, 6)}
    yield {"name": slots, "cat": "call", "ph": "X", "pid": 1, "tid": track, "ts": at, "dur": spent * 1e-3, "args": told}
    arrow = {"name": "slot", "cat": "slot", "id": first, "pid": 1, "tid": track, "ts": at + spent * 0.5e-3}
    yield {**arrow, "ph": "s" if track == 1 else "t" if blocks[name] else "f", "bp": "e"}
