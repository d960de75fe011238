"""The process of one block: sockets in, core, sockets out; acknowledges, reports, ends.

One thread does the work and holds the sockets; while it is inside `process`, a second one may take the sockets to
acknowledge, to send heartbeats and to serve taps, so that a slow estimator is never silent.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import zmq

from beamslot.errors import BeamslotError, BlockFailed, FlowgraphError, FrameError
from beamslot.frame import Describe, Eos, Frame, Gap
from beamslot.runtime.align import Item
from beamslot.runtime.block import RunContext
from beamslot.runtime.clock import SlotClock
from beamslot.runtime.control import Control
from beamslot.runtime.core import Core, Input, Step
from beamslot.runtime.graph import DEFAULT_BYTES, BlockSpec, Graph, frame_slots, minimum_window
from beamslot.runtime.latency import Latency
from beamslot.runtime.slots import SlotSet
from beamslot.runtime.transport import Inlet, Link, Outlet

SERVICE_EVERY = 0.02
STATUS_EVERY = 250_000_000
HEARTBEAT_EVERY = 1_000_000_000
CALLS_BETWEEN_POLLS = 64
WORK_BETWEEN_POLLS = 1_000_000
"""What calls may take together before the sockets are looked at again [ns]."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""


@dataclass(frozen=True)
class Plan:
    """What a block process must know: the graph, which block it is, where the sockets are, the run's token."""

    graph: Graph
    spec: BlockSpec
    endpoints: Mapping[str, tuple[str, str]]
    token: str
    epoch: int = 0


class BlockProcess:
    """One block and its sockets."""

    def __init__(self, plan: Plan, control: Control) -> None:
        graph, spec = plan.graph, plan.spec
        self.plan, self.control, self.name = plan, control, spec.name
        self.block = spec.build(RunContext(spec.name, graph.seed, graph.slot_period))
        self.clock = SlotClock(graph.slot_period, graph.pace)
        self.process_time, self.end_to_end = Latency(), Latency()
        self.slots_done = 0
        self.errors: list[str] = []
        self._results: dict[str, Any] = {}
        self._going = False
        self._draining = self._unwanted = self._declined = False
        self._closing = self._stopped = False
        self._next_made = 0
        self._told_ready = False
        self._status_at = self._heartbeat_at = 0
        self._spent = 0
        self._moved = False
        self._active_at = time.monotonic_ns()
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4096)
        least = minimum_window(graph)
        self.outlets = {
            port: Outlet(
                self._context,
                f"{spec.name}.{port}",
                [Link(edge.name, graph.windows[edge.name], DEFAULT_BYTES, least) for edge in edges],
                plan.token,
            )
            for port, edges in graph.outputs_of(spec.name).items()
        }
        edges = [edge for ends in graph.inputs_of(spec.name).values() for edge in ends]
        self.inlets = [
            Inlet(
                self._context,
                edge.name,
                plan.token,
                slots=graph.windows[edge.name],
                nbytes=DEFAULT_BYTES,
                epoch=plan.epoch,
                on_error=self._note_error,
            )
            for edge in edges
        ]
        self._streams = [edge.stream for edge in edges]
        self.core = Core(
            self.block,
            [Input(spec.kind.inputs[edge.target_port], edge.stream, edge.name) for edge in edges],
            self._lock,
        )
        self._chunk = frame_slots(graph)[spec.name]
        self._linked = [outlet for outlet in self.outlets.values() if outlet.links]
        self._paced = self.clock.paced
        self._epoch = plan.epoch
        self._poller = zmq.Poller()
        self._answers: dict[Any, Callable[[], None]] = {}

    def run(self) -> None:
        """Work until everything is delivered and acknowledged, or the supervisor says stop."""
        for outlet in self.outlets.values():
            outlet.bind(*self.plan.endpoints[outlet.stream])
            self._listen(outlet.socket, self._serve_consumers)
        for index, inlet in enumerate(self.inlets):
            inlet.connect(self.plan.endpoints[self._streams[index]][0])
            self._listen(inlet.socket, partial(self._receive, index))
        self._listen(self.control.fileno(), self._obey)
        threading.Thread(target=self._serve_while_busy, daemon=True).start()
        with self._lock:
            try:
                if not self.inlets:
                    self._send_all(self.core.start())
                while not self._closing:
                    self._loop()
            except Exception:
                self.control.send("status", **self.status())  # the account up to the failure
                raise
        for socket_end in (*self.inlets, *self.outlets.values()):
            socket_end.close()
        self._context.term()

    def _loop(self) -> None:
        calls = self._spent = 0
        idle = False
        while not idle and calls < CALLS_BETWEEN_POLLS and self._spent < WORK_BETWEEN_POLLS:
            idle = not self._work()
            calls += 1
        if not idle or calls > 1:
            self._active_at = time.monotonic_ns()
            self._moved = True
        self._acknowledge(idle)
        self._housekeep()
        if idle:
            self._rest()
        else:
            self._poll(0)

    def _rest(self) -> None:
        """Wait for news, or for the next slot where that is nearer than a poll can tell."""
        if not self._makes():
            self._poll(1e-3 if any(inlet.owes for inlet in self.inlets) else 0.05)
            return
        wait = self.clock.wait(self._next_slots())
        self._poll(min(wait - 1e-3, 0.05) if wait >= 2e-3 else 0)
        if wait < 2e-3:
            time.sleep(max(0.0, self.clock.wait(self._next_slots())))

    def _poll(self, patience: float) -> None:
        for source, _ in self._poller.poll(int(patience * 1e3)):
            self._answers[source]()

    def _listen(self, source: Any, answer: Callable[[], None]) -> None:
        self._poller.register(source, zmq.POLLIN)
        self._answers[source] = answer

    def _receive(self, index: int) -> None:
        for item in self.inlets[index].receive():
            self.core.feed(index, item)

    def _serve_consumers(self) -> None:
        for outlet in self.outlets.values():
            self._moved = outlet.service() or self._moved
        self._unwanted = bool(self._linked) and all(outlet.unwanted for outlet in self._linked)

    # the work itself

    def _work(self) -> bool:
        """Do one thing that can be done now; return whether there was one."""
        if self.core.ended or not self._room():
            return False
        if not self.inlets:
            return self._going and self._make()
        step = self.core.step()
        if step is None:
            return False
        self._record(step)
        return True

    def _makes(self) -> bool:
        return not self.inlets and self._going and not self.core.ended and self._room()

    def _room(self) -> bool:
        for outlet in self._linked:  # noqa: SIM110 (asked for every frame, and a generator costs twice as much)
            if not outlet.room(self._chunk):
                return False
        return True

    def _next_slots(self) -> range:
        graph = self.plan.graph
        end = self._next_made + graph.burst
        return range(self._next_made, end if graph.slots is None else min(end, graph.slots))

    def _make(self) -> bool:
        slots = self._next_slots()
        if self._draining or not slots or self._unwanted:
            self.core.ended = True
            self._send_all([(port, Eos(self._next_made)) for port in self.outlets])
            return True
        captured = self.clock.due(slots) if self._paced else time.monotonic_ns()
        if self._paced and captured > time.monotonic_ns():
            return False
        step = self.core.make(slots, captured)
        self._next_made = slots.stop
        self._record(step)
        if self._paced:
            self.clock.note(slots)
        return True

    def _record(self, step: Step) -> None:
        if step.items:
            self._send_all(step.items)
        if step.slots is not None:
            self.slots_done += len(step.slots)
            self._spent += step.nanoseconds
            self.process_time.add(step.nanoseconds)
            if not self.outlets:
                self.end_to_end.add(time.monotonic_ns() - step.captured)

    def _send_all(self, items: list[tuple[str, Item]]) -> None:
        for port, item in items:
            outlet = self.outlets[port]
            if type(item) is Frame or isinstance(item, Gap):
                item.epoch = self._epoch
                outlet.emit(item)
            elif isinstance(item, Describe):
                outlet.describe(item.info)
            else:
                outlet.emit(item)

    # acknowledgement and end

    def _acknowledge(self, idle: bool) -> None:
        if self.inlets and self.core.started:
            over = self.core.ended and self._flushed()
            if self._moved or over:
                self._moved = False
                downstream = self._downstream()
                for index, inlet in enumerate(self.inlets):
                    inlet.finish(self.core.finished(index, downstream), eos=over)
            for inlet in self.inlets:
                inlet.flush(idle or over)
            if self.core.cut and not self._declined:
                self._declined = True  # at once: a producer that waits for us could not go on for the others
                for inlet in self.inlets:
                    inlet.done()
        if self.core.ended:
            self._maybe_close()
        elif self.inlets and self._unwanted:
            self._finish_unwanted()

    def _downstream(self) -> SlotSet | None:
        found = [done for outlet in self.outlets.values() if (done := outlet.finished()) is not None]
        if not found:
            return None
        both = found[0]
        for done in found[1:]:
            both = both & done
        return both

    def _finish_unwanted(self) -> None:
        self.core.ended = self.core.cut = True
        for outlet in self.outlets.values():
            outlet.emit(Eos(outlet.next_slot or 0))

    def _flushed(self) -> bool:
        """Whether all is delivered; what the block holds is then released, before its end is acknowledged."""
        if not all(outlet.flushed for outlet in self.outlets.values()):
            return False
        if not self._stopped:
            self._stopped = True
            self.block.stop()
        return True

    def _maybe_close(self) -> None:
        if self._closing or not self._flushed():
            return
        self._closing = True

    # housekeeping

    def _housekeep(self) -> None:
        now = time.monotonic_ns()
        if not self._told_ready and self.core.started and all(outlet.ready for outlet in self.outlets.values()):
            self._told_ready = True
            self.control.send("ready")
        if now - self._status_at >= STATUS_EVERY:
            self._status_at = now
            if self.control.free:
                self.control.send("status", **self.status())
            for outlet in self.outlets.values():
                outlet.serve_tap(now)
        if now - self._heartbeat_at >= HEARTBEAT_EVERY:
            self._heartbeat_at = now
            for inlet in self.inlets:
                inlet.heartbeat()

    def _serve_while_busy(self) -> None:
        """The second thread: takes the sockets only while the first is inside `process`."""
        while not self._closing:
            time.sleep(SERVICE_EVERY)
            if self.control.closed:
                os._exit(1)  # the supervisor is gone; nobody would collect us
            if self._lock.acquire(blocking=False):
                try:
                    if not self._closing and self.core.working_on is not None:
                        self._serve_consumers()
                        self._acknowledge_busy()
                        self._housekeep()
                        self._obey()
                finally:
                    self._lock.release()

    def _acknowledge_busy(self) -> None:
        downstream = self._downstream()
        for index, inlet in enumerate(self.inlets):
            inlet.finish(self.core.finished(index, downstream))
            inlet.flush(idle=True)

    def _obey(self) -> None:
        for message in self.control.receive():
            if message["kind"] == "go":
                self.clock.origin = message["origin"]
                self._going = True
            elif message["kind"] == "drain":
                self._draining = self._going = True
            elif message["kind"] == "abort":
                self.control.send("ended", **self.status())
                os._exit(0)
        if self.control.closed:
            os._exit(1)

    def _note_error(self, text: str) -> None:
        self.errors.append(text)

    # reports

    def status(self) -> dict[str, Any]:
        """Return counts, latencies and what the block does or waits for, as plain values."""
        busy = self.core.working_on
        if busy is None and self.core.started and not self.outlets:
            self._results = self.block.results()
        state = "waiting"
        if busy is not None:
            state = "processing"
        elif self.core.ended:
            state = "ended"
        elif not self._room():
            state = "blocked"
        elif not self.inlets:
            state = "pacing" if self._going else "starting"
        return {
            "block": self.name,
            "state": state,
            "working_on": None if busy is None else [busy.start, busy.stop],
            "idle_ns": time.monotonic_ns() - self._active_at,
            "waits_for": self.core.waits_for() if state == "waiting" else [],
            "slots": self.slots_done,
            "late": self.clock.late,
            "process_time": list(self.process_time.counts.items()),
            "end_to_end": list(self.end_to_end.counts.items()),
            "edges": [account for outlet in self.outlets.values() for account in outlet.account()],
            "oldest": {link.edge: _oldest(link) for outlet in self.outlets.values() for link in outlet.links},
            "unmatched": {inlet.edge: n for inlet, n in zip(self.inlets, self.core.unmatched, strict=True)},
            "errors": self.errors,
            "misfits": {inlet.edge: dropped for inlet, dropped in zip(self.inlets, self.core.dropped, strict=True)},
            "refused": sum(outlet.refused for outlet in self.outlets.values()),
            "results": self._results,
        }


def _oldest(link: Link) -> int:
    """The oldest slot that the consumer has not acknowledged."""
    ranges = list(link.acknowledged)
    return ranges[0][1] if ranges else 0


def _keep_memory() -> None:
    """Keep what frames free for those to come: to give it back and fault it in again costs more than to send them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc; others go without
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024)
        mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024)
    gc.freeze()  # what is loaded by now stays, and need not be looked through again


def main(plan: Plan, control: Control) -> int:
    """Run one block to its end; return the exit code, everything else is told to the supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the whole group; the supervisor obeys
        signal.signal(number, signal.SIG_IGN)
    _keep_memory()
    try:
        process = BlockProcess(plan, control)
        process.run()
        control.send("ended", **process.status())
        return 0
    except Exception as error:
        with contextlib.suppress(OSError):  # the disk of the log may be the one that is full
            traceback.print_exc()
            sys.stderr.flush()
        slots = error.slots if isinstance(error, BlockFailed) else None
        control.send(
            "failed",
            block=plan.spec.name,
            error=type(error).__name__,
            message=str(error) if isinstance(error, BeamslotError) else f"{type(error).__name__}: {error}",
            graph=isinstance(error, FlowgraphError | FrameError),
            slots=None if slots is None else [slots.start, slots.stop],
        )
        return 1
