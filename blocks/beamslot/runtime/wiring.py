"""The cores, outlets and inlets of one process for one epoch, put together from its plan and its records."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import zmq

from beamslot.runtime.block import Block
from beamslot.runtime.core import Core, Input, Resumed
from beamslot.runtime.graph import DEFAULT_BYTES, DEFAULT_WINDOW, EdgeSpec, frame_slots, minimum_window
from beamslot.runtime.parameters import timeline_of
from beamslot.runtime.place import Standing
from beamslot.runtime.plan import Plan
from beamslot.runtime.record import Now
from beamslot.runtime.remote import Remotes, edge_of, relay, token_of
from beamslot.runtime.resume import begin_of, inputs_of
from beamslot.runtime.transport import Inlet, Link, Outlet, Tap

Call = Callable[[str, range, Mapping[str, Any]], None]


@dataclass
class Inner:
    """An edge within the process: arrays are handed over as they are."""

    edge: EdgeSpec
    core: Core
    index: int
    window: int
    offered: int = 0
    next_slot: int = 0


@dataclass
class Seat:
    """A core with what it is connected to.

    inlets: by input, None where the producer is in this process
    outlets: by port    inner: by port, the edges within the process
    """

    core: Core
    chunk: int
    inlets: list[Inlet | None] = field(default_factory=list[Inlet | None])
    outlets: dict[str, Outlet] = field(default_factory=dict[str, Outlet])
    inner: dict[str, list[Inner]] = field(default_factory=dict[str, list[Inner]])
    unwanted: bool = False
    declined: bool = False
    stopped: bool = False
    left: bool = False

    def __post_init__(self) -> None:
        before = self.core.before
        # One that was over when its process began has nothing to tell and nothing to release.
        self.stopped = self.core.is_over and (before is None or not before.started)
        self.linked: list[Outlet] = []
        self.consumers: list[Inner] = []

    def room(self) -> bool:
        """Return whether the next output fits on every lossless edge."""
        for outlet in self.linked:
            if not outlet.room(self.chunk):
                return False
        for inner in self.consumers:
            if inner.core.backlog(inner.index) + self.chunk > inner.window and not inner.core.ended:
                return False
        return True


class Wiring:
    """Puts the seats of a process together; `seats` is in topological order."""

    def __init__(
        self,
        plan: Plan,
        context: zmq.Context[zmq.Socket[bytes]],
        blocks: Mapping[str, Block],
        taps: Mapping[str, Tap],
        *,
        records: Mapping[str, Standing],
        before: Mapping[str, Core],
        lock: AbstractContextManager[Any],
        on_call: Call | None,
        on_error: Callable[[str], None],
        nows: Mapping[str, Now],
    ) -> None:
        self._nows = nows
        self.plan, self.graph = plan, plan.graph
        self._context, self._taps, self._on_error = context, taps, on_error
        self._least, self._frame = minimum_window(plan.graph), frame_slots(plan.graph)
        self.seats: dict[str, Seat] = {}
        self._blocks = blocks
        self.remotes = Remotes(context, on_error)
        for name in plan.blocks:
            if name not in plan.over:
                core = self._core(name, blocks[name], records.get(name), before.get(name), lock, on_call)
                self.seats[name] = Seat(core, self._frame[name])
        for name, seat in self.seats.items():
            self._connect(name, seat)

    def _core(
        self,
        name: str,
        block: Block,
        standing: Standing | None,
        before: Core | None,
        lock: AbstractContextManager[Any],
        on_call: Call | None,
    ) -> Core:
        spec, going = self.graph.blocks[name], self.plan.going.get(name)
        if spec.kind.remote:
            block = relay(block)
        inputs = [Input(block.inputs[edge.target_port], edge.stream, edge.name) for edge in inputs_of(self.graph, name)]
        if spec.kind.remote == "connect":
            inputs.append(Input(block.inputs["wire"], edge_of(self._blocks[name]), edge_of(self._blocks[name])))
        return Core(
            block,
            inputs,
            lock,
            resumed=None if going is None else Resumed(going, standing, before),
            poison=self.plan.poison.get(name, ()),
            on_call=on_call and partial(on_call, name),
            now=self._nows.get(name),
            sparse=spec.replicas > 1,
            deadline=spec.deadline,
            timeline=timeline_of(self.graph, name, self.plan.timeline),
        )

    def _connect(self, name: str, seat: Seat) -> None:
        plan, graph = self.plan, self.graph
        resumed = name in plan.going
        for port, edges in graph.outputs_of(name).items():
            stream = f"{name}.{port}"
            seat.inner[port] = [self._inner(seat.core, edge) for edge in edges if graph.is_inner(edge)]
            links = [self._link(seat.core, edge) for edge in edges if not graph.is_inner(edge)]
            outlet = Outlet(
                self._context,
                stream,
                links,
                plan.token,
                self._taps[stream],
                begin=seat.core.begin if resumed and seat.core.begin else None,
                sparse=seat.core.sparse,
            )
            seat.outlets[port] = outlet
        if graph.blocks[name].kind.remote == "bind":
            seat.outlets["wire"], seat.inner["wire"] = self._remote_outlet(name, seat.core), []
        seat.linked = [outlet for outlet in seat.outlets.values() if outlet.links]
        seat.consumers = [inner for row in seat.inner.values() for inner in row]
        for index, edge in enumerate(inputs_of(graph, name)):
            gone = graph.is_inner(edge) or edge.source in plan.over
            seat.inlets.append(None if gone else self._inlet(name, seat.core, index, edge))
        if graph.blocks[name].kind.remote == "connect":
            seat.inlets.append(self._remote_inlet(name, seat.core))

    def _remote_outlet(self, name: str, core: Core) -> Outlet:
        block, stream = self._blocks[name], f"{name}.wire"
        link = Link(edge_of(block), self._remote_window, DEFAULT_BYTES, self._least, remote=True, offered=core.offered)
        tap = Tap(self._context, stream)
        return Outlet(self._context, stream, [link], token_of(block), tap, begin=core.begin or None, sparse=True)

    def _remote_inlet(self, name: str, core: Core) -> Inlet:
        block = self._blocks[name]
        return Inlet(
            self._context,
            edge_of(block),
            token_of(block),
            slots=self._remote_window,
            nbytes=DEFAULT_BYTES,
            epoch=self.plan.epoch,
            on_error=self._on_error,
            begin=core.begin_of(0) or None,
            remote=True,
        )

    @property
    def _remote_window(self) -> int:
        return max(self._least, DEFAULT_WINDOW * self.graph.burst)

    def _inner(self, core: Core, edge: EdgeSpec) -> Inner:
        target = self.seats[edge.target].core
        index = inputs_of(self.graph, edge.target).index(edge)
        return Inner(edge, target, index, self.graph.windows[edge.name], core.offered, core.begin)

    def _link(self, core: Core, edge: EdgeSpec) -> Link:
        over = edge.target in self.plan.over
        begin = begin_of(self.graph, edge, self.plan.going) if self.plan.going and not over else 0
        if not edge.lossless and core.base is not None:
            begin = max(begin, core.base)
        return Link(
            edge.name,
            self.graph.windows[edge.name],
            edge.nbytes or DEFAULT_BYTES,
            self._least,
            edge.policy,
            max(1, self.graph.blocks[edge.target].replicas),
            begin=begin,
            over=over,
            offered=core.offered,
        )

    def _inlet(self, name: str, core: Core, index: int, edge: EdgeSpec) -> Inlet:
        plan = self.plan
        sparse = core.sparse
        return Inlet(
            self._context,
            edge.name,
            plan.token,
            slots=self.graph.windows[edge.name],
            nbytes=edge.nbytes or DEFAULT_BYTES,
            epoch=plan.epoch,
            on_error=self._on_error,
            replica=plan.replica,
            producers=max(1, self.graph.blocks[edge.source].replicas),
            begin=core.begin_of(index) or None,
            allowance=0 if edge.lossless and not sparse else self._frame[edge.source] + 1 if edge.lossless else 1,
            fault=edge.fault,
            seed=self.graph.seed,
        )

    def open(self) -> None:
        """Bind and connect everything."""
        plan = self.plan
        for name, seat in self.seats.items():
            for port, outlet in seat.outlets.items():
                if port in self.graph.blocks[name].kind.outputs:
                    outlet.bind(plan.sockets.edge(outlet.stream, plan.replica, plan.epoch))
                else:
                    self.remotes.bind(self._blocks[name], outlet)
        for name, seat in self.seats.items():
            edges = inputs_of(self.graph, name)
            for edge, inlet in zip(edges, seat.inlets, strict=False):
                if inlet is not None:
                    inlet.connect(
                        *(plan.sockets.edge(edge.stream, number, plan.epoch) for number in range(len(inlet.wires)))
                    )
            for inlet in seat.inlets[len(edges) :]:
                if inlet is not None:
                    self.remotes.connect(self._blocks[name], inlet)

    def close(self, linger: int) -> None:
        """Close everything but the taps of the graph's streams; what is queued is sent for so long [ms]."""
        self.remotes.close()
        for seat in self.seats.values():
            for inlet in seat.inlets:
                if inlet is not None:
                    inlet.close(linger)
            for outlet in seat.outlets.values():
                outlet.close(linger, tap=outlet.stream not in self._taps)


def marked_blocks(plan: Plan) -> int:
    """Return how many blocks of the graph keep places to go back to."""
    return sum(spec.kind.resumes() for spec in plan.graph.blocks.values())
