"""What can be done to a running graph: its parameters changed, paused, a block started again, the end asked for.

A change of parameters is agreed upon in two steps, so that it holds from exactly one slot: all processes of the block
say from which slot on it can hold, and begin none behind that; the latest of these slots is where it stands.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from beamslot.errors import BadParam, UnknownBlock
from beamslot.runtime.block import Block
from beamslot.runtime.graph import BlockSpec, Graph, near
from beamslot.runtime.parameters import accept, changeable, live_parameters
from beamslot.runtime.steering import Reply, Request, refusal
from beamslot.runtime.timeline import DEADLINE, PACE, RUN, Change, Timeline

SAID = ("type", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "unit", "description", "anyOf")
"""What is told of a parameter, in the terms of a JSON schema."""

BUDGET = {"type": "number", "minimum": 0, "unit": "s", "description": "what slots may take until the end of the call"}


class Process(Protocol):
    """A process of the run, as far as the helm knows it."""

    blocks: tuple[str, ...]

    @property
    def alive(self) -> bool:
        """Whether it is there and has work to do."""
        ...

    def tell(self, kind: str, **fields: Any) -> None:
        """Send it a message."""
        ...


class Ship(Protocol):
    """The run that is steered.

    floor: before this slot all had been begun when processes were last started again
    """

    graph: Graph
    epoch: int
    floor: int

    @property
    def processes(self) -> Iterable[Process]:
        """All processes."""
        ...

    @property
    def under_way(self) -> bool:
        """Whether the run is going, and nobody is being started again."""
        ...

    @property
    def slot(self) -> int:
        """How many slots the sources have made, as far as is known."""
        ...

    def changed(self, change: Change) -> int:
        """Note a change that was agreed upon; return the origin of the slot clock from there on [ns]."""
        ...

    def pause(self) -> None:
        """Let sources make no more slots."""
        ...

    def unpause(self) -> None:
        """Let them go on."""
        ...

    def restart(self, block: str) -> list[str]:
        """Start the processes of a block again; return their names."""
        ...

    def stop(self, at_once: bool) -> None:
        """End the run, after what is under way or at once."""
        ...


@dataclass
class Wish:
    """A change that somebody has asked for.

    earliest: the slot that it is wanted for at the earliest    bounds: from where on each process can have it
    """

    change: Change
    reply: Reply
    earliest: int = 0
    number: int = 0
    bounds: dict[int, int | None] = field(default_factory=dict[int, int | None])


class Helm:
    """Takes requests and keeps the timeline of the parameters."""

    def __init__(self, ship: Ship) -> None:
        self._ship = ship
        self.timeline = [accept(ship.graph, change) for change in ship.graph.timeline]
        self._wishes: deque[Wish] = deque()
        self._asked: list[Process] = []
        self._number = self._reached = 0
        self._acts: Mapping[str, Callable[[Request, Reply], None]] = {
            "get": self._get,
            "set": self._set,
            "pause": self._pause,
            "resume": self._resume,
            "restart": self._restart,
            "stop": self._stop,
        }

    def act(self, request: Request, reply: Reply) -> None:
        """Do what is asked; raises BadParam, UnknownBlock where that cannot be done."""
        if request["do"] not in self._acts:
            raise BadParam(f"got a request to {request['do']!r}; {near(request['do'], self._acts)}")
        self._acts[request["do"]](request, reply)

    # parameters

    def _get(self, request: Request, reply: Reply) -> None:
        graph, slot = self._ship.graph, self._slot
        found = {name: _shown(spec, self._at(name, slot)) for name, spec in graph.blocks.items()}
        pace = next((c.values[PACE] for c in reversed(self.timeline) if c.block == RUN), graph.pace)
        reply(
            {
                "ok": True,
                "slot": slot,
                "pace": pace,
                "parameters": {name: values for name, values in found.items() if values},
                "timeline": [change.plain() for change in self.timeline],
            }
        )

    @property
    def _slot(self) -> int:
        """The newest slot that has been begun, as far as is known."""
        return max(self._ship.slot, self._reached)

    def _at(self, name: str, slot: int) -> dict[str, Any]:
        own = [change for change in self.timeline if change.block == name]
        first = changeable(self._ship.graph.blocks[name])
        return {**first, **Timeline(first, own).at(slot)}

    def _set(self, request: Request, reply: Reply) -> None:
        given, block, at = request.get("values"), request.get("block", RUN), request.get("at")
        if not isinstance(given, dict) or not isinstance(block, str):
            raise BadParam("set: wanted block, and values by the name of the parameter")
        values = cast(dict[str, Any], given)
        if at is not None and (type(at) is not int or at < 0):
            raise BadParam(f"set: got {at!r} for at; wanted a slot >= 0")
        if at is not None and block == RUN:
            raise BadParam(f"set: {PACE} is of now and not of a slot; leave at out")
        graph = self._ship.graph
        if block in graph.blocks:  # a value must fit those that hold beside it
            spec, now = graph.blocks[block], self._at(block, self._slot)
            own = {name: value for name, value in now.items() if name in spec.kind.model_fields}
            spec = replace(spec, parameters={**spec.parameters, **own})
            graph = replace(graph, blocks={**graph.blocks, block: spec})
        self._wishes.append(Wish(accept(graph, Change(0, block, values)), reply, at or 0))
        self.advance()

    def advance(self) -> None:
        """Propose the next change, or settle the one that is under way when all have answered."""
        if not self._wishes or not self._ship.under_way:
            return
        wish = self._wishes[0]
        if not wish.number:
            self._propose(wish)
        if all(id(process) in wish.bounds or not process.alive for process in self._asked):
            self._settle(wish)

    def renew(self) -> None:
        """Begin again with a change that was under way when processes died."""
        if self._wishes:
            self._wishes[0].number, self._asked = 0, []

    def hear(self, process: Process, number: int, slot: int | None) -> None:
        """Take the answer of a process: from which slot on a change can hold, None where it has ended."""
        if self._wishes and self._wishes[0].number == number:
            self._wishes[0].bounds[id(process)] = slot
            self.advance()

    def close(self) -> None:
        """Tell whoever waits for a change that it will not be made."""
        while self._wishes:
            self._wishes.popleft().reply(refusal(BadParam("set: the run ended before the change could be made")))

    def _propose(self, wish: Wish) -> None:
        graph, block = self._ship.graph, wish.change.block
        sources = {name for name in graph.blocks if not graph.inputs_of(name)}
        wanted = sources if block == RUN else {block}
        self._number += 1
        wish.number, wish.bounds = self._number, {}
        self._asked = [one for one in self._ship.processes if one.alive and wanted.intersection(one.blocks)]
        for process in self._asked:
            process.tell("propose", block=block, number=self._number, epoch=self._ship.epoch)

    def _settle(self, wish: Wish) -> None:
        self._wishes.popleft()
        bounds = [slot for slot in wish.bounds.values() if slot is not None]
        change = (
            replace(wish.change, slot=max([wish.earliest, self._ship.floor, *bounds]))
            if bounds
            else replace(wish.change, values={})
        )
        origin = 0
        if bounds:
            self.timeline.append(change)
            self._reached = max(self._reached, *bounds)
            origin = self._ship.changed(change)
            wish.reply({"ok": True, "slot": change.slot, "block": change.block, "values": change.values})
        else:
            wish.reply(refusal(BadParam(f"{change.block or 'the run'}: has ended; its parameters stay as they are")))
        for process in self._asked:
            if process.alive:
                process.tell("commit", change=change.plain(), origin=origin, epoch=self._ship.epoch)
        self._asked = []
        self.advance()

    # the rest

    def _pause(self, request: Request, reply: Reply) -> None:
        self._ship.pause()
        reply({"ok": True, "slot": self._ship.slot})

    def _resume(self, request: Request, reply: Reply) -> None:
        self._ship.unpause()
        reply({"ok": True, "slot": self._ship.slot})

    def _restart(self, request: Request, reply: Reply) -> None:
        block = request.get("block")
        if block not in self._ship.graph.blocks:
            raise UnknownBlock(f"restart: no block is called {block!r}; {near(str(block), self._ship.graph.blocks)}")
        reply({"ok": True, "processes": self._ship.restart(str(block))})

    def _stop(self, request: Request, reply: Reply) -> None:
        self._ship.stop(bool(request.get("now")))
        reply({"ok": True})


def _shown(spec: BlockSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the live parameters of a block: each with value, type, limits, unit and meaning."""
    schema: dict[str, Any] = _schema(spec.kind) if live_parameters(spec.kind) else {}
    schema.setdefault(DEADLINE, BUDGET)
    return {name: {**schema[name], "value": value} for name, value in values.items()}


def _schema(kind: type[Block]) -> dict[str, dict[str, Any]]:
    properties = kind.model_json_schema().get("properties", {})
    return {
        name: {key: properties[name][key] for key in SAID if key in properties[name]} for name in live_parameters(kind)
    }
