"""One process of a run: its blocks, their sockets, and the loop around both, from epoch to epoch.

One thread does the work and holds the sockets; while it is inside `process`, a second one may take the sockets to
acknowledge, to send heartbeats and to serve taps, so that a slow estimator is never silent. When some process of the
graph has ended before its time, all others halt between two calls, and go on from where the supervisor says.
"""

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import zmq

from beamslot.errors import BeamslotError, BlockFailed, FlowgraphError, FrameError
from beamslot.frame import Describe, Eos, Frame, Gap
from beamslot.runtime.align import Item
from beamslot.runtime.block import Block, RunContext
from beamslot.runtime.clock import SlotClock
from beamslot.runtime.control import Control
from beamslot.runtime.core import Core, Step
from beamslot.runtime.graph import Graph, minimum_window, window_of
from beamslot.runtime.latency import Latency, summed
from beamslot.runtime.place import Standing
from beamslot.runtime.plan import Plan
from beamslot.runtime.record import Now, Record
from beamslot.runtime.slots import SlotSet
from beamslot.runtime.timeline import PACE, RUN, Change
from beamslot.runtime.trace import Tracer
from beamslot.runtime.transport import Inlet, Tap
from beamslot.runtime.wiring import Inner, Seat, Wiring

SERVICE_EVERY = 0.02
STATUS_EVERY = 250_000_000
HEARTBEAT_EVERY = 1_000_000_000
MARK_EVERY = 2_000_000
"""An idle block with state notes where it stands so often [ns]; one whose state is dear, less often."""
RECORD_EVERY = 20_000_000
"""A process that has no producers to acknowledge to records so often [ns]; what it made since, it makes again."""
SHARE_EVERY = 5_000_000
"""Replicas are told so often what is shared out, and what all of them have noted [ns]."""
DEAR = 20
"""Noting where it stands may cost a block, or a process, one part in so many of its time."""
CALLS_BETWEEN_POLLS = 64
WORK_BETWEEN_POLLS = 1_000_000
"""What calls may take together before the sockets are looked at again [ns]."""

MOST_SAID = 1000
"""So many sentences of its blocks a process keeps: the world outside must not fill its memory."""

NO_FAULTS: Mapping[str, int] = MappingProxyType({})

GIVE_WAY = 10
"""How nice a process is that only lossy edges lead to."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""


class Meter:
    """What a block has cost over all epochs of this process."""

    def __init__(self) -> None:
        self.process_time = Latency()
        self.end_to_end: dict[int, Latency] = {}
        self.slots = self.busy = self.cut_short = 0
        self.faults: Counter[str] = Counter()
        self.mark_at = self.mark_cost = 0
        self.results: dict[str, Any] = {}


class Unit:
    """The blocks of one process."""

    def __init__(self, plan: Plan, control: Control, record: Record, nows: Mapping[str, Now]) -> None:
        graph = plan.graph
        self.plan, self.control, self.record, self.nows = plan, control, record, nows
        self.blocks = {
            name: graph.blocks[name].build(RunContext(name, graph.seed, graph.slot_period, self._say))
            for name in plan.blocks
        }
        self._reels = {name for name, block in self.blocks.items() if type(block).upcoming is not Block.upcoming}
        self.meters = {name: Meter() for name in plan.blocks}
        self.clock = SlotClock(graph.slot_period, graph.pace)
        self._tracer = Tracer(plan.trace) if plan.trace else None
        self.errors: list[str] = []
        self._strikes = list(plan.strikes)
        self._going = self._closing = self._cutting = self._paused = False
        self._halt_at = -1
        self._draining = plan.draining
        self._told_ready = False
        self._status_at = self._heartbeat_at = self._recorded_at = self._shared_at = 0
        self._spent = self._record_cost = 0
        self._moved = False
        self._news: Mapping[str, Any] | None = None
        self._active_at = time.monotonic_ns()
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4096)
        self._taps = {
            f"{name}.{port}": Tap(self._context, f"{name}.{port}")
            for name in plan.blocks
            for port in graph.blocks[name].kind.outputs
        }
        self._cores: dict[str, Core] = {}
        self._spacing = _spacing(graph)
        self.seats: dict[str, Seat] = {}

    def run(self) -> None:
        """Work until everything is delivered and acknowledged, or the supervisor says stop."""
        for stream, tap in self._taps.items():
            tap.bind(self.plan.sockets.tap(stream, self.plan.replica))
        threading.Thread(target=self._serve_while_busy, daemon=True).start()
        with self._lock:
            try:
                while not self._closing:
                    self._open()
                    while not self._closing and not self._halting:
                        self._loop()
                    if not self._closing:
                        self._halt()
            except Exception:
                self.control.send("status", blocks=self.status())  # the account up to the failure
                self._closing = True  # what is still to be said, this thread says alone
                raise
        if self._tracer:
            self._tracer.close()
        self._wiring.close(1000)
        for tap in self._taps.values():
            tap.close()
        self._context.term()

    def _say(self, text: str) -> None:
        """Take a sentence of a block for whoever watches the run."""
        if len(self.errors) < MOST_SAID:
            self.errors.append(text)

    # epochs

    @property
    def _halting(self) -> bool:
        """Whether this epoch is to end; a halt that comes twice does not end the next one."""
        return self._halt_at == self.plan.epoch

    def _open(self) -> None:
        """Make all links, from where the plan says."""
        plan = self.plan
        recorded: dict[str, Any] = self.record.read() or {}
        self._going = self._told_ready = False
        self._wiring = Wiring(
            plan,
            self._context,
            self.blocks,
            self._taps,
            records={name: Standing.unpack(packed) for name, packed in recorded.items()} if plan.going else {},
            before=self._cores,
            lock=self._lock,
            on_call=self._on_call if self._strikes or plan.suspects else None,
            nows=self.nows,
            on_error=self.errors.append,
        )
        self.seats = self._wiring.seats
        self._cores = {name: seat.core for name, seat in self.seats.items()}
        self._backwards = list(reversed(self.seats.items()))
        self._sources = {name: seat.core.begin for name, seat in self.seats.items() if not seat.inlets}
        self._wiring.open()
        self._poller = zmq.Poller()
        self._answers: dict[Any, Callable[[], None]] = {}
        self._inlets = [inlet for seat in self.seats.values() for inlet in seat.inlets if inlet is not None]
        self._outlets = [outlet for seat in self.seats.values() for outlet in seat.outlets.values()]
        self._shares = any(len(link.peers) > 1 for outlet in self._outlets for link in outlet.links)
        for outlet in self._outlets:
            self._listen(outlet.socket, self._serve_consumers)
        for seat in self.seats.values():
            for index, inlet in enumerate(seat.inlets):
                if inlet is not None:
                    for number in range(len(inlet.wires)):
                        self._listen(inlet.wires[number].socket, partial(self._receive, seat, index))
        for socket in self._wiring.remotes.sockets:
            self._listen(socket, self._wiring.remotes.serve)
        self._listen(self.control.fileno(), self._obey)
        for name in self._sources:
            self._begin_source(name)

    def _begin_source(self, name: str) -> None:
        seat, now = self.seats[name], self.nows[name]
        taken = all(outlet.unwanted for outlet in seat.linked) and all(edge.core.is_over for edge in seat.consumers)
        if taken and (seat.linked or seat.consumers):  # everybody has had all that it ever made
            self._sources[name] = max(self._sources[name], now.made)
        begin = self._sources[name]
        self._send_all(seat, seat.core.start())
        if not self.blocks[name].live or name not in self.plan.going:
            return
        for port, item in list(seat.core.kept):
            if item.end > begin:
                self._send_all(seat, [(port, item)])
                seat.core.work_off(0, range(max(item.first, begin), item.end))
                self._sources[name] = max(self._sources[name], item.end)
        if now.made > self._sources[name]:
            gap = (self._sources[name], now.made - self._sources[name])
            self._send_all(seat, [(port, Gap(*gap, "source restarted")) for port in seat.outlets])
            seat.core.work_off(0, range(gap[0], now.made))
            self._sources[name] = now.made

    def _halt(self) -> None:
        """Note where everything stands, break all links, and wait to be told where to go on."""
        self._acknowledge(True)
        if self._closing:
            return  # the last acknowledgement had just come
        for seat in self.seats.values():
            if seat.core.started and not seat.outlets and not seat.core.is_over:
                seat.core.mark() if seat.core.marked else None
                seat.core.settle(None)
        self._write_record()
        self._wiring.close(0)
        self.control.send("status", blocks=self.status())
        self.control.send("halted", epoch=self.plan.epoch)
        while self._news is None and not self._closing:
            self._lock.release()
            try:
                select.select([self.control], [], [], 0.2)
            finally:
                self._lock.acquire()
            self._obey()
        if self._news is not None:
            self.plan = self.plan.renewed(self._news)
            self._draining = self._draining or self.plan.draining
            self._news = None

    def _write_record(self) -> None:
        begun = time.thread_time_ns()
        self.record.write({name: seat.core.standing().pack() for name, seat in self.seats.items()})
        self._record_cost = time.thread_time_ns() - begun
        self._recorded_at = time.monotonic_ns()

    def _due(self, idle: bool) -> list[Inlet]:
        """Return the inlets that are to acknowledge now; while records are dear, those whose producers wait for it."""
        resting = time.monotonic_ns() - self._recorded_at < DEAR * self._record_cost
        return [inlet for inlet in self._inlets if inlet.due(idle) and (inlet.pressing or not resting)]

    # the loop

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
        if self._cutting:
            self._cutting = False
            self._cut_links()
        if idle:
            self._rest()
        else:
            self._poll(0)

    def _rest(self) -> None:
        """Wait for news, or for the next slot where that is nearer than a poll can tell."""
        makers = [name for name in self._sources if self._makes(name)]
        if not makers:
            owing = any(inlet.owes for inlet in self._inlets) or any(
                seat.core.unmarked for seat in self.seats.values() if seat.core.marked
            )
            self._poll(1e-3 if owing else 5e-3 if self._shares else 0.05)
            return
        due = min(self._next(name)[1] for name in makers)
        wait = self.clock.until(due)
        self._poll(min(wait - 1e-3, 0.05) if wait >= 2e-3 else 0)
        if wait < 2e-3:
            time.sleep(max(0.0, self.clock.until(due)))

    def _poll(self, patience: float) -> None:
        for source, _ in self._poller.poll(int(patience * 1e3)):
            self._answers[source]()

    def _listen(self, source: Any, answer: Callable[[], None]) -> None:
        self._poller.register(source, zmq.POLLIN)
        self._answers[source] = answer

    def _receive(self, seat: Seat, index: int) -> None:
        inlet = seat.inlets[index]
        if inlet is not None:
            for item in inlet.receive():
                seat.core.feed(index, item)
            seat.core.shared, seat.core.through = inlet.shared, inlet.through
            self._moved = True

    def _serve_consumers(self) -> None:
        for outlet in self._outlets:
            self._moved = outlet.service() or self._moved

    # the work itself

    def _work(self) -> bool:
        """Do one thing that can be done now, nearest to the sinks first; return whether there was one."""
        for name, seat in self._backwards:
            core = seat.core
            if core.ended or (seat.outlets and not seat.room()):
                continue
            if not seat.inlets:
                if self._free(seat) and self._make(name, seat):
                    return True
                continue
            step = core.step()
            if step is not None:
                self._record(name, seat, step)
                return True
        return False

    def _makes(self, name: str) -> bool:
        seat = self.seats[name]
        return self._free(seat) and not seat.core.ended and seat.room()

    def _free(self, seat: Seat) -> bool:
        """Whether a source may go on: all are there, nobody has paused the run, no change is being agreed upon."""
        return self._going and seat.core.tuning.hold is None and (self._draining or not self._paused)

    def _next_slots(self, name: str) -> range:
        graph, first = self.plan.graph, self._sources[name]
        end = min(first + graph.burst, self.seats[name].core.tuning.until(first))
        return range(first, end if graph.slots is None else min(end, graph.slots))

    def _next(self, name: str) -> tuple[range, int]:
        """Return the next slots of a source and when they are due [ns]; one with frames of its own says so itself."""
        asked = self._next_slots(name)
        own = self.blocks[name].upcoming(asked) if asked and name in self._reels else None
        if own is None:
            return asked, self.clock.due(asked) if self.clock.paced else 0
        slots, since = own
        if self.plan.graph.slots is not None:
            slots = range(min(slots.start, self.plan.graph.slots), min(slots.stop, self.plan.graph.slots))
        return slots, self.clock.due_after(since)

    def _make(self, name: str, seat: Seat) -> bool:
        (slots, due), now = self._next(name), self.nows[name]
        if not slots or seat.unwanted or (self._draining and slots.start >= now.made):
            seat.core.ended = True
            self._send_all(seat, [(port, Eos(slots.start)) for port in seat.outlets])
            return True
        paced = self.clock.paced
        captured = due if paced else time.monotonic_ns()
        if paced and captured > time.monotonic_ns():
            return False
        step = seat.core.make(slots, captured)
        if step.slots is not None and not step.slots and not step.items:
            now.end()
            return False  # nothing has come yet
        slots = step.slots or slots
        self._sources[name] = slots.stop
        self._record(name, seat, step)
        if paced and slots.stop > now.made:
            self.clock.note(slots, due)
        now.made = slots.stop
        return True

    def _on_call(self, name: str, slots: range, given: Mapping[str, Any]) -> None:
        if self._strikes:
            self._strike(name, slots)
        if self.plan.suspects and not self.plan.suspects.get(name, frozenset()).isdisjoint(slots):
            self.save_frame(name, slots, given, {"error": "suspect", "message": "the slot that ended the block before"})

    def _strike(self, name: str, slots: range) -> None:
        for strike in list(self._strikes):
            if strike.block == name and strike.slot < slots.stop:
                self._strikes.remove(strike)
                if strike.action == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                elif strike.action == "stop":
                    self.control.send("stopping")
                    os.kill(os.getpid(), signal.SIGSTOP)
                else:
                    self._cutting = True

    def save_frame(self, name: str, slots: range, given: Mapping[str, Any], failure: Mapping[str, Any]) -> str | None:
        """Keep what the block was given, for whoever looks for the fault; return where."""
        arrays: dict[str, Mapping[str, Any]] = {
            port: cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {port: value}
            for port, value in given.items()
            if port in self.blocks[name].inputs and value is not None
        }
        if self.plan.diary is None:
            return None
        told = {"slots": [slots.start, slots.stop], "seed": self.plan.graph.seed, **failure}
        path = self.plan.diary.crash(name, self.plan.epoch, told, arrays)
        return None if path is None else str(path)

    def _record(self, name: str, seat: Seat, step: Step) -> None:
        if step.items:
            self._send_all(seat, step.items)
        if step.slots is not None:
            meter, spent, core = self.meters[name], step.nanoseconds, seat.core
            meter.slots += len(step.slots)
            meter.busy += spent
            if step.cut_short:
                meter.cut_short += len(step.slots)
            if faults := struck(step.items):
                meter.faults.update(faults)
            self._spent += spent
            meter.process_time.add(spent)
            self.nows[name].end()
            if core.marked and core.unmarked >= self._spacing:
                self._mark(name, core, False)
            if not seat.outlets:
                latency = meter.end_to_end.get(step.number)
                if latency is None:
                    latency = meter.end_to_end[step.number] = Latency()
                latency.add(time.monotonic_ns() - step.captured)
            if self._tracer:
                self._tracer.add(name, step.slots, step.begun, spent, step.captured)

    def _send_all(self, seat: Seat, items: list[tuple[str, Item]]) -> None:
        for port, item in items:
            outlet = seat.outlets[port]
            if type(item) is Frame or isinstance(item, Gap):
                item.epoch = self.plan.epoch
                outlet.emit(item)
            elif isinstance(item, Describe):
                outlet.describe(item.info)
            else:
                outlet.emit(item)
            for inner in seat.inner[port]:
                self._hand_over(inner, item)

    def _hand_over(self, inner: Inner, item: Item) -> None:
        if inner.core.ended:
            return
        if isinstance(item, Frame | Gap) and item.end > inner.next_slot:
            inner.offered += item.end - max(item.first, inner.next_slot)
            inner.next_slot = item.end
        inner.core.feed(inner.index, item)

    # acknowledgement and end

    def _acknowledge(self, idle: bool) -> None:
        """Work out what is finished, from the sinks upwards; record it, and only then tell the producers."""
        moved, self._moved = self._moved, False
        if self._draining:
            self._leave()
        before = sum(seat.core.is_over for seat in self.seats.values())
        for name, seat in self._backwards:
            if seat.core.started:
                self._settle(name, seat, moved, idle)
        over = sum(seat.core.is_over for seat in self.seats.values())
        all_over = over == len(self.seats)
        for seat in self.seats.values():
            self._ask(seat)  # before the end is acknowledged: after that a producer may not listen any more
        due = self._due(idle or self._halting)
        stale = not self._inlets and time.monotonic_ns() - self._recorded_at > RECORD_EVERY
        if due or stale or over > before:
            self._write_record()
            if all_over:
                self._stop_blocks()
            if over > before:  # before a producer learns of it, and may be gone for good
                self.control.send("status", blocks=self.status())
            for inlet in due:
                inlet.tell()
        # Not before all are connected: what was told must reach a producer that is started again, however slowly.
        self._closing = self._closing or (all_over and self._going)

    def _settle(self, name: str, seat: Seat, moved: bool, idle: bool) -> None:
        """Work out what of a block's inputs is finished."""
        core = seat.core
        if moved or core.ended:
            self._look(seat)
        over = core.ended and self._flushed(seat)
        if core.marked and not over:
            self._mark(name, core, idle)
        if moved or over or core.marked:
            core.settle(self._downstream(seat), over)
            for index, inlet in enumerate(seat.inlets):
                if inlet is not None:
                    inlet.finish(core.told(index), eos=over and not seat.left)

    def _leave(self) -> None:
        """Take no more from another run, which keeps what was not finished here for whoever comes next."""
        for name, seat in self.seats.items():
            core = seat.core
            if self.blocks[name].remote == "connect" and core.started and not core.ended:
                at = core.reached
                core.cut_off(at)
                seat.declined = seat.left = True
                self._send_all(seat, [(port, Eos(at)) for port in seat.outlets])

    def _look(self, seat: Seat) -> None:
        """See whether anybody still wants what a block gives; a block that nobody does ends."""
        consumers = seat.consumers
        seat.unwanted = bool(seat.linked or consumers) and all(outlet.unwanted for outlet in seat.linked)
        seat.unwanted = seat.unwanted and all(inner.core.ended for inner in consumers)
        core = seat.core
        if (seat.unwanted or core.was_cut) and seat.inlets and not core.ended:
            at = core.last if core.was_cut else max((o.next_slot or 0 for o in seat.outlets.values()), default=0)
            core.cut_off(at)
            self._send_all(seat, [(port, Eos(at)) for port in seat.outlets])

    def _mark(self, name: str, core: Core, idle: bool) -> None:
        """Let a block note where it stands: every so many slots, and when it has nothing to do."""
        fresh = core.unmarked
        if not fresh:
            return
        meter, now = self.meters[name], time.monotonic_ns()
        wait = max(MARK_EVERY, DEAR * meter.mark_cost)
        if fresh < self._spacing and not (idle and len(core.places) == 1 and now - meter.mark_at > wait):
            return
        core.mark()
        meter.mark_at = time.monotonic_ns()
        meter.mark_cost = meter.mark_at - now

    def _downstream(self, seat: Seat) -> SlotSet | None:
        found = [done for outlet in seat.linked if (done := outlet.finished()) is not None]
        found += [inner.core.finished_with(inner.index) for inner in seat.consumers]
        if not found:
            return None
        both = found[0]
        for done in found[1:]:
            both = both & done
        return both

    def _flushed(self, seat: Seat) -> bool:
        """Whether all that a block gave is finished everywhere."""
        outlets, inner = seat.outlets.values(), seat.consumers
        delivered = all(outlet.flushed for outlet in outlets) and all(edge.core.is_over for edge in inner)
        return seat.core.is_over or delivered

    def _stop_blocks(self) -> None:
        """Release what the blocks hold, before the end is acknowledged."""
        for name, seat in self.seats.items():
            if seat.core.started and not seat.stopped:
                seat.stopped = True
                if self.blocks[name].judges():
                    self.meters[name].results = self.blocks[name].results()
                self.blocks[name].stop()

    def _ask(self, seat: Seat) -> None:
        """Ask for more where producers wait to be asked; where no more is wanted, say so at once.

        A producer that waits for a block which wants nothing could not go on for the others.
        """
        for index, inlet in enumerate(seat.inlets):
            if inlet is not None and inlet.allowance:
                inlet.offer(seat.core.backlog(index))
        if seat.core.cut and not seat.declined:
            seat.declined = True
            for inlet in seat.inlets:
                if inlet is not None:
                    inlet.done(seat.core.cut_at)

    # housekeeping

    def _housekeep(self) -> None:
        now = time.monotonic_ns()
        if self._shares and now - self._shared_at >= SHARE_EVERY:
            self._shared_at = now
            for outlet in self._outlets:
                outlet.tell_replicas()
        if not self._told_ready and self._is_ready():
            self._told_ready = True
            self._write_record()
            self.control.send("ready", epoch=self.plan.epoch)
        if now - self._status_at >= STATUS_EVERY:
            self._status_at = now
            if self._tracer:
                self._tracer.flush()
            self._wiring.remotes.redial()
            if self.control.free:
                self.control.send("status", blocks=self.status())
            for tap in self._taps.values():
                tap.serve(now)
        if now - self._heartbeat_at >= HEARTBEAT_EVERY:
            self._heartbeat_at = now
            for inlet in self._inlets:
                inlet.heartbeat()

    def _is_ready(self) -> bool:
        return all(seat.core.started for seat in self.seats.values()) and all(o.ready for o in self._outlets)

    def _serve_while_busy(self) -> None:
        """The second thread: takes the sockets only while the first is inside `process`."""
        while not self._closing:
            time.sleep(SERVICE_EVERY)
            if self.control.closed:
                os._exit(1)  # the supervisor is gone; nobody would collect us
            if self._lock.acquire(blocking=False):
                try:
                    if not self._closing and self._busy() is not None:
                        self._serve_consumers()
                        self._acknowledge_busy()
                        self._housekeep()
                        self._obey()
                except Exception:
                    traceback.print_exc()
                    os._exit(1)  # to go on unserved would be to stand still in silence
                finally:
                    self._lock.release()

    def _busy(self) -> Core | None:
        return next((seat.core for seat in self.seats.values() if seat.core.working_on is not None), None)

    def _acknowledge_busy(self) -> None:
        """Pass on what consumers have finished while a block works; what that block has noted stays as it is."""
        busy = self._busy()
        for _, seat in self._backwards:
            core = seat.core
            if core.started and not core.ended and not (core is busy and core.marked):
                core.settle(self._downstream(seat))
            for index, inlet in enumerate(seat.inlets):
                if inlet is not None:
                    inlet.finish(core.told(index))
        due = self._due(True)
        if due:
            self._write_record()
            for inlet in due:
                inlet.tell()

    def _obey(self) -> None:
        for message in self.control.receive():
            kind = message["kind"]
            if kind == "go" and message["epoch"] == self.plan.epoch:
                self.clock.keep(message["origin"], message["pace"])
                self._going, self._paused = True, message["paused"]
            elif kind == "pause":
                self._paused = True
            elif kind == "unpause":
                self.clock.keep(message["origin"], message["pace"])
                self._paused = False
            elif kind == "propose" and message["epoch"] == self.plan.epoch:
                self._propose(message["block"], message["number"])
            elif kind == "commit" and message["epoch"] == self.plan.epoch:
                self._commit(Change.of(message["change"]), message["origin"])
            elif kind == "drain":
                self._draining = self._going = True
            elif kind == "halt":
                self._halt_at = message["epoch"]
            elif kind == "resume":
                self._news = message["news"]
            elif kind == "cut":
                self._cutting = True
            elif kind == "abort":
                self.control.send("ended", blocks=self.status())
                os._exit(0)
        if self.control.closed:
            os._exit(1)

    def _propose(self, block: str, number: int) -> None:
        """Say from which slot on a change can hold, and begin none behind it before that is agreed."""
        bounds: list[int] = []
        for name, seat in self.seats.items():
            if seat.core.ended or (name not in self._sources if block == RUN else name != block):
                continue
            busy = seat.core.working_on
            bound = self._sources.get(name) if name in self._sources else seat.core.bound()
            seat.core.tuning.hold = max(bound or 0, busy.stop if busy else 0)
            bounds.append(seat.core.tuning.hold)
        self.control.send("bound", number=number, slot=max(bounds, default=None))

    def _commit(self, change: Change, origin: int) -> None:
        """Take a change that is agreed upon; one without values was not, and all go on as before."""
        for name, seat in self.seats.items():
            if change.block in (RUN, name):
                if change.values and change.block != RUN:
                    seat.core.tuning.add(change)
                seat.core.tuning.hold = None
        if change.block == RUN and change.values:
            self.clock.keep(origin, change.values[PACE])
        self._moved = True

    def _cut_links(self) -> None:
        self._wiring.remotes.cut()
        for seat in self.seats.values():
            for index, inlet in enumerate(seat.inlets):
                if inlet is None or inlet.remote:
                    continue
                for wire in inlet.wires:
                    self._poller.unregister(wire.socket)
                inlet.cut()
                for wire in inlet.wires:
                    self._listen(wire.socket, partial(self._receive, seat, index))

    # reports

    def status(self) -> dict[str, Any]:
        """Return, by block, counts, latencies and what it does or waits for, as plain values."""
        return {name: self._status(name, seat) for name, seat in self.seats.items()}

    def _status(self, name: str, seat: Seat) -> dict[str, Any]:
        core, meter = seat.core, self.meters[name]
        busy = core.working_on
        if busy is None and core.started and self.blocks[name].judges() and not seat.stopped:
            meter.results = self.blocks[name].results()
        state = "waiting"
        if busy is not None:
            state = "processing"
        elif core.ended:
            state = "ended"
        elif not seat.room():
            state = "blocked"
        elif not seat.inlets:
            state = "paused" if self._paused else "pacing" if self._going else "starting"
        links = [link for outlet in seat.outlets.values() for link in outlet.links]
        inlets = [inlet.edge if inlet else core.inputs[index].edge for index, inlet in enumerate(seat.inlets)]
        return {
            "block": name,
            "state": state,
            "working_on": None if busy is None else [busy.start, busy.stop],
            "idle_ns": time.monotonic_ns() - self._active_at,
            "waits_for": core.waits_for() if state == "waiting" else [],
            "slots": self._sources[name] if not seat.inlets else meter.slots,
            "late": 0 if seat.inlets else self.clock.late,
            "behind": [] if seat.inlets else list(self.clock.behind.counts.items()),
            "cut_short": meter.cut_short,
            "faults": dict(meter.faults),
            "busy_ns": meter.busy,
            "process_time": list(meter.process_time.counts.items()),
            "end_to_end": summed(one.counts.items() for one in meter.end_to_end.values()),
            "by_streams": [
                [core.streams(number), list(one.counts.items())] for number, one in meter.end_to_end.items()
            ],
            "edges": [
                *(link.account() for link in links),
                *(_inner_account(inner) for inner in seat.consumers),
            ],
            "oldest": {link.edge: link.acknowledged.prefix() for link in links}
            | {inner.edge.name: inner.core.begin_of(inner.index) for inner in seat.consumers},
            "inputs": {edge: core.account(index) for index, edge in enumerate(inlets)},
            "troubles": {inlet.edge: inlet.troubles for inlet in seat.inlets if inlet is not None and inlet.bad},
            "errors": self.errors,
            "refused": self.blocks[name].refused
            + sum(outlet.refused for outlet in seat.outlets.values())
            + (self._wiring.remotes.refused if self.blocks[name].remote else 0),
            "results": meter.results,
        }


def struck(items: Sequence[tuple[str, Item]]) -> Mapping[str, int]:
    """Return how many slots each fault struck, by what the frames of the first output say.

    A frame says so by the tag {"faults": {kind: [[first, end], ...]}}; what else goes by that name counts for nothing.
    """
    found: Counter[str] | None = None  # nearly all frames say nothing of faults
    for port, item in items:
        if type(item) is Frame and item.tags and port == items[0][0] and "faults" in item.tags:
            found = found or Counter()
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                told = {kind: sum(end - first for first, end in pairs) for kind, pairs in item.tags["faults"].items()}
                found.update(told)
    return found or NO_FAULTS


def _inner_account(inner: Inner) -> dict[str, Any]:
    known = inner.core.account(inner.index)
    settled = known["acknowledged"] + sum(known["dropped"].values())
    done = inner.core.cut or inner.core.is_over
    return {
        "edge": inner.edge.name,
        "policy": "block",
        "offered": inner.offered,
        "in_flight": 0 if done else max(0, inner.offered - settled),
        "done": done,
        "redelivered": 0,
    }


def _spacing(graph: Graph) -> int:
    """Return how many slots lie between two places that a block with state notes [slots].

    What lies behind the newest place that a consumer has finished is not acknowledged, so all blocks that note places
    together must leave the tightest window room enough.
    """
    least = minimum_window(graph)
    slack = min((graph.windows[edge.name] - least for edge in graph.edges if edge.lossless), default=0)
    noting = sum(spec.kind.resumes() or bool(window_of(spec.build())[0]) for spec in graph.blocks.values())
    return max(1, slack // (4 * max(1, noting)))


def _keep_memory() -> None:
    """Keep what frames free for those to come: to give it back and fault it in again costs more than to send them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc; others go without
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024)
        mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024)
    gc.freeze()  # what is loaded by now stays, and need not be looked through again


def _give_way(plan: Plan) -> None:
    """Let blocks that take what they can get, over lossy edges alone, leave the processor to the others."""
    incoming = [edge for edge in plan.graph.edges if edge.target in plan.blocks and edge.source not in plan.blocks]
    if incoming and not any(edge.lossless for edge in incoming):
        os.nice(GIVE_WAY)


def _allow_files() -> None:
    """Allow as many open files as may be: libzmq aborts where it cannot take a connection."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(plan: Plan, control: Control, record: Record, nows: Mapping[str, Now]) -> int:
    """Run one process to its end; return the exit code, everything else is told to the supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the whole group; the supervisor obeys
        signal.signal(number, signal.SIG_IGN)
    _keep_memory()
    _allow_files()
    _give_way(plan)
    unit: Unit | None = None
    try:
        unit = Unit(plan, control, record, nows)
        unit.run()
        control.send("ended", blocks=unit.status())
        return 0
    except Exception as error:
        with contextlib.suppress(OSError):  # the disk of the log may be the one that is full
            traceback.print_exc()
            sys.stderr.flush()
        _tell(plan, control, unit, error)
        return 1


def _tell(plan: Plan, control: Control, unit: Unit | None, error: Exception) -> None:
    failed = error if isinstance(error, BlockFailed) else None
    block = failed.block if failed else plan.blocks[0]
    slots = failed.slots if failed else None
    told = {
        "error": type(error).__name__,
        "message": str(error) if isinstance(error, BeamslotError) else f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
    }
    saved = None
    if unit is not None and slots is not None and block in unit.seats:
        saved = unit.save_frame(block, slots, unit.seats[block].core.given, told)
    control.send(
        "failed",
        block=block,
        saved=saved,
        graph=isinstance(error, FlowgraphError | FrameError),
        slots=None if slots is None else [slots.start, slots.stop],
        **told,
    )
