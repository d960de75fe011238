"""A small laboratory chain whose every figure has a closed form, and blocks that misbehave as a laboratory's do."""

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from beamslot_probes import Relay, checksum
from beamslot_runs import Kind, graph
from beamslot_stray import NUMBERS
from numpy.typing import NDArray
from pydantic import Field

from beamslot.frame import Array, StreamInfo
from beamslot.ports import TRUTH
from beamslot.runtime import Block, In, Out
from beamslot.runtime.graph import Graph, Restart
from beamslot.sinks.jsonl_sink import JsonlSink
from beamslot.sinks.nmse_sink import NmseSink

ANTENNAS = 4
PER_DRAW = 25
"""Slots of one channel draw."""

INDEX = Array.of("slot", np.int64)
FIELD: dict[str, Any] = {"channel": TRUTH["channel"], "index": INDEX, "crc": INDEX}
TOTALS: dict[str, Any] = {**FIELD, "total": INDEX}
AXES = {"user": 1, "y": ANTENNAS, "z": 1, "path": 1}


def phases(slots: NDArray[np.int64], step: int) -> NDArray[np.complex64]:
    """Return (slot, user 1, y, z 1) phasors that differ from slot to slot."""
    turns = (slots[:, None] * 2654435761 + np.arange(ANTENNAS) * step) % 4096 / 4096
    return np.asarray(np.exp(2j * math.pi * turns), np.complex64)[:, None, :, None]


def channel_of(slots: NDArray[np.int64]) -> NDArray[np.complex64]:
    """Return the channel of some slots."""
    return phases(slots, 523)


def estimate_of(slots: NDArray[np.int64]) -> NDArray[np.complex64]:
    """Return what the estimator makes of the channel of some slots."""
    return np.asarray(channel_of(slots) + np.complex64(0.25) * phases(slots // 3, 911), np.complex64)


def total_of(slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of all slot indices up to each slot."""
    return slots * (slots + 1) // 2


class LabSource(Block):
    """Channels that follow from the slot, and the truth about them."""

    field = Out(**FIELD)
    truth = Out(TRUTH)

    def start(self) -> dict[str, StreamInfo]:
        described = StreamInfo(TRUTH, AXES, self.run.slot_period)
        return {"field": described.replace(arrays=FIELD), "truth": described}

    def process(self, slots: range) -> dict[str, Any]:
        index = np.array(slots, np.int64)
        channel = channel_of(index)
        ones = np.ones((len(index), 1), np.float32)
        truth = {
            "channel": channel,
            "gain": ones[..., None].astype(np.complex64),
            "u": ones[..., None],
            "v": ones[..., None],
            "mask": ones[..., None] > 0,
            "antenna_noise_var": ones,
            "draw": index // PER_DRAW,
        }
        return {"field": {"channel": channel, "index": index, "crc": checksum(channel)}, "truth": truth}


class Estimator(Block):
    """Adds the error of its slots to the channel; how long it works varies from call to call."""

    rf = In(**FIELD)
    estimate = Out(**FIELD)

    work: float = Field(0.0, ge=0, description="longest time of a call")

    def process(self, rf: dict[str, Any], slots: range) -> dict[str, Any]:
        if self.work:
            time.sleep(self.work * float(self.rng(slots.start).random()))
        error = np.complex64(0.25) * phases(rf["index"] // 3, 911)
        channel = rf["channel"] + error
        return {"channel": channel, "index": rf["index"], "crc": checksum(channel)}


class Passing(Block):
    """Passes a field on, the work of a combiner left out."""

    field = In(**FIELD)
    rf = Out(**FIELD)

    def process(self, field: dict[str, Any]) -> dict[str, Any]:
        return dict(field)


class Totals(Block):
    """Adds up the index of all slots so far; its state is the sum."""

    estimate = In(**FIELD)
    out = Out(**TOTALS)

    def start(self, *_: Any, **__: Any) -> None:
        self._total = 0

    def process(self, estimate: dict[str, Any]) -> dict[str, Any]:
        totals = self._total + np.cumsum(estimate["index"])
        self._total = int(totals[-1])
        return {**estimate, "total": totals}

    def snapshot(self) -> int:
        return self._total

    def restore(self, state: int) -> None:
        self._total = state


class OrderSink(Block):
    """Checks order, checksum and every figure of each slot."""

    stream = In(**TOTALS)

    def start(self, *_: Any, **__: Any) -> None:
        self._next = self._seen = self._bad = self._missed = 0

    def process(self, stream: dict[str, Any], slots: range) -> None:
        wanted = np.array(slots, np.int64)
        wrong = (stream["index"] != wanted) | (stream["total"] != total_of(wanted))
        wrong |= checksum(stream["channel"]) != stream["crc"]
        wrong |= (stream["channel"] != estimate_of(wanted)).any((1, 2, 3))
        self._bad += int(wrong.sum()) + int(slots.start != self._next)
        self._next = slots.stop
        self._seen += len(slots)

    def missed(self, slots: range, reason: str) -> None:
        self._missed += len(slots)
        self._next = slots.stop

    def snapshot(self) -> list[int]:
        return [self._next, self._seen, self._bad, self._missed]

    def restore(self, state: list[int]) -> None:
        self._next, self._seen, self._bad, self._missed = state

    def results(self) -> dict[str, Any]:
        return {"seen": self._seen, "bad": self._bad, "missed": self._missed}


LAB_EDGES = (
    "source.field > combiner.field",
    "combiner.rf > estimator.rf",
    "estimator.estimate > totals.estimate",
    "totals.out > order.stream",
    "totals.out > nmse.estimate",
    "source.truth > nmse.truth",
    "totals.out > file.stream",
)


def lab(path: Path, *, replicas: int = 2, work: float = 0.0, **options: Any) -> Graph:
    """Return the laboratory chain: source, combiner, replicas of an estimator, prefix sums, and three sinks.

    path: of the file    work: longest time of a call of the estimator [s]    options: of the graph
    """
    blocks: dict[str, Kind] = {
        "source": LabSource,
        "combiner": Passing,
        "estimator": (Estimator, {"work": work}),
        "totals": Totals,
        "order": OrderSink,
        "nmse": (NmseSink, {"crb": False}),
        "file": (JsonlSink, {"path": str(path), "arrays": ("index", "total")}),
    }
    made = restarting(graph(blocks, *LAB_EDGES, **options))
    specs = {**made.blocks, "estimator": replace(made.blocks["estimator"], replicas=replicas)}
    return replace(made, blocks=specs)


def restarting(given: Graph, blocks: Sequence[str] = (), **settings: Any) -> Graph:
    """Return a graph whose blocks, or some of them, are started again; settings are those of `Restart`."""
    restart = Restart(**{"policy": "on_failure", **settings})
    return with_blocks(given, {name: {"restart": restart} for name in blocks or given.blocks})


def with_blocks(given: Graph, changes: Mapping[str, Mapping[str, Any]]) -> Graph:
    """Return a graph with other fields of some blocks."""
    blocks = {name: replace(spec, **changes.get(name, {})) for name, spec in given.blocks.items()}
    return replace(given, blocks=blocks)


# blocks that misbehave


class Touchy(Block):
    """Does not bear a slot: raises, ends itself by a signal, or hangs; always, or until it has left a mark."""

    numbers = In(**NUMBERS)
    out = Out(**NUMBERS)

    at: int = Field(-1)
    how: str = Field("raise", description="raise, segv or hang")
    mark: str = Field("", description="file whose presence says that it has happened already")

    def process(self, numbers: dict[str, Any], slots: range) -> dict[str, Any]:
        if self.at in slots and not (self.mark and Path(self.mark).exists()):
            if self.mark:
                Path(self.mark).touch()
            self._fail()
        return dict(numbers)

    def _fail(self) -> None:
        if self.how == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.how == "hang":
            time.sleep(1000)
        raise RuntimeError("this slot is too much")


class Frail(Relay):
    """Is killed as its second life starts, before it has said a word."""

    folder: str = Field(min_length=1, description="where each life leaves a mark")

    def start(self, *_: Any, **__: Any) -> None:
        lives = len(list(Path(self.folder).iterdir()))
        (Path(self.folder) / str(lives)).touch()
        if lives == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class Cold(Block):
    """Counts slots and cannot put its count back; takes its time for the first call, so that listeners are there."""

    stateful = True

    numbers = In(**NUMBERS)
    out = Out(**NUMBERS)

    pause: float = Field(0.0, ge=0)

    def start(self, *_: Any, **__: Any) -> None:
        self._count = 0

    def process(self, numbers: dict[str, Any]) -> dict[str, Any]:
        if not self._count:
            time.sleep(self.pause)
        self._count += len(numbers["index"])
        return dict(numbers)


class Antenna(Block):
    """A source whose slots cannot be made again: what it says is how many it has made in this life."""

    live = True

    numbers = Out(**NUMBERS)

    def start(self) -> StreamInfo:
        self._made = 0
        return StreamInfo(self.outputs["numbers"].arrays, {"sample": 1}, self.run.slot_period)

    def process(self, slots: range) -> dict[str, Any]:
        words = np.arange(self._made, self._made + len(slots), dtype=np.int64)[:, None]
        self._made += len(slots)
        return {"words": words, "crc": checksum(words), "index": np.array(slots, np.int64)}


class LifeSink(Block):
    """Writes down from which slot on the source counted anew, what was missed, and checks the count in between."""

    numbers = In(**NUMBERS)

    def start(self, *_: Any, **__: Any) -> None:
        self._lives: list[int] = []
        self._missed: list[list[Any]] = []
        self._seen = self._bad = self._next = 0

    def process(self, numbers: dict[str, Any], slots: range) -> None:
        self._bad += int((numbers["index"] != np.array(slots)).sum())
        for slot, said in zip(slots, numbers["words"][:, 0].tolist(), strict=True):
            if said == 0:
                self._lives.append(slot)
            elif said != self._next:
                self._bad += 1
            self._next = said + 1
        self._seen += len(slots)

    def missed(self, slots: range, reason: str) -> None:
        self._missed.append([slots.start, slots.stop, reason])

    def snapshot(self) -> dict[str, Any]:
        return {**self.results(), "next": self._next}

    def restore(self, state: dict[str, Any]) -> None:
        self._lives, self._missed, self._next = list(state["lives"]), [list(m) for m in state["missed"]], state["next"]
        self._seen, self._bad = state["seen"], state["bad"]

    def results(self) -> dict[str, Any]:
        return {"lives": list(self._lives), "missed": list(self._missed), "seen": self._seen, "bad": self._bad}
