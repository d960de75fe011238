"""How a running graph stands, seen from outside: what it says of itself, and what the kernel says of its processes.

Nothing here speaks with the run. Rates are differences between two looks, so they are of now and not of the whole run.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beamslot.errors import PeerLost
from beamslot.runtime import rundir

Card = Mapping[str, Any]

NOTHING_RUNS = "nothing runs; wanted a run in another terminal, such as `beamslot run flowgraphs/demo.yml --for 60s`"


@dataclass(frozen=True)
class Usage:
    """What a process has used: processor time [s], and memory that only it holds or shares [bytes]."""

    cpu: float
    memory: int


@dataclass(frozen=True)
class Look:
    """A run as it was at one time: its card, its status, and what each of its processes has used, by pid.

    at, seen: when the status was written, and when the processes were looked at, by the monotonic clock [s]
    """

    card: Card
    status: Mapping[str, Any]
    usage: Mapping[int, Usage]
    at: float
    seen: float


@dataclass(frozen=True)
class Rates:
    """What went on between two looks, by block or edge: slots a second, share of a core, memory now [bytes].

    Blocks that share a process show its processor time and memory under the first of them.
    """

    slots: Mapping[str, float] = field(default_factory=dict[str, float])
    cpu: Mapping[str, float] = field(default_factory=dict[str, float])
    memory: Mapping[str, int] = field(default_factory=dict[str, int])
    edges: Mapping[str, float] = field(default_factory=dict[str, float])
    pids: Mapping[str, list[int]] = field(default_factory=dict[str, list[int]])


def find(wanted: str, verb: str, runs: Sequence[Card] | None = None) -> Card:
    """Return the newest living run of a name or pid; of any where `wanted` is empty.

    verb: who asks, for the message    raises PeerLost where there is none, saying which there are
    """
    runs = rundir.runs() if runs is None else runs
    fitting = called(runs, wanted)
    if fitting:
        return fitting[-1]
    if not wanted or not runs:
        raise PeerLost(f"{verb}: {NOTHING_RUNS}")
    raise PeerLost(f"{verb}: no run is called {wanted!r}; there is {', '.join(run['name'] for run in runs)}")


def called(runs: Sequence[Card], wanted: str) -> list[Card]:
    """Return the runs of a name or pid, all of them where `wanted` is empty."""
    return [run for run in runs if not wanted or wanted in (run["name"], str(run["pid"]))]


def made(status: Mapping[str, Any], rates: "Rates") -> float:
    """Return how many slots the sources make in a second."""
    fed = {target_of(edge["edge"]) for edge in status["edges"]}
    return max((rate for name, rate in rates.slots.items() if name not in fed), default=0.0)


def drops_into(status: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return what was dropped on the way into every block, by reason."""
    found: dict[str, dict[str, int]] = {}
    for edge in status.get("edges") or ():
        into = found.setdefault(target_of(edge["edge"]), {})
        for reason, count in edge["dropped"].items():
            into[reason] = into.get(reason, 0) + count
    return found


def target_of(edge: str) -> str:
    """Return the block that an edge, "block.port > block.port", ends at."""
    return edge.split(" > ")[1].partition(".")[0]


def usage(pid: int) -> Usage | None:
    """Return what a process has used so far, None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), resident * os.sysconf("SC_PAGE_SIZE"))


def look(card: Card) -> Look | None:
    """Return how a run stands now; None where it has not said so yet, or is over."""
    status = rundir.read_status(Path(card["path"]))
    if status is None:
        return None
    pids = [process["pid"] for process in status["processes"]]
    used = {pid: found for pid in pids if (found := usage(pid)) is not None}
    return Look(card, status, used, status["at"], time.monotonic())


def between(before: Look, now: Look) -> Rates:
    """Return the rates between two looks at one run; nothing where no time has passed."""
    seconds = now.at - before.at
    if seconds <= 0:
        return Rates()
    return Rates(
        slots=_grown(before.status["blocks"], now.status["blocks"], "slots", seconds),
        edges=_grown(_edges(before), _edges(now), "acknowledged", seconds),
        **_processes(before, now, now.seen - before.seen),
    )


def _edges(seen: Look) -> dict[str, Any]:
    return {edge["edge"]: edge for edge in seen.status["edges"]}


def _grown(before: Mapping[str, Any], now: Mapping[str, Any], key: str, seconds: float) -> dict[str, float]:
    return {name: max(one[key] - before.get(name, one)[key], 0) / seconds for name, one in now.items()}


def _processes(before: Look, now: Look, seconds: float) -> dict[str, Any]:
    cpu: dict[str, float] = {}
    memory: dict[str, int] = {}
    pids: dict[str, list[int]] = {}
    for process in now.status["processes"]:
        used, first = now.usage.get(process["pid"]), process["blocks"][0]
        for name in process["blocks"]:
            pids.setdefault(name, []).append(process["pid"])
        if used is not None:
            earlier = before.usage.get(process["pid"], used)
            cpu[first] = cpu.get(first, 0.0) + (used.cpu - earlier.cpu) / seconds
            memory[first] = memory.get(first, 0) + used.memory
    return {"cpu": cpu, "memory": memory, "pids": pids}
