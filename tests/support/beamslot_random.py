"""Random graphs, a model in memory of what each must deliver, and the comparison of a run with the model.

python -m beamslot_random SEED ...     (in tests/support) runs the graphs of these seeds and says what is wrong
"""

import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from beamslot_probes import CountingSource, Relay, checksum
from beamslot_runs import Kind, Run, Runner, graph
from beamslot_stray import NUMBERS, Cut, Slide
from pydantic import Field

from beamslot.errors import FlowgraphError
from beamslot.runtime import Block, In, Out
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph, Restart, check, minimum_window, window_of

FEATURES = ("groups", "replicas", "policies", "kills")
"""What a graph may be drawn with, besides its shape, frames and windows."""

LOSSY = ("drop_oldest", "drop_newest", "latest")
"""The policies that lose slots; what they lose is a gap with the name of the policy as its reason."""

MOST_BLOCKS = 8
APART = 40
"""Slots between two strikes at one process: more than any frame or window, so that no slot ends its block twice."""

SECONDS = 20.0
"""How long a graph may take."""


# probes


def fold(number: int, values: Iterable[int]) -> int:
    """Return a number that depends on all values and their order, going on from an earlier one."""
    for value in values:
        number = (number * 31 + value + 1) % 2147483647
    return number


class Worker(Relay):
    """Works on some slots, each as long every time."""

    def process(self, numbers: dict[str, Any], slots: range) -> dict[str, Any]:
        share = slots.start * 2654435761 % 1024
        if self.work and share < 256:
            time.sleep(self.work * share / 256)
        return dict(numbers)


class Sift(Block):
    """Lets every n-th slot pass; asks for single slots where frames have several (hold: 1)."""

    numbers = In(**NUMBERS, window="hold")
    out = Out(**NUMBERS)

    every: int = Field(2, ge=1)
    hold: int = Field(0, ge=0, le=1)

    def process(self, numbers: dict[str, Any], slots: range) -> Any:
        (slot,) = slots
        return dict(numbers) if slot % self.every == 0 else None


class PairRelay(Block):
    """Joins two streams and passes the left one on."""

    left = In(**NUMBERS)
    right = In(**NUMBERS)
    out = Out(**NUMBERS)

    def process(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        assert (left["index"] == right["index"]).all()
        return dict(left)


class Tally(Block):
    """Replaces what a slot carries by a number that all earlier slots have made, those that were missed too."""

    numbers = In(**NUMBERS)
    out = Out(**NUMBERS)

    def start(self, *_: Any, **__: Any) -> None:
        self._number = 0

    def process(self, numbers: dict[str, Any]) -> dict[str, Any]:
        words = np.empty_like(numbers["words"])
        for row, value in zip(words, numbers["words"][:, 0].tolist(), strict=True):
            row[:] = self._number = fold(self._number, [value])
        return {"words": words, "crc": checksum(words), "index": numbers["index"]}

    def missed(self, slots: range, reason: str) -> None:
        self._number = fold(self._number, [-2] * len(slots))

    def snapshot(self) -> int:
        return self._number

    def restore(self, state: int) -> None:
        self._number = state


class Book(Block):
    """What sinks write down: which slots came, and which did not and why; what was wrong; and all values in order."""

    def start(self, *_: Any, **__: Any) -> None:
        self._lines: list[list[Any]] = []
        self._bad = self._number = 0

    def _take(self, slots: range, *streams: dict[str, Any]) -> None:
        for stream in streams:
            self._bad += int((stream["index"] != np.array(slots)).sum())
            self._bad += int((checksum(stream["words"]) != stream["crc"]).sum())
            self._number = fold(self._number, stream["words"][:, 0].tolist()) if stream is streams[0] else self._number
        self._note(slots, "")

    def _note(self, slots: range, reason: str) -> None:
        if self._lines and self._lines[-1][1:] == [slots.start, reason]:
            self._lines[-1][1] = slots.stop
        else:
            self._lines.append([slots.start, slots.stop, reason])

    def missed(self, slots: range, reason: str) -> None:
        self._note(slots, reason)

    def results(self) -> dict[str, Any]:
        return {"lines": [list(line) for line in self._lines], "bad": self._bad, "number": self._number}


class Resumes:
    """Makes a sink go on with its book after a restart."""

    def snapshot(self: Any) -> dict[str, Any]:
        return self.results()

    def restore(self: Any, state: dict[str, Any]) -> None:
        self._lines = [list(line) for line in state["lines"]]
        self._bad, self._number = state["bad"], state["number"]


class Ledger(Book):
    """A sink that forgets what it wrote when it is started again."""

    numbers = In(**NUMBERS)

    def process(self, numbers: dict[str, Any], slots: range) -> None:
        self._take(slots, numbers)


class PairLedger(Book):
    """A sink of two streams that forgets what it wrote when it is started again."""

    left = In(**NUMBERS)
    right = In(**NUMBERS)

    def process(self, left: dict[str, Any], right: dict[str, Any], slots: range) -> None:
        self._take(slots, left, right)


class Keeper(Resumes, Ledger):
    """A sink that goes on where it was."""


class PairKeeper(Resumes, PairLedger):
    """A sink of two streams that goes on where it was."""


# graphs


class Blow(NamedTuple):
    """A process kills itself when a block of it comes to a slot, in one of its lives."""

    block: str
    slot: int
    life: int
    replica: int


@dataclass(frozen=True)
class Draft:
    """A graph that was drawn, and the blows that it must take."""

    seed: int
    graph: Graph
    blows: tuple[Blow, ...]

    @property
    def options(self) -> dict[str, Any]:
        """What `launch` must be told besides the graph."""
        if not self.blows:
            return {}
        from beamslot.runtime.chaos import Strike

        return {"strikes": [Strike("kill", *blow) for blow in self.blows]}

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.graph.slots} slots in bursts of {self.graph.burst}"]
        lines += [f"  {_told(spec)}" for spec in self.graph.blocks.values()]
        lines += [f"  {edge.name}{_set(policy=_lossy(edge), window=edge.window)}" for edge in self.graph.edges]
        lines += [f"  kill {b.block} at slot {b.slot}{_set(life=b.life, replica=b.replica)}" for b in self.blows]
        return "\n".join(lines)


def _told(spec: BlockSpec) -> str:
    shared = _set(process=spec.process, replicas=spec.replicas if spec.replicas > 1 else 0)
    return f"{spec.name} {spec.kind.__name__}{_set(**spec.parameters)}{shared}"


def _set(**fields: Any) -> str:
    return "".join(f" {name}={value}" for name, value in fields.items() if value)


def _lossy(edge: EdgeSpec) -> str:
    return "" if edge.lossless else edge.policy


def draw(seed: int, features: Sequence[str] = FEATURES) -> Draft:
    """Return the graph of a seed; without a feature it is the same in all other respects, unless that cannot be."""
    for attempt in itertools.count():
        rngs = [np.random.default_rng([seed, attempt, aspect]) for aspect in range(2 + len(FEATURES))]
        drawn = _shape(rngs[0])
        for feature, rng in zip(("groups", "replicas", "policies"), rngs[2:], strict=False):
            if feature in features:
                drawn = {"groups": _grouped, "replicas": _replicated, "policies": _lossy_edges}[feature](drawn, rng)
        blows = _blows(drawn, rngs[-1]) if "kills" in features else ()
        if blows:
            drawn = _with_blocks(drawn, {name: {"restart": Restart("on_failure")} for name in drawn.blocks})
        try:
            drawn = _windowed(drawn, rngs[1])
            check(drawn)
        except FlowgraphError:
            continue
        return Draft(seed, drawn, blows)
    raise AssertionError


def _shape(rng: np.random.Generator) -> Graph:
    slots, burst = int(rng.integers(30, 401)), int(rng.choice([1, 1, 1, 1, 2, 3, 5, 7]))
    total = int(rng.integers(3, MOST_BLOCKS + 1))
    sketch = Sketch(rng, burst)
    for _ in range(2 if total > 3 and rng.random() < 0.25 else 1):
        sketch.add("src", CountingSource, {}, {})
    while sketch.grow(total, slots):
        continue
    while sketch.dangling or len(sketch.blocks) < total:
        sketch.close()
    return graph(sketch.blocks, *sketch.edges, slots=slots, burst=burst)


class Sketch:
    """A graph that grows from its sources; dangling: streams that nobody reads yet; frame: slots per frame of each."""

    def __init__(self, rng: np.random.Generator, burst: int) -> None:
        self.rng, self.burst = rng, burst
        self.blocks: dict[str, Kind] = {}
        self.edges: list[str] = []
        self.dangling: list[str] = []
        self.frame: dict[str, int] = {}

    def add(self, label: str, kind: type[Block], parameters: dict[str, Any], inputs: dict[str, str]) -> None:
        """Add a block that reads these streams, by port."""
        name = f"{label}{len(self.blocks)}"
        self.blocks[name] = (kind, parameters)
        self.edges += [f"{stream} > {name}.{port}" for port, stream in inputs.items()]
        self.dangling = [stream for stream in self.dangling if stream not in inputs.values()]
        for port in kind.outputs:
            self.dangling.append(f"{name}.{port}")
            came = max((self.frame[stream] for stream in inputs.values()), default=self.burst)
            self.frame[f"{name}.{port}"] = window_of(kind(**parameters))[1] or came

    def _stream(self) -> str:
        some = self.dangling if self.dangling and self.rng.random() < 0.6 else list(self.frame)
        return str(self.rng.choice(some))

    def grow(self, total: int, slots: int) -> bool:
        """Add a block between sources and sinks, if enough blocks are left to close what dangles then."""
        label = str(self.rng.choice(["worker"] * 4 + ["pair"] * 2 + ["tally"] * 2 + ["hold", "slide", "sift", "cut"]))
        kind: type[Block] = {"pair": PairRelay, "tally": Tally, "slide": Slide, "sift": Sift, "cut": Cut}.get(
            label, Worker
        )
        inputs = {port: self._stream() for port in kind.inputs}
        dangling = {*self.dangling} - {*inputs.values()}
        if len(self.blocks) + 1 + len(dangling) + 1 > total:
            return False
        single = max(self.frame[stream] for stream in inputs.values()) == 1
        self.add(label, kind, self._parameters(label, slots, single), inputs)
        return True

    def _parameters(self, label: str, slots: int, single: bool) -> dict[str, Any]:
        rng = self.rng
        if label == "worker":
            return {"work": float(rng.choice([0, 0, 0.0005, 0.002]))}
        if label == "hold":
            return {"hold": int(rng.integers(2, 13))}
        if label == "slide":
            size = int(rng.integers(2, 10))
            return {"size": size, "step": int(rng.integers(1, size + 1))}
        if label == "sift":
            return {"every": int(rng.integers(2, 5)), "hold": 0 if single else 1}
        return {"slots": int(rng.integers(1, slots + 20))} if label == "cut" else {}

    def close(self) -> None:
        """Add a sink, to what dangles first; now and then leave an output unread."""
        first = self.dangling[0] if self.dangling else self._stream()
        kind = (Ledger, Keeper, PairLedger, PairKeeper)[int(self.rng.integers(4))]
        if len(self.dangling) > 1 and self.rng.random() < 0.1:
            self.dangling.pop()
        self.add("sink", kind, {}, {port: first if port != "right" else self._stream() for port in kind.inputs})


def _with_blocks(drawn: Graph, changes: dict[str, dict[str, Any]]) -> Graph:
    blocks = {name: replace(spec, **changes.get(name, {})) for name, spec in drawn.blocks.items()}
    return replace(drawn, blocks=blocks)


def _grouped(drawn: Graph, rng: np.random.Generator) -> Graph:
    """Put neighbours into one process, mostly two or three blocks; other ends of chosen edges may join."""
    group: dict[str, dict[str, Any]] = {}
    for number in range(int(rng.integers(0, 3))):
        edge = drawn.edges[int(rng.integers(len(drawn.edges)))]
        members = {edge.source, edge.target}
        if rng.random() < 0.5:
            near = [e for e in drawn.edges if {e.source, e.target} & members]
            further = near[int(rng.integers(len(near)))]
            members |= {further.source, further.target}
        if not members & group.keys():
            group |= {name: {"process": f"g{number}"} for name in sorted(members)}
    return _with_blocks(drawn, group)


def _replicated(drawn: Graph, rng: np.random.Generator) -> Graph:
    """Let some blocks be worked on by several processes: those without memory, window and group."""
    able = [
        name
        for name, spec in drawn.blocks.items()
        if spec.kind in (Worker, Sift) and not spec.process and not window_of(spec.build())[0]
    ]
    return _with_blocks(drawn, {name: {"replicas": int(rng.integers(2, 4))} for name in able if rng.random() < 0.4})


def _lossy_edges(drawn: Graph, rng: np.random.Generator) -> Graph:
    """Let some edges lose slots: between processes, and where no head behind them would end at a slot unforeseen."""
    if rng.random() < 0.5:
        return drawn
    edges = list(drawn.edges)
    for number, edge in enumerate(edges):
        inner = unit(drawn, edge.source) == unit(drawn, edge.target)
        cut = any(drawn.blocks[name].kind is Cut for name in _behind(drawn, edge.target))
        if rng.random() < 0.3 and not inner and not cut:
            policy = LOSSY[int(rng.integers(3))]
            queue = int(rng.integers(1, 9)) * drawn.burst if policy != "latest" and rng.random() < 0.5 else None
            edges[number] = replace(edge, policy=policy, window=queue)
    return replace(drawn, edges=tuple(edges))


def unit(drawn: Graph, name: str) -> str:
    """Return the name of the process that a block is in."""
    return drawn.blocks[name].process or name


def _behind(drawn: Graph, name: str) -> set[str]:
    """Return a block and all that its output leads to."""
    reached = {name}
    for block in drawn.order:
        if any(edge.source in reached for edge in drawn.edges if edge.target == block):
            reached.add(block)
    return reached


def _windowed(drawn: Graph, rng: np.random.Generator) -> Graph:
    """Give some lossless edges, or all, the least window that is allowed, or a little more."""
    least, share = minimum_window(drawn), float(rng.choice([0, 0, 0.4, 1]))
    tight = [edge.lossless and rng.random() < share for edge in drawn.edges]
    windows = [least + int(rng.choice([0, 0, 1, 3])) for _ in drawn.edges]
    edges = zip(drawn.edges, tight, windows, strict=True)
    return replace(drawn, edges=tuple(replace(edge, window=slots) if chosen else edge for edge, chosen, slots in edges))


def _blows(drawn: Graph, rng: np.random.Generator) -> tuple[Blow, ...]:
    """Draw up to three kills; those at one process come in one life after the other."""
    blows: list[Blow] = []
    taken: dict[tuple[str, int], int] = {}
    for _ in range(int(rng.choice([0, 0, 1, 1, 2, 3]))):
        name = str(rng.choice(list(drawn.blocks)))
        replica = int(rng.integers(drawn.blocks[name].replicas))
        struck = (unit(drawn, name), replica)
        earlier = [blow.slot for blow in blows if (unit(drawn, blow.block), blow.replica) == struck]
        slot = int(rng.integers(drawn.slots or 0)) if not earlier else max(earlier) + APART
        if slot < (drawn.slots or 0):
            blows.append(Blow(name, slot, taken.setdefault(struck, 0), replica))
            taken[struck] += 1
    return tuple(blows)


# the model

DATA = frozenset({""})
Fate = frozenset[str]
"""What may become of a slot: the reasons of gaps, and nothing ("") where it may come."""


@dataclass(frozen=True)
class Stream:
    """A stream as somebody reads it: the fate of each slot up to its end, and the value of each that comes.

    values: None where they depend on which slots were lost
    """

    fates: tuple[Fate, ...]
    values: tuple[int, ...] | None

    @property
    def certain(self) -> bool:
        """Whether every slot has one fate only."""
        return all(len(fate) == 1 for fate in self.fates)

    def at(self, slot: int) -> Fate:
        """Return the fate of a slot, nothing behind the end."""
        return self.fates[slot] if slot < len(self.fates) else frozenset()

    def with_fates(self, fates: Iterable[Fate]) -> "Stream":
        """Return the stream with other fates of the same slots, or of the first of them."""
        fates = tuple(fates)
        return Stream(fates, self.values and self.values[: len(fates)])


def lose(stream: Stream, policy: str, restarts: bool) -> Stream:
    """Return what a lossy edge leaves: any slot that comes may be lost; after a restart, what is not made again."""
    return stream.with_fates(fate | {policy} if restarts or "" in fate else fate for fate in stream.fates)


def window(stream: Stream, size: int, hop: int) -> Stream:
    """Return what a block with a window makes of a stream."""
    if not stream.certain:
        broken = {"window filling", "window interrupted", "window incomplete"}
        return stream.with_fates(fate | broken if "" in fate else fate for fate in stream.fates)
    fates = list(stream.fates)
    for first, end in _runs(stream):
        at = min(end, next(slot for slot in itertools.count(first) if slot % hop == 0))
        calls = max(0, (end - at - size) // hop + 1)
        begin, stop = (at + size - hop, at + size + (calls - 1) * hop) if calls else (at, at)
        rest = "window incomplete" if end == len(fates) else "window interrupted"
        fates[first:begin] = [frozenset({"window filling"})] * (begin - first)
        fates[stop:end] = [frozenset({rest})] * (end - stop)
    return stream.with_fates(fates)


def _runs(stream: Stream) -> Iterator[tuple[int, int]]:
    """Yield the first slot and the end of every stretch of slots that come."""
    slot = 0
    for come, stretch in itertools.groupby(stream.fates, lambda fate: fate == DATA):
        first, slot = slot, slot + len(list(stretch))
        if come:
            yield first, slot


def sift(stream: Stream, every: int) -> Stream:
    """Return what is left when only every n-th slot passes."""
    return stream.with_fates(
        fate if slot % every == 0 or "" not in fate else (fate - DATA) | {"filtered"}
        for slot, fate in enumerate(stream.fates)
    )


def head(stream: Stream, slots: int) -> Stream:
    """Return the first slots; where the last of them does not come, the end is seen at the next that does."""
    last = next((slot for slot in range(slots - 1, len(stream.fates)) if stream.fates[slot] == DATA), None)
    return stream if last is None else stream.with_fates(stream.fates[: slots if last == slots - 1 else last])


def tally(stream: Stream) -> Stream:
    """Return the stream with every value replaced by what all fates and values up to it make."""
    if not stream.certain or stream.values is None:
        return Stream(stream.fates, None)
    moved = [value if fate == DATA else -2 for fate, value in zip(stream.fates, stream.values, strict=True)]
    return Stream(stream.fates, tuple(itertools.accumulate(moved, lambda n, v: fold(n, [v]), initial=0))[1:])


def join(left: Stream, right: Stream) -> Stream:
    """Return what a block with two inputs sees, with the values of the left one."""
    ends = len(left.fates), len(right.fates)
    fates = [_meet(left.at(slot), right.at(slot)) for slot in range(max(ends))]
    values = left.values and (*left.values, *[0] * (max(ends) - ends[0]))
    return Stream(tuple(fates), values)


def _meet(left: Fate, right: Fate) -> Fate:
    if not left or not right:
        alone = left or right
        return (alone - DATA) | ({"unmatched"} if "" in alone else set())
    return (left - DATA) | ((right if "" in left else set()) - DATA) | (left & right & DATA)


class Model:
    """What every reader of a graph must find.

    edges: by edge, the stream as it comes to its end    seen: by block, what it sees, its inputs joined
    early: blocks that may end before their inputs do, because nobody wants more: all readers end early, or, where
        blocks are started again, one does, as the others may have had everything by then
    """

    def __init__(self, drawn: Graph) -> None:
        self.edges: dict[str, Stream] = {}
        self.seen: dict[str, Stream] = {}
        self.early: set[str] = set()
        made: dict[str, Stream] = {}
        restarts = any(spec.restart.policy != "never" for spec in drawn.blocks.values())
        for name in drawn.order:
            inputs = [edges[0] for edges in drawn.inputs_of(name).values()]
            for edge in inputs:
                stream = made[edge.source]
                self.edges[edge.name] = stream if edge.lossless else lose(stream, edge.policy, restarts)
            came = [self.edges[edge.name] for edge in inputs]
            self.seen[name] = join(*came) if len(came) > 1 else came[0] if came else _source(drawn)
            made[name] = _through(drawn.blocks[name].build(), self.seen[name])
        for name in reversed(drawn.order):
            readers = [edge.target for edge in drawn.edges if edge.source == name]
            block = drawn.blocks[name].build()
            if (isinstance(block, Cut) and head_ends(self.seen[name], block.slots)) or (
                readers and (any if restarts else all)(reader in self.early for reader in readers)
            ):
                self.early.add(name)


def head_ends(stream: Stream, slots: int) -> bool:
    """Return whether a head comes to its end before its input does."""
    return any(fate == DATA for fate in stream.fates[slots - 1 :])


def _source(drawn: Graph) -> Stream:
    slots = drawn.slots or 0
    return Stream((DATA,) * slots, tuple(range(slots)))


def _through(block: Block, stream: Stream) -> Stream:
    if isinstance(block, Cut):
        return head(stream, block.slots)
    if isinstance(block, Sift):
        return sift(stream, block.every)
    if isinstance(block, Tally):
        return tally(stream)
    size, hop = window_of(block)
    return window(stream, size, hop) if size else stream


# the comparison


def problems(draft: Draft, report: dict[str, Any]) -> list[str]:
    """Return all in which a run was not what the model allows, nothing for a good one."""
    model = Model(draft.graph)
    found = [f"{key} is {report[key]}" for key, good in (("ok", True), ("exit_code", 0)) if report[key] != good]
    found += report["problems"]
    accounts = {account["edge"]: account for account in report["edges"]}
    if accounts.keys() != model.edges.keys():
        found.append(f"edges with an account are {sorted(accounts)}; wanted {sorted(model.edges)}")
    for edge in draft.graph.edges:
        if edge.name in accounts:
            found += [f"{edge.name}: {text}" for text in _edge_problems(accounts[edge.name], edge, model)]
    for name, spec in draft.graph.blocks.items():
        if not spec.kind.outputs:
            cold = not spec.kind.resumes() and any(
                unit(draft.graph, blow.block) == unit(draft.graph, name) for blow in draft.blows
            )
            texts = _sink_problems(report["sinks"].get(name, {}), model.seen[name], cold)
            found += [f"{name}: {text}" for text in texts]
    if any(_certain(blow, draft.graph, model) for blow in draft.blows) and not any(
        block["restarts"] for block in report["blocks"].values()
    ):
        found.append("no block was started again")
    return found


def _certain(blow: Blow, drawn: Graph, model: Model) -> bool:
    """Whether a blow falls for sure: its block comes to the slot, in its first life, and has no replica beside it."""
    spec = drawn.blocks[blow.block]
    early = unit(drawn, blow.block) in {unit(drawn, name) for name in model.early}
    alone = spec.replicas == 1 and window_of(spec.build())[0] <= 1  # the rest of a window never comes to work
    return blow.life == 0 and alone and not early and model.seen[blow.block].at(blow.slot) == DATA


def _edge_problems(account: dict[str, Any], edge: EdgeSpec, model: Model) -> Iterator[str]:
    stream, early, dropped = model.edges[edge.name], edge.target in model.early, account["dropped"]
    if account["in_flight"] or account["offered"] != account["acknowledged"] + sum(dropped.values()):
        yield f"does not balance: {account}"
    if account["offered"] != len(stream.fates) and not early:
        yield f"offered {account['offered']} slots; wanted {len(stream.fates)}"
    least, most = _bounds(stream.fates)
    known = {
        "": account["acknowledged"],
        **{reason: n for reason, n in dropped.items() if not early or reason != "done"},
    }
    for reason in sorted(known.keys() | least.keys()):
        count, low = known.get(reason, 0), 0 if early else least[reason]
        if not low <= count <= most[reason]:
            yield f"{count} slots {reason or 'acknowledged'}; wanted {low} to {most[reason]}"
    if stream.certain and model.seen[edge.target].certain and not early:
        pairs = itertools.zip_longest(stream.fates, model.seen[edge.target].fates)
        lonely = sum(fate == DATA != seen for fate, seen in pairs)
        if account["unmatched"] != lonely:
            yield f"{account['unmatched']} slots unmatched; wanted {lonely}"


def _bounds(fates: Sequence[Fate]) -> tuple[Counter[str], Counter[str]]:
    """How many slots have each fate at least, and at most."""
    least = Counter(reason for fate in fates if len(fate) == 1 for reason in fate)
    return least, Counter(reason for fate in fates for reason in fate)


def _sink_problems(results: dict[str, Any], stream: Stream, cold: bool) -> Iterator[str]:
    """Compare the book of a sink.

    cold: whether it was started again without its book, which then tells of its last life only
    """
    lines = results.get("lines", [])
    if results.get("bad", 0):
        yield f"{results['bad']} slots were not what they were sent as"
    at = lines[0][0] if cold and lines else 0
    for first, end, reason in lines:
        if first != at:
            yield f"went from slot {at} to {first}"
        wrong = [slot for slot in range(first, end) if reason not in stream.at(slot)]
        if wrong:
            wanted = " or ".join(sorted(fate or "to come" for fate in stream.at(wrong[0]))) or "nothing"
            yield f"slot {wrong[0]} and {len(wrong) - 1} more: {reason or 'came'}; wanted {wanted}"
        at = end
    if at != len(stream.fates) and (lines or not cold):
        yield f"saw slots up to {at}; wanted {len(stream.fates)}"
    if stream.certain and stream.values is not None and not cold:
        came = [value for fate, value in zip(stream.fates, stream.values, strict=True) if fate == DATA]
        if results.get("number") != fold(0, came):
            yield f"values make {results.get('number')}; wanted {fold(0, came)}"


# runs


def run_all(runner: Runner, drafts: Iterable[Draft], at_once: int = 4) -> list[str]:
    """Run graphs, some at a time; return what is wrong with each, with the graph and how to run it alone."""
    waiting, under_way, found = list(drafts)[::-1], list[tuple[Draft, Run, float]](), list[str]()
    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            draft = waiting.pop()
            under_way.append((draft, runner.start(draft.graph, **draft.options), time.monotonic() + SECONDS))
        for draft, run, until in list(under_way):
            if run.over or time.monotonic() > until:
                under_way.remove((draft, run, until))
                found += _verdict(draft, run)
        time.sleep(0.002)
    return found


def _verdict(draft: Draft, run: Run) -> list[str]:
    """Return one text on what was wrong with a run, none for a good one; end it if it stands still."""
    written = run.directory / "report.json"
    if written.exists():
        wrong = problems(draft, json.loads(written.read_text()))
    elif run.over:
        wrong = [(run.directory / "output").read_text()]
    else:
        wrong = [f"is not over after {SECONDS:g} s", *run.status.get("notes", ["no status"])]
        run.signal(signal.SIGKILL)
    again = f"alone: cd tests/support && python -m beamslot_random {draft.seed}"
    return ["\n".join([str(draft), *(f"! {text}" for text in wrong), again])] if wrong else []


def main(words: Sequence[str]) -> int:
    """Run graphs in a state of their own; print those that are alone or wrong."""
    ranges = [word.partition(":") for word in words if word[0].isdigit()]
    seeds = [seed for first, _, end in ranges for seed in range(int(first), int(end or int(first) + 1))]
    features = [word for word in words if not word[0].isdigit()] or FEATURES
    drafts = [draw(seed, features) for seed in seeds]
    with tempfile.TemporaryDirectory(prefix="bs-", ignore_cleanup_errors=True) as root:
        os.environ |= {"XDG_STATE_HOME": f"{root}/s", "XDG_RUNTIME_DIR": root}
        runner = Runner(Path(root))
        wrong = run_all(runner, drafts)
        runner.close()
    print(*(wrong or drafts[:1]), f"{len(wrong)} of {len(drafts)} graphs went wrong", sep="\n\n")
    return int(bool(wrong))


if __name__ == "__main__":
    from beamslot_random import main as run_main  # blocks must be known by the name of this module, not as "__main__"

    sys.exit(run_main(sys.argv[1:]))
