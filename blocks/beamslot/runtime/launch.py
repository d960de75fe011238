"""The supervisor: starts a process a block, watches them, stops them, and says how it went.

It has no threads and knows no ZeroMQ, so that it may fork; it speaks with its blocks over socket pairs. A janitor
process ends whatever is left when the supervisor itself is killed.
"""

import contextlib
import ctypes
import gc
import math
import os
import re
import secrets
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from beamslot.errors import BadParam, StorageError, describe_slots
from beamslot.runtime import report as reports
from beamslot.runtime import rundir
from beamslot.runtime import trace as traces
from beamslot.runtime.chaos import STOPPED, Blows, Chaos, Strike, strikes_of
from beamslot.runtime.control import Control
from beamslot.runtime.diary import Diary, RunRecord, described
from beamslot.runtime.graph import Graph, Restart, check
from beamslot.runtime.helm import Helm
from beamslot.runtime.parameters import check_timeline
from beamslot.runtime.place import Standing
from beamslot.runtime.plan import Plan, Sockets
from beamslot.runtime.record import Now, Record
from beamslot.runtime.resume import Going, resume
from beamslot.runtime.steering import Listener
from beamslot.runtime.timeline import PACE, RUN, Change

TICK = 0.25
KILL_AFTER = 0.7
PR_SET_PDEATHSIG = 1

SLOW_HALT = 2.0
"""After so long it is said which block keeps the others from going on [s]."""

OWN_FAULT = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS)
"""Signals by which a process ends itself."""

Watch = Callable[[dict[str, Any]], None]


@dataclass
class Child:
    """One process of the run, as the supervisor knows it: a unit, or one of the replicas of a block.

    record, nows: what outlives the process    life: how often it was started    past: accounts of earlier lives
    wanted_again: whether somebody has asked for it to be started again
    """

    unit: str
    replica: int
    blocks: tuple[str, ...]
    restart: Restart
    record: Record
    nows: dict[str, Now]
    pid: int = 0
    control: Control = field(init=False)
    ready: bool = False
    halted: bool = False
    dead: bool = True
    over: bool = False
    life: int = -1
    in_a_row: int = 0
    hung: bool = False
    stopped_at: float = 0.0
    wanted_again: bool = False
    status: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    past: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    failure: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def name(self) -> str:
        """What people call it: the unit, with the number of the replica behind the first."""
        return f"{self.unit}.{self.replica}" if self.replica else self.unit

    @property
    def alive(self) -> bool:
        """Whether its process is there and has work to do."""
        return not self.dead and not self.over

    def tell(self, kind: str, **fields: Any) -> None:
        """Send it a message."""
        self.control.send(kind, **fields)


def launch(
    graph: Graph,
    *,
    watch: Watch | None = None,
    deadline: float = 3.0,
    seconds: float | None = None,
    logs: Path | None = None,
    chaos: Chaos | None = None,
    strikes: Sequence[Strike] = (),
    timeline: Sequence[Change | Mapping[str, Any]] = (),
    trace: Path | None = None,
) -> dict[str, Any]:
    """Run a graph to its end and return the report (plain values; `ok`, `exit_code` and `problems` say how it went).

    watch: called about four times a second with the report so far
    deadline: how long a first interrupt may drain before the rest is counted as stopped [s]
    seconds: drain after so long, None for never    logs: where the run is recorded, and the blocks' output goes
    chaos, strikes: trouble on purpose, by a seeded clock and at chosen slots
    timeline: changes of parameters beside those of the graph, as they are or as plain values: slot, block, values
    trace: file to write what every block did with every slot to, for Perfetto or chrome://tracing
    raises FlowgraphError before anything is started when the graph cannot run
    """
    changes = tuple(change if isinstance(change, Change) else Change.of(change) for change in timeline)
    graph = replace(graph, timeline=(*graph.timeline, *changes)) if changes else graph
    check(graph)
    check_timeline(graph)
    return Supervisor(
        graph, watch or (lambda status: None), deadline, seconds, logs, chaos=chaos, strikes=strikes, trace=trace
    ).run()


class Supervisor:
    """One run."""

    def __init__(
        self,
        graph: Graph,
        watch: Watch,
        deadline: float,
        seconds: float | None = None,
        logs: Path | None = None,
        *,
        chaos: Chaos | None = None,
        strikes: Sequence[Strike] = (),
        trace: Path | None = None,
    ) -> None:
        self.graph, self.watch, self.deadline, self.seconds = graph, watch, deadline, seconds
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.diary = Diary(logs or rundir.logs(graph.name), on_problem=self.notes.append)
        self.logs = self.diary.directory
        self.children: list[Child] = []
        self.exit_code = 0
        self.state = "starting"
        self.epoch = self.restarts = 0
        self._blows = Blows(chaos) if chaos else None
        self._blow_at = math.inf
        self._strikes, self._trace = strikes, trace
        self._interrupts = self._interrupts_seen = 0
        self._started = self._ended = 0.0
        self._origin = 0
        self._drain_until: float | None = None
        self._resume_at = self._halting_since = self._dead_since = 0.0
        self._reached: dict[str, int] = {}
        self._blame: dict[tuple[str, int], int] = {}
        self._poison: dict[str, set[int]] = {}
        self._heard: set[str] = set()
        self._token = secrets.token_hex(16)
        self._progress = reports.Progress()
        self._pace = graph.pace
        self._paused_at = 0
        self._gone_on = False
        self.floor = 0
        self._helm = Helm(self)

    def run(self) -> dict[str, Any]:
        """Start, watch, stop; return the report."""
        _open_standard_descriptors()
        with self._signals():
            directory = rundir.create()
            try:
                self._listener = Listener(directory, self._helm.act)
                with Janitor(directory) as janitor:
                    try:
                        self._start(directory, janitor)
                        self._watch()
                    finally:
                        self._helm.close()
                        self._listener.close()
                        self._stop_all()
            finally:
                shutil.rmtree(directory, ignore_errors=True)
        return self._final()

    @contextlib.contextmanager
    def _signals(self) -> Generator[None]:
        def count(*_: object) -> None:
            self._interrupts += 1

        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, count) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # start

    def _start(self, directory: Path, janitor: "Janitor") -> None:
        self.diary.begin(self.graph)
        self._directory, self._janitor = directory, janitor
        self._sockets = Sockets(self.graph, directory)
        blocks = {name: described(spec) for name, spec in self.graph.blocks.items()}
        rundir.write_card(directory, self.graph.name, self._sockets.taps(), blocks=blocks, logs=str(self.logs))
        for unit, blocks in self.graph.units:
            spec = self.graph.blocks[blocks[0]]
            for replica in range(max(1, spec.replicas)):
                nows = {name: Now() for name in blocks}
                self.children.append(Child(unit, replica, blocks, spec.restart, Record(), nows))
        gc.freeze()  # what is loaded stays shared with the children instead of being copied by their collectors
        self._poll = select.poll()
        self._by_descriptor: dict[int, Child] = {}
        for change in self._helm.timeline:
            self.diary.parameter(change.block, change.slot, change.values)
        self._epoch_directory(0)
        for child in self.children:
            self._fork(child, self._plan(child, {}))

    def _epoch_directory(self, epoch: int) -> None:
        (self._directory / f"e{epoch}").mkdir(exist_ok=True)
        if epoch:
            shutil.rmtree(self._directory / f"e{epoch - 1}", ignore_errors=True)

    def _plan(self, child: Child, going: Mapping[str, Going]) -> Plan:
        suspects = {
            name: frozenset(slot for (block, slot), count in self._blame.items() if block == name and count)
            for name in child.blocks
        }
        return Plan(
            self.graph,
            child.unit,
            child.blocks,
            self._sockets,
            self._token,
            child.replica,
            going=going,
            over=self._over(),
            poison={name: frozenset(slots) for name, slots in self._poison.items()},
            suspects={name: slots for name, slots in suspects.items() if slots},
            epoch=self.epoch,
            life=child.life + 1,
            draining=self.state == "draining",
            timeline=tuple(self._helm.timeline),
            trace=self.logs / f"{child.name}{traces.SUFFIX}" if self._trace else None,
            diary=self.diary,
            strikes=tuple(
                strike
                for name in child.blocks
                for strike in strikes_of(self._strikes, name, child.life + 1, child.replica)
            ),
        )

    def _fork(self, child: Child, plan: Plan) -> None:
        ours, theirs = Control.pair()
        supervisor = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        for now in child.nows.values():
            now.end()  # what the life before was at is no longer worked on
        pid = os.fork()
        if pid == 0:
            _die_with(supervisor)
            _become_block(theirs, self.logs / f"{child.name}.log", plan, child)
        theirs.close()
        self._janitor.watch(pid)
        child.pid, child.control = pid, ours
        child.life += 1
        child.ready = child.halted = child.dead = False
        child.failure, child.stopped_at, child.hung = {}, 0.0, False
        self._by_descriptor[ours.fileno()] = child
        self._poll.register(ours.fileno(), select.POLLIN)

    # watch

    def _watch(self) -> None:
        ticked = 0.0
        while not all(child.over for child in self.children):
            asking = self._listener.descriptors
            for descriptor in asking:
                self._poll.register(descriptor, select.POLLIN)
            for descriptor, _ in self._poll.poll(self._patience() * 1e3):
                if descriptor in self._by_descriptor:
                    self._listen(self._by_descriptor[descriptor])
                else:
                    self._listener.serve(descriptor)
            for descriptor in asking:
                self._poll.unregister(descriptor)
            now = time.monotonic()
            self._advance(now)
            if now - ticked >= TICK:
                ticked = now
                self._look_for_hangs()
                self._tell()
            if self.exit_code or (self._drain_until is not None and now > self._drain_until):
                break

    def _patience(self) -> float:
        """How long to wait for news [s]."""
        now = time.monotonic()
        due = [self._blow_at, *(child.stopped_at + STOPPED for child in self.children if child.stopped_at)]
        if self._dead_since:
            due.append(max(self._resume_at, now + 0.005) if self._all_halted() else now + TICK)
        return max(0.0, min(TICK, *(at - now for at in due)))

    def _listen(self, child: Child) -> None:
        for message in child.control.receive():
            kind = message.pop("kind")
            if kind == "ready":
                child.ready = message["epoch"] == self.epoch
            elif kind == "halted":
                child.halted = message["epoch"] == self.epoch
            elif kind == "failed":
                child.failure = message
            elif kind == "bound":
                self._helm.hear(child, message["number"], message["slot"])
            elif kind == "stopping":
                child.stopped_at = time.monotonic()
            else:
                child.status = message["blocks"]
                child.over = child.over or kind == "ended"
                self._hear_errors(child)
        if child.control.closed and not child.dead:
            self._part_with(child)

    def _hear_errors(self, child: Child) -> None:
        for status in child.status.values():
            for text in status["errors"]:
                if text not in self._heard:
                    self._heard.add(text)
                    self.notes.append(text)

    def _part_with(self, child: Child) -> None:
        """Take note that a process has gone, and of how."""
        self._forget(child)
        code = os.waitstatus_to_exitcode(_reap(child.pid, KILL_AFTER))
        self._janitor.forget(child.pid)
        child.pid, child.dead, child.ready = 0, True, False
        if not child.over:
            self._died(child, code)

    def _forget(self, child: Child) -> None:
        for descriptor, other in list(self._by_descriptor.items()):
            if other is child:
                self._poll.unregister(descriptor)
                del self._by_descriptor[descriptor]
        child.control.close()

    def _died(self, child: Child, code: int) -> None:
        block, slots = self._at_fault(child)
        if child.failure:
            how = child.failure["message"]
        else:
            how = f"was ended by {_signal_name(-code)}" if code < 0 else f"exited with {code}"
        self.diary.event("died", block=block, process=child.name, life=child.life, slots=slots, how=how)
        self._forgive(child)
        # A killed process is nobody's fault; one that ended itself, or hung, did it at this slot.
        own = bool(child.failure) or code >= 0 or -code in OWN_FAULT or child.hung
        if not self._may_return(child, block, slots, own, how):
            return
        _fold(child)
        self.restarts += 1
        now = time.monotonic()
        wait = self._back_off(child)
        self.notes.append(f"{block}: {how}{_where(slots)}; started again{f' in {wait:.1f} s' if wait > 0.05 else ''}")
        self._dead_since = self._dead_since or now
        self._resume_at = max(self._resume_at, now + wait)
        self._halt(now)

    def _at_fault(self, child: Child) -> tuple[str, list[int] | None]:
        """The block that its process died of, and the slots that it worked on."""
        if child.failure:
            return child.failure["block"], child.failure["slots"]
        for name, now in child.nows.items():
            if now.slots is not None:
                return name, [now.slots.start, now.slots.stop]
        return child.blocks[0], None

    def _may_return(self, child: Child, block: str, slots: list[int] | None, own: bool, how: str) -> bool:
        """Return whether the process is started again; else say why the run ends."""
        restart = child.restart
        if child.wanted_again:
            child.wanted_again = False
            return True
        never_ran = bool(child.failure) and child.life == 0 and self.state == "starting"
        bad_graph = never_ran and child.failure["graph"]
        if restart.policy == "never" or never_ran:
            self._fail(child, block, slots, how, bad_graph)
            return False
        if own and slots is not None:
            count = self._blame[block, slots[0]] = self._blame.get((block, slots[0]), 0) + 1
            if count >= 2 and restart.on_poison == "stop":
                self._fail(child, block, slots, f"{how}; {describe_slots(range(*slots))} ended it {count} times")
                return False
            if count >= 2:
                self._poison.setdefault(block, set()).update(range(*slots))
                self.diary.event("poison", block=block, slots=slots, how=how)
                self.notes.append(
                    f"{block}: {describe_slots(range(*slots))} ended it {count} times: made a gap, poison"
                )
        if child.in_a_row >= restart.retries and self._blows is None:
            self._fail(child, block, slots, f"{how}; started again {restart.retries} times without getting on")
            return False
        return True

    def _back_off(self, child: Child) -> float:
        """How long to wait before the next start [s]: the first follows at once."""
        row = child.in_a_row
        child.in_a_row = row + 1
        return min(child.restart.backoff_max, child.restart.backoff * 2 ** (row - 1)) if row else 0.0

    def _fail(self, child: Child, block: str, slots: list[int] | None, how: str, bad_graph: bool = False) -> None:
        place = self.graph.blocks[block].place
        if child.failure:
            named = re.search(rf"\b{re.escape(block)}\b", how.partition(": ")[0])
            self.problems.append(": ".join(part for part in (place, "" if named else block, how) if part))
        else:
            self.problems.append(f"{block}: process {how}{_where(slots)}; its output is in {self._log(child)}")
        if child.failure and not bad_graph:
            saved = child.failure.get("saved")
            frame = f", what it was given in {saved}" if saved else ""
            self.problems.append(f"{block}: its output is in {self._log(child)}{frame}")
        self.exit_code = self.exit_code or (2 if bad_graph else 1)

    def _log(self, child: Child) -> Path:
        return self.logs / f"{child.name}.log"

    # going on after a death

    def _halt(self, now: float) -> None:
        self._halting_since = now
        for child in self.children:
            if child.alive and not child.halted:
                child.control.send("halt", epoch=self.epoch)

    def _all_halted(self) -> bool:
        return all(child.halted for child in self.children if child.alive)

    def _go_on(self, now: float) -> None:
        """Start again what died, and send everybody on from where the records say."""
        if not self._all_halted():
            if now - self._halting_since > SLOW_HALT:
                self._halting_since = math.inf
                slow = [child.name for child in self.children if child.alive and not child.halted]
                self.notes.append(f"going on waits for {', '.join(slow)}, at work on a slot")
            return
        if now < self._resume_at:
            return
        self._call_back()
        self.floor = max(now.made for child in self.children for now in child.nows.values())
        self.epoch += 1
        self._gone_on = False
        self._epoch_directory(self.epoch)
        records = {
            name: [_standing(other.record.read(), name) for other in self.children if name in other.blocks]
            for child in self.children
            for name in child.blocks
        }
        going = resume(self.graph, records, self._over())
        born: list[Child] = [child for child in self.children if child.dead and not child.over]
        for child in self.children:
            if child.over:
                continue
            plan = self._plan(child, going)
            if child.dead:
                self._fork(child, plan)
            else:
                child.ready = child.halted = False
                child.control.send("resume", news=plan.news())
        self._dead_since = self._resume_at = 0.0
        self.diary.event(
            "restart", epoch=self.epoch, processes=[child.name for child in born],
            slots={name: min(place.out) for name, place in going.items()},
        )  # fmt: skip

    def _over(self) -> frozenset[str]:
        """Blocks all of whose processes have ended in order."""
        left = {name for child in self.children if not child.over for name in child.blocks}
        return frozenset(name for name in self.graph.blocks if name not in left)

    def _call_back(self) -> None:
        """Start replicas again that have ended already, where another of the same block must go on."""
        over = self._over()
        for child in self.children:
            if child.over and child.blocks[0] not in over:
                if not child.dead:
                    self._forget(child)
                    _reap(child.pid, KILL_AFTER)
                    self._janitor.forget(child.pid)
                    child.pid, child.dead = 0, True
                child.over = False
                _fold(child)

    def _forgive(self, child: Child) -> None:
        """Begin to count anew when a block of the process has finished slots since its last death."""
        recorded: Mapping[str, Any] = child.record.read() or {}
        for name in child.blocks:
            standing = _standing(recorded, name)
            reached = max(standing.places[0].out) if standing else 0
            if reached > self._reached.get(name, 0):
                self._reached[name] = reached
                child.in_a_row = 0

    def _look_for_hangs(self) -> None:
        now = time.monotonic_ns()
        for child in self.children:
            limit = child.restart.hang_timeout
            if limit is None or not child.alive:
                continue
            for name, at in child.nows.items():
                if at.slots is not None and now - at.since > limit * 1e9:
                    self.notes.append(f"{name}: has worked on {describe_slots(at.slots)} for {limit:g} s: killed")
                    child.hung = True
                    os.kill(child.pid, signal.SIGKILL)
                    break

    def _strike(self, now: float) -> None:
        """Wake whom a blow has stopped; deal the next blow when it is time."""
        for child in self.children:
            if child.stopped_at and now - child.stopped_at > STOPPED:
                child.stopped_at = 0.0
                if child.pid:
                    os.kill(child.pid, signal.SIGCONT)
        if self._blows is None or now < self._blow_at:
            return
        targets = {child.name: child for child in self.children if child.alive and child.pid}
        self._blow_at = math.inf
        if not targets:
            return
        action, name = self._blows.next(sorted(targets))
        self._blow_at = now + self._blows.after
        child = targets[name]
        self.diary.event("blow", process=name, action=action)
        if action == "kill":
            os.kill(child.pid, signal.SIGKILL)
        elif action == "stop" and not child.stopped_at:
            child.stopped_at = now
            os.kill(child.pid, signal.SIGSTOP)
        elif action == "cut":
            child.control.send("cut")

    def _advance(self, now: float) -> None:
        if self._dead_since:
            self._go_on(now)
        self._helm.advance()
        living = [child for child in self.children if not child.over]
        if not self._dead_since and all(child.ready for child in living) and living:
            self._go(now, living)
        if self._interrupts > self._interrupts_seen:
            self._interrupts_seen = self._interrupts
            self._interrupted(now)
        if self.seconds is not None and self.state == "running" and now - self._started > self.seconds:
            self._drain(now, math.inf)
        self._strike(now)
        if self.state in {"running", "draining"} and not self._paused_at:
            stalled = self._progress.stalled(self._statuses())
            if stalled:
                lines = reports.explain_stall(self._statuses(), stalled)
                self.notes += lines
                self.diary.event("stall", seconds=round(stalled, 3), lines=lines)

    def _go(self, now: float, living: Sequence[Child]) -> None:
        """Let sources begin: everybody has started and is connected."""
        if self.state == "starting":
            self.state, self._started = "running", now
            self._origin = time.monotonic_ns()
            self._blow_at = now + self._blows.after if self._blows else math.inf
            self.diary.event("started")
        for child in living:
            child.ready = False
            paused = self._paused_at > 0
            child.control.send("go", origin=self._origin, pace=self._pace, paused=paused, epoch=self.epoch)
        self._gone_on = True
        self._helm.renew()

    def _interrupted(self, now: float) -> None:
        self.diary.event("interrupted", count=self._interrupts)
        if self._interrupts > 1 or self.state == "starting":
            self.exit_code = self.exit_code or 130
            return
        self.notes.append(f"interrupted: draining for up to {self.deadline:g} s; interrupt again to stop at once")
        self._drain(now, self.deadline)

    def _drain(self, now: float, deadline: float) -> None:
        self.state = "draining"
        self._drain_until = now + deadline
        self._blow_at = math.inf
        self._tell_all("drain")

    def _statuses(self) -> dict[str, dict[str, Any]]:
        return reports.by_block(self.graph, [(child.status, child.past, child.life) for child in self.children])

    def _so_far(self, statuses: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        seconds = (self._ended or time.monotonic()) - self._started if self._started else 0.0
        changes = [change.plain() for change in self._helm.timeline]
        return {**reports.build(self.graph, statuses, seconds), "restarts": self.restarts, "timeline": changes}

    def _tell(self) -> None:
        statuses = self._statuses()
        so_far = self._so_far(statuses)
        state = "paused" if self._paused_at and self.state == "running" else self.state
        status = {**so_far, "state": state, "notes": list(self.notes), "total": self.graph.slots}
        self.diary.accounts(status)
        self.watch(status)
        self._publish(status, statuses)

    def _publish(self, status: Mapping[str, Any], statuses: Mapping[str, dict[str, Any]]) -> None:
        """Let others see how the run stands, and who its processes are."""
        processes = [
            {"process": child.name, "blocks": list(child.blocks), "pid": child.pid, "restarts": child.life}
            for child in self.children
            if child.alive
        ]
        latency = {
            "calls": {name: list(one["process_time"]) for name, one in statuses.items()},
            "end_to_end": reports.end_to_end(statuses),
            "paths": reports.path_counts(self.graph, statuses),
        }
        more = {"at": time.monotonic(), "processes": processes, "latency": latency}
        try:
            rundir.write_status(self._directory, {**status, **more})
        except StorageError as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))

    # steering

    @property
    def processes(self) -> Sequence[Child]:
        """All processes of the run."""
        return self.children

    @property
    def under_way(self) -> bool:
        """Whether the run is going, and nobody is being started again."""
        return self._gone_on and not self._dead_since and self.state in {"running", "draining"}

    @property
    def slot(self) -> int:
        """How many slots the sources have made, as far as they have told."""
        sources = [name for name in self.graph.blocks if not self.graph.inputs_of(name)]
        known = (child.status.get(name) for child in self.children for name in sources)
        return max((status["slots"] for status in known if status), default=0)

    def changed(self, change: Change) -> int:
        """Note a change that was agreed upon; return the origin of the slot clock from there on [ns]."""
        self.diary.parameter(change.block, change.slot, change.values)
        self.diary.event("set", **change.plain())
        if change.block == RUN:
            self._keep_pace(change.slot, change.values[PACE])
        return self._origin

    def _keep_pace(self, slot: int, pace: float) -> None:
        """Change the pace at a slot so that time goes on evenly: as the clock has it, or from now where it has none."""
        begun = slot * self.graph.slot_period * 1e9
        at = self._origin + begun / self._pace if math.isfinite(self._pace) else time.monotonic_ns()
        self._pace = pace
        if math.isfinite(pace):
            self._origin = round(at - begun / pace)

    def pause(self) -> None:
        """Let sources make no more slots; what is under way goes its way."""
        if not self._paused_at:
            self._paused_at = time.monotonic_ns()
            self.diary.event("paused", slot=self.slot)
            self._tell_all("pause")

    def unpause(self) -> None:
        """Let sources go on; the slot clock has stood still."""
        if self._paused_at:
            self._origin += time.monotonic_ns() - self._paused_at
            self._paused_at = 0
            self._progress = reports.Progress()
            self.diary.event("resumed", slot=self.slot)
            self._tell_all("unpause", origin=self._origin, pace=self._pace)

    def _tell_all(self, kind: str, **fields: Any) -> None:
        for child in self.children:
            if child.alive:
                child.control.send(kind, **fields)

    def restart(self, block: str) -> list[str]:
        """Start the processes of a block again, whatever its policy; return their names."""
        found = [child for child in self.children if block in child.blocks and not child.over]
        if not found:
            raise BadParam(f"restart: {block} has ended")
        for child in found:
            if child.pid:  # else it is being started again already
                child.wanted_again = True
                self.diary.event("asked to restart", block=block, process=child.name)
                os.kill(child.pid, signal.SIGKILL)
        return [child.name for child in found]

    def stop(self, at_once: bool) -> None:
        """End the run: let it finish what is under way, or stop it as a second interrupt does."""
        self.diary.event("asked to stop", now=at_once)
        if at_once:
            self._interrupts += 2
        elif self.state == "running":
            self._drain(time.monotonic(), math.inf)

    # stop

    def _stop_all(self) -> None:
        """Ask those that are left for their accounts, then end them; return within KILL_AFTER and a little."""
        self._ended = time.monotonic()
        left: list[Child] = [child for child in self.children if child.pid and not child.over]
        for child in left:
            if child.stopped_at:
                os.kill(child.pid, signal.SIGCONT)
            child.control.send("abort")
        until = time.monotonic() + KILL_AFTER
        while left and time.monotonic() < until:
            select.select([child.control for child in left], [], [], 0.05)
            for child in left:
                for message in child.control.receive():
                    if message.pop("kind") in {"ended", "status"}:
                        child.status = message["blocks"]
            left = [child for child in left if not child.control.closed]
        for child in self.children:
            if child.pid:
                _reap(child.pid, 0.0 if child in left else KILL_AFTER)
            if child.life >= 0:
                child.control.close()
            child.record.close()

    def _final(self) -> dict[str, Any]:
        report = self._so_far(self._statuses())
        interrupted = self._interrupts > 0
        if interrupted or self.exit_code:
            _count_stopped(report["edges"])
        if not self.exit_code and interrupted:
            self.exit_code = 130
        lost = reports.balance(report["edges"])
        if lost and not self.exit_code:
            self.exit_code = 3
        self.problems += lost
        self.notes += reports.silent(report["edges"]) + reports.oddities(self._statuses())
        final = {
            **report,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "problems": self.problems,
            "notes": self.notes,
            "logs": str(self.logs),
        }
        self.diary.event("finished", exit_code=self.exit_code)
        if self._trace:
            final["notes"] = [*self.notes, self._write_trace(self._trace)]
        self.diary.accounts(final)
        return final

    def _write_trace(self, path: Path) -> str:
        """Write the trace of the run; return what there is to say of it."""
        zero = self._origin * 1e-9 - self.diary.began  # the diary counts from its own beginning
        events = [{**event, "at": event["at"] - zero} for event in RunRecord(self.logs).events]
        behind = {name: any(edge.source == name for edge in self.graph.edges) for name in self.graph.order}
        try:
            calls = traces.write(path, self.logs, behind, self._origin, events)
        except StorageError as error:
            return str(error)
        return f"{path}: a trace of {calls} calls; open it at ui.perfetto.dev"


def _standing(recorded: Mapping[str, Any] | None, name: str) -> Standing | None:
    return Standing.unpack(recorded[name]) if recorded and name in recorded else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _where(slots: Sequence[int] | None) -> str:
    return f" while working on {describe_slots(range(*slots))}" if slots else ""


def _fold(child: Child) -> None:
    """Keep what a life has counted for the report."""
    for name, status in child.status.items():
        child.past[name] = reports.together(child.past.get(name, {}), status)
    child.status = {}


def _count_stopped(edges: list[dict[str, Any]]) -> None:
    for edge in edges:
        known = edge["acknowledged"] + sum(edge["dropped"].values())
        edge["offered"], edge["in_flight"] = max(edge["offered"], known), 0  # a dead producer may not have told all
        if edge["offered"] > known:
            edge["dropped"] = {**edge["dropped"], "stopped": edge["offered"] - known}


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent is gone; end at once if it is already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _become_block(control: Control, log: Path, plan: Plan, child: Child) -> None:
    """Turn this fork into a process of blocks; never returns."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, descriptor in ((0, nothing), (1, output), (2, output)):
            os.dup2(descriptor, target)
        _close_all_but(control.fileno(), *child.record.descriptors)
        from beamslot.runtime.process import main  # only here: ZeroMQ must not be loaded before the fork

        code = main(plan, control, child.record, child.nows)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _open_standard_descriptors() -> None:
    """Open what the caller has closed of 0, 1, 2: a pipe that got such a number would be lost to a block's output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _close_all_but(*kept: int) -> None:
    for entry in os.listdir("/proc/self/fd"):
        descriptor = int(entry)
        if descriptor > 2 and descriptor not in kept:
            try:
                os.close(descriptor)
            except OSError:
                continue


def _reap(pid: int, patience: float) -> int:
    """Wait for a process to end, killing it when patience [s] runs out; return its wait status."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


class Janitor:
    """A process that outlives the supervisor by a moment: it kills the blocks and removes the sockets if that died."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> "Janitor":
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._clean_up_after(reading)
            finally:
                os._exit(0)
        os.close(reading)
        return self

    def watch(self, pid: int) -> None:
        """Count a process among those to be ended."""
        self._say(f"+{pid}")

    def forget(self, pid: int) -> None:
        """Count it no more: it has gone, and its number may be another's."""
        self._say(f"-{pid}")

    def _say(self, word: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it may have been killed itself
            os.write(self._writing, f"{word}\n".encode())

    def __exit__(self, *_: object) -> None:
        self._say("over")
        os.close(self._writing)
        os.waitpid(self._pid, 0)

    def _clean_up_after(self, reading: int) -> None:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(nothing, target)
        _close_all_but(reading)
        told = b""
        while data := os.read(reading, 4096):
            told += data
        words = told.decode().split()
        if "over" in words:
            return
        living: set[int] = set()
        for word in words:
            (living.add if word[0] == "+" else living.discard)(int(word[1:]))
        for pid in living:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)
