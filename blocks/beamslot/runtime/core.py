"""A block at work, without transport: items of the inputs in, items of the outputs out.

The process loop feeds it from sockets, `run_block` from arrays: what is tested is what runs.
"""

import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from beamslot.errors import (
    BlockFailed,
    FlowgraphError,
    FrameError,
    ShapeError,
    describe_slots,
)
from beamslot.frame import Describe, Eos, Frame, Gap, StreamInfo
from beamslot.runtime.align import Hole, Item, Join, Queue, Slab, Window
from beamslot.runtime.block import Block, In, bind, complete_outputs, describe_outputs, parameters_of
from beamslot.runtime.budget import Budget
from beamslot.runtime.graph import window_of
from beamslot.runtime.outputs import MISFITS, Emitter, Received, add_tags
from beamslot.runtime.place import DATA, END, Place, Standing, Tally
from beamslot.runtime.record import Now, pack, unpack
from beamslot.runtime.resume import Going, joins_of
from beamslot.runtime.slots import SlotSet
from beamslot.runtime.timeline import Timeline
from beamslot.runtime.tuning import Tuning

PACKAGE = Path(__file__).parents[1]


_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Input:
    """One stream that enters a block: the port, the stream's name, and the edge that brings it."""

    port: In
    stream: str
    edge: str = ""


@dataclass(slots=True)
class Step:
    """What one call led to: items by output port; and the slots, their capture time and cost where it was a call.

    cut_short: whether the block was told that time was up    begun: when the call began [ns]
    number: which join its slots came by
    """

    items: list[tuple[str, Item]] = field(default_factory=list[tuple[str, Item]])
    slots: range | None = None
    captured: int = 0
    nanoseconds: int = 0
    cut_short: bool = False
    begun: int = 0
    number: int = 0


@dataclass(frozen=True)
class Resumed:
    """What a block goes on from: where, what was recorded of it, and the core before if its process lived on."""

    going: Going
    standing: Standing | None = None
    before: "Core | None" = None

    def lived(self) -> "Resumed":
        """Return it with the newest core before that had started, if one had: the block goes on from that."""
        before = self.before
        if before is None or before.started or before.before is None:
            return self
        return replace(self, before=before.before)


class Core:
    """One block with its joins and windows.

    lock: held by the caller; let go while the block works, so that another thread may use what the caller guards
    resumed: where the block goes on after a restart, None at the first start
    poison: slots that are not worked on, as they end the block
    on_call: told the slots and the arrays by port before each call
    deadline: what slots may take from their capture to the end of the call [s], for a block that asks for its budget
    timeline: how its parameters change over the slots
    sparse: whether other processes of the block take the slots that do not come here
    shared: before this slot all of these have noted what is finished; no restart goes back behind it
    through: before this slot, what was to come here has come
    cut, cut_at: whether it ended before its inputs did, and from which slot on it wants nothing
    tallies: by input, what became of its slots
    """

    def __init__(
        self,
        block: Block,
        inputs: Sequence[Input],
        lock: AbstractContextManager[Any] | None = None,
        *,
        resumed: Resumed | None = None,
        poison: Collection[int] = (),
        on_call: Callable[[range, Mapping[str, Any]], None] | None = None,
        now: Now | None = None,
        sparse: bool = False,
        deadline: float | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        self.sparse, self.shared, self.through = sparse, 0, 0
        self.block, self.inputs = block, list(inputs)
        lock = lock or nullcontext()
        self._let_go, self._take_back = lock.__exit__, lock.__enter__
        self.name = block.run.name
        self.started = False
        self.ended = self.cut = False
        self.cut_at = END
        self.working_on: range | None = None
        self.given: Mapping[str, Any] = {}
        self._emitter = Emitter(block, source=not inputs)
        self.poison, self._on_call, self._now = frozenset(poison), on_call, now
        self._members = self._pair()
        count = max(1, len(self._members))
        self._resumed = (resumed or Resumed(Going(None, (0,) * count, (0,) * count))).lived()
        going = self._resumed.going
        self.incoming: list[StreamInfo | None] = [None] * len(inputs)
        self._latest: list[StreamInfo | None] = [None] * len(inputs)
        self._joins = [
            Join([self.inputs[i].stream for i in members], begin)
            for members, begin in zip(self._members, going.needed, strict=False)
        ]
        self._queues = [self._queues_of(index) for index in range(len(inputs))]
        self._consumed = [SlotSet([(0, out)] if out else []) for out in going.out]
        self._virgin = [not out for out in going.out]
        self._ends: list[Eos | None] = [None] * len(self._joins)
        self._at_description: set[int] = set()
        self._pending: dict[int, StreamInfo] = {}
        self._stale = False
        size, hop = window_of(block)
        self._windows = [Window(size, hop) if size else None for _ in self._joins]
        self._asked: dict[str, Any] = dict.fromkeys(parameters_of(block.process))
        self._hears = "message" in self._asked
        self.tuning = Tuning(block, timeline, deadline)
        self._bound: list[dict[str, str]] = [{} for _ in inputs]
        self._outs = list(block.outputs.values())
        self.kept: deque[tuple[str, Frame | Gap]] = deque()
        self.marked = block.resumes() or bool(size)
        self._take_up()

    def _take_up(self) -> None:
        """Take what was recorded: the place, and what was counted before it."""
        going, standing, before = self._resumed.going, self._resumed.standing, self._resumed.before
        self.base = standing.base if standing else None if self.inputs else 0
        self.last = standing.last if standing else 0
        place = Place(going.out, going.needed)
        if standing is not None and going.place is not None:
            recorded = standing.places[going.place]
            place = Place(going.out, going.needed, recorded.windows, recorded.state)
        for window, at in zip(self._windows, place.windows, strict=False):
            if window and at and max(going.out) < END:
                window.resume(at)
        self.places: deque[Place] = deque([place])
        self.tallies = standing.tallies if standing and standing.tallies else [Tally() for _ in self.inputs]
        self._lone = standing.unmatched if standing and standing.unmatched else self._tallies_by_join()
        for index, tally in enumerate(self.tallies):
            tally.rewind(self.begin_of(index))
        for row, begin in zip(self._lone, going.needed, strict=False):
            for tally in row:
                tally.rewind(begin)
        self._came: list[tuple[int, int] | None] = [
            (0, begin) if (begin := self.begin_of(index)) else None for index in range(len(self.inputs))
        ]
        if before is not None:
            self.kept = before.kept
        if (
            standing is not None and self.is_over
        ):  # there is nothing left to do, and perhaps nobody left to describe its inputs
            self.started = self.ended = True

    def _tallies_by_join(self) -> list[list[Tally]]:
        return [[Tally() for _ in members] for members in self._members]

    def begin_of(self, index: int) -> int:
        """Return the slot of an input before which all is finished."""
        begins = zip(self._members, self.places[0].needed, strict=False)
        return min((begin for members, begin in begins if index in members), default=0)

    @property
    def dropped(self) -> list[dict[str, int]]:
        """By input, slots that came as nothing, by reason."""
        return [{r: n for r, n in tally.counts().items() if r in MISFITS} for tally in self.tallies]

    @property
    def misfits(self) -> dict[str, int]:
        """Slots that came to nothing here, by reason, over all inputs."""
        total: dict[str, int] = {}
        for dropped in self.dropped:
            for reason, slots in dropped.items():
                total[reason] = total.get(reason, 0) + slots
        return total

    @property
    def unmatched(self) -> list[int]:
        """By input, slots that came and were let go as other inputs did not have them."""
        total = [0] * len(self.inputs)
        for members, row in zip(self._members, self._lone, strict=True):
            for index, tally in zip(members, row, strict=True):
                total[index] += sum(tally.counts().values())
        return total

    def _pair(self) -> list[list[int]]:
        """One join a stream of a many port, each with all the other inputs; else one join of everything."""
        ports = [source.port for source in self.inputs]
        if self.block.outputs and any(port.many for port in ports):
            raise ShapeError(f"{self.name}: a block with a many port is a sink; it has {', '.join(self.block.outputs)}")
        return joins_of(ports)

    def _queues_of(self, index: int) -> list[Queue]:
        joins = zip(self._members, self._joins, strict=True)
        return [join.queues[members.index(index)] for members, join in joins if index in members]

    def backlog(self, index: int) -> int:
        """Slots of an input that wait."""
        return max((queue.backlog for queue in self._queues[index]), default=0)

    def feed(self, index: int, item: Item) -> None:
        """Take the next item of input `index`; what is missing or not as described becomes a gap, and is counted."""
        if self.cut or (self.was_cut and not isinstance(item, Describe)):
            return  # what comes behind its own end is nobody's
        if isinstance(item, Describe):
            self._latest[index] = item.info
        else:
            item = self._checked(index, item)
        for queue in self._queues[index]:
            queue.put(item)

    def _checked(self, index: int, item: Frame | Gap | Eos) -> Frame | Gap | Eos:
        first, expected = self._came[index] or (item.first, item.first)
        if item.first > expected and not self.sparse:
            self._queue(index, self._noted(index, Gap(expected, item.first - expected, "lost")))
        if isinstance(item, Eos):
            self._came[index] = (first, max(expected, item.first))
            return item
        end = item.first + item.count
        self._came[index] = (first, end)
        if type(item) is Frame:
            reason = self._misfitting(index, item)
            if not reason:
                self.tallies[index].note(item.first, end)
                return item
            item = Gap(item.first, item.count, reason, item.captured)
        return self._noted(index, item)

    def _noted(self, index: int, item: Frame | Gap) -> Frame | Gap:
        self.tallies[index].note(item.first, item.end, item.reason if isinstance(item, Gap) else "")
        return item

    def _queue(self, index: int, item: Item) -> None:
        for queue in self._queues[index]:
            queue.put(item)

    def _misfitting(self, index: int, frame: Frame) -> str:
        info = self._latest[index]
        if info is None:
            return "undescribed"
        operator = info.operator
        if frame.operator != (None if operator is None else operator.hash):
            return "no operator"
        for name, spec in info.arrays.items():
            array = frame.arrays.get(name)
            if array is None or array.dtype != spec.dtype or array.shape != info.shape(name, frame.count):
                return "corrupt"
        return ""

    def step(self) -> Step | None:
        """Do the next thing that is due: a description, a call, a hole, the end; None while inputs are awaited."""
        for number, join in enumerate(self._joins):
            if self._ends[number] is not None or number in self._at_description:
                continue
            if self.tuning.hold is not None and self._held_up(join):
                continue
            if self._windows[number] and self.started and (step := self._due(number)) is not None:
                return step
            if not self.started and not any(
                isinstance(queue.items[0], Describe) for queue in join.queues if queue.items
            ):
                continue
            found = join.next()
            if found is not None:
                return self._handle(number, found)
        return None

    def _due(self, number: int) -> Step | None:
        """A window that is full already."""
        window = self._windows[number]
        found = window.pop() if window else None
        if found is None:
            return None
        if isinstance(found, Hole):
            return self._pass_hole(number, found, counted=False)
        slab, named = found
        return self._call(number, slab, range(named, slab.end))

    def _handle(self, number: int, found: Slab | Hole | Eos | tuple[int, Describe]) -> Step:
        if self._hears and self._stale and isinstance(found, Hole | Eos):
            self.start()  # such a block learns of a description before anything that came behind it
        if isinstance(found, Slab):
            if not self._stale:
                return self._take(number, found)
            described = self.start()
            step = self._take(number, found)
            step.items[:0] = described
            return step
        if isinstance(found, Hole):
            step = self._flush(number, "window interrupted")
            if window := self._windows[number]:
                window.interrupt()
            step.items += self._pass_hole(number, found, counted=True).items
            return step
        if isinstance(found, Eos):
            step = self._flush(number, "window incomplete")
            if self._hears and self.started:
                self._tell(number, found, None)
            self._ends[number] = found
            if all(end is not None for end in self._ends):
                step.items += self._finish(found)
            return step
        index, describe = found
        return self._describe(number, self._members[number][index], describe.info)

    def _take(self, number: int, slab: Slab) -> Step:
        window = self._windows[number]
        if window is None:
            if self.tuning.since <= slab.first and slab.end <= self.tuning.before:
                return self._call(number, slab, range(slab.first, slab.end))
            return self._call_in_pieces(number, slab)
        window.push(slab)
        return self._due(number) or Step()

    def _call_in_pieces(self, number: int, slab: Slab) -> Step:
        """Call the block for the slots of a slab; where its parameters change between them, once for each value."""
        until = self.tuning.until(slab.first)
        if until >= slab.end:
            return self._call(number, slab, range(slab.first, slab.end))
        left, right = slab.split(until)
        step, rest = self._call(number, left, range(left.first, left.end)), Step()
        if not self.ended:
            rest = self._call_in_pieces(number, right)
        end = rest.slots.stop if rest.slots else step.slots.stop if step.slots else left.end
        return Step(
            [*step.items, *rest.items],
            range(left.first, end) if step.slots or rest.slots else None,
            slab.captured,
            step.nanoseconds + rest.nanoseconds,
            step.cut_short or rest.cut_short,
            step.begun,
            number,
        )

    def _held_up(self, join: Join) -> bool:
        """Whether what comes next has to wait until it is agreed which parameters hold for it."""
        hold = self.tuning.hold or 0
        return any(queue.items and getattr(queue.items[0], "first", -1) >= hold for queue in join.queues)

    def bound(self) -> int | None:
        """Return the first slot for which other parameters can still be set, None where it has ended.

        It is behind all slots that have come; of a block with a window, between the slots of two of its frames.
        """
        if self.ended:
            return None
        came = max((end for _, end in filter(None, self._came)), default=0)
        size, hop = window_of(self.block)
        return came + (size - came) % hop if size else came

    def _tune(self, slot: int) -> list[tuple[str, Item]]:
        """Set the parameters that hold for a slot; return the descriptions that become others by it."""
        if self.tuning.since <= slot < self.tuning.before or not self.tuning.tune(slot):
            return []
        before = dict(self.infos)
        return [(port, item) for port, item in self.start() if self.infos[port] != before.get(port)]

    def _describe(self, number: int, index: int, info: StreamInfo) -> Step:
        """Take a description; one that several joins share, when all of them have come to it."""
        if self.incoming[index] == info:
            return Step()
        self._pending[index] = info
        self._at_description.add(number)
        many = self.inputs[index].port.many
        sharing = {number} if many else {n for n, end in enumerate(self._ends) if end is None}
        if not sharing <= self._at_description:
            return Step()
        self._at_description -= sharing
        step = Step([item for n in sorted(sharing) for item in self._flush(n, "description changed").items])
        for known in [index] if many else list(self._pending):
            self._learn(known, self._pending.pop(known))
        self._stale = self.started  # the other inputs may change at this slot too
        if not self.started and all(info is not None for info in self.incoming):
            step.items += self.start()
        return step

    def _learn(self, index: int, info: StreamInfo) -> None:
        self.incoming[index] = info
        self._bound[index] = bind(self.inputs[index].port, info, self.inputs[index].edge or self.name)

    def _flush(self, number: int, reason: str) -> Step:
        window = self._windows[number]
        hole = window.flush(reason) if window else None
        return self._pass_hole(number, hole, counted=False) if hole else Step()

    def _pass_hole(self, number: int, hole: Hole, counted: bool) -> Step:
        if counted:
            for tally, lost in zip(self._lone[number], hole.unmatched, strict=True):
                if lost:
                    tally.note(hole.first, hole.first + lost)
        slots = range(max(hole.first, self._resumed.going.out[number]), hole.end)
        if not slots:
            return Step()  # the beginning of a window that was worked off before a restart
        self.work_off(number, slots)
        if self._hears:
            if self.started:
                gap = hole.gap
                whole = gap is not None and (gap.first, gap.count) == (slots.start, len(slots))
                self._tell(number, gap if gap and whole else Gap(slots.start, len(slots), hole.reason), slots)
            return Step()
        try:
            self.block.missed(slots, hole.reason)
        except Exception as error:
            raise self._failure(slots, "missed: ", error) from error
        return Step([(out.name, Gap(slots.start, len(slots), hole.reason)) for out in self._outs])

    def _tell(self, number: int, message: Gap | Eos, slots: range | None) -> None:
        """Hand what came in place of a frame to a block that takes messages as they come."""
        given = {**self._asked, "message": message}
        if "source" in given:
            given["source"] = self.inputs[self._members[number][-1]].stream
        if "slots" in given:
            given["slots"] = slots
        try:
            self.block.process(**given)
        except Exception as error:
            raise self._failure(slots, "", error) from error

    def start(self) -> list[tuple[str, Item]]:
        """Start the block with the descriptions that have come; return those of its outputs."""
        infos: dict[str, StreamInfo | dict[str, StreamInfo]] = {}
        for source, info in zip(self.inputs, self.incoming, strict=True):
            if info is not None and source.port.many:
                infos.setdefault(source.port.name, {})[source.stream] = info  # type: ignore[index]
            elif info is not None:
                infos[source.port.name] = info
        try:
            self._begin_block(infos)
        except (FlowgraphError, FrameError, BlockFailed):
            raise
        except Exception as error:
            raise self._failure(None, "start: ", error) from error
        self._stale = False
        return [(name, Describe(f"{self.name}.{name}", info)) for name, info in self.infos.items()]

    def _begin_block(self, infos: Mapping[str, StreamInfo | dict[str, StreamInfo]]) -> None:
        """Start the block and put its state back; one that lived on keeps what it designed for the same streams."""
        first, before, place = not self.started, self._resumed.before, self.places[0]
        cold = self.block.stateful and not self.block.resumes()
        tuned = first and self.tuning.tune(min(place.out))
        lived = first and not tuned and before is not None and before.started and before.incoming == self.incoming
        if lived and before is not None and (not cold or not self._outs):
            self._emitter.infos, self._bound = before.infos, before._bound
        else:
            self._emitter.infos = describe_outputs(self.block, infos)
        if first and place.state is not None and not (lived and not self._outs):
            self.block.restore(unpack(place.state))
        if not self.inputs and (own := self.block.upcoming(range(1))) is not None:
            self.base = own[0].start  # a recording may begin at any slot; noted before anything is made
        self._emitter.restarted = (
            first and cold and self._resumed.going.place is not None and bool(self._outs or not lived)
        )
        self.started = True
        if first and place.state is None:
            place.state = self._state()
        self._resumed = replace(self._resumed, before=None)  # each core would keep all before it, and what they hold

    def mark(self) -> None:
        """Note where the block stands now, and its state."""
        self.places.append(self._here(self._state()))

    def _state(self) -> bytes | None:
        """Return the state of the block as it is kept, None where it has none."""
        if not self.block.resumes() or not self.started:
            return None
        state = self.block.snapshot()
        try:
            return pack(state)
        except ShapeError as error:
            raise self._failure(None, "snapshot: ", error) from error

    def _here(self, state: bytes | None) -> Place:
        out = tuple([done.prefix() for done in self._consumed])
        windows = tuple([window and window.standing for window in self._windows])
        needed = tuple([min(at[0], done) if at else done for at, done in zip(windows or (None,), out, strict=False)])
        return Place(out, needed or out, windows, state)

    @property
    def begin(self) -> int:
        """The slot from which it makes its output again after a restart; where it ended, if it has made all."""
        out = max(self.places[0].out)
        return self.last if out >= END else out

    @property
    def reached(self) -> int:
        """The slot before which all is worked off."""
        return min(done.prefix() for done in self._consumed)

    @property
    def offered(self) -> int:
        """Slots that have left it before that."""
        if self.sparse:
            return sum(self.tallies[0].counts().values())
        return 0 if self.base is None else max(0, self.begin - self.base)

    @property
    def is_over(self) -> bool:
        """Whether all is finished, the end too."""
        return self.places[0].out[0] >= END

    def account(self, index: int) -> dict[str, Any]:
        """Return what became of the slots of an input that are finished: acknowledged, dropped by reason, unmatched."""
        settled = self.tallies[index].counts(self.begin_of(index))
        lone = [
            row[members.index(index)]
            for members, row in zip(self._members, self._lone, strict=True)
            if index in members
        ]
        return {
            "acknowledged": settled.pop(DATA, 0),
            "dropped": settled,
            "unmatched": sum(sum(tally.counts().values()) for tally in lone),
        }

    @property
    def unmarked(self) -> int:
        """Slots worked off since the newest place that was marked."""
        newest = self.places[-1].out
        return sum([done.prefix() - out for done, out in zip(self._consumed, newest, strict=True)])

    def settle(self, downstream: SlotSet | None, over: bool = False) -> None:
        """Let go of places that no restart can need, and count what lies before the oldest that is left.

        downstream: the slots that all consumers have finished, None where there is no consumer
        over: whether everything is finished, the end too
        """
        places = self.places
        if over:
            self._settle_all(downstream)
            return
        if self.marked:
            done = END if downstream is None else downstream.prefix()
            while len(places) > 1 and max(places[1].out) <= done:
                places.popleft()
            if self.cut and self.cut_at <= min(places[0].out) <= done:
                self._want_nothing(places[0].out)
                return
            if self.ended and max(places[0].needed) < min(places[0].out) and not self.unmarked:
                places[-1] = self._here(places[-1].state)  # the last windows are given up: nothing is needed again
        else:
            if self.sparse and downstream is not None:  # others have done what did not come here
                end = self._ends[0]
                came = end.first if end else max(self.through, self._came[0][1] if self._came[0] else 0)
                self._consumed[0].add(0, min(downstream.prefix(), came))
            sets = self._consumed if downstream is None else [done & downstream for done in self._consumed]
            out = tuple([done.prefix() for done in sets])
            if self.cut and min(out) >= self.cut_at:
                self._want_nothing(out)
                return
            if out == places[0].out:
                return
            places[0] = Place(out, out)
        for index, tally in enumerate(self.tallies):
            tally.settle(min(self.begin_of(index), self.shared) if self.sparse else self.begin_of(index))
        while self.kept and self.kept[0][1].end <= places[0].out[0]:
            self.kept.popleft()

    def _want_nothing(self, out: tuple[int, ...]) -> None:
        """Note that all before its own end is finished: what came beyond that is nobody's, and need not come again."""
        for tally in self.tallies:
            tally.rewind(self.cut_at)
        self.places[0] = Place(out, (END,) * len(out), (), self.places[0].state)

    @property
    def before(self) -> "Core | None":
        """The core of the epoch before, if its process lived on."""
        return self._resumed.before

    @property
    def was_cut(self) -> bool:
        """Whether it goes on from where it had ended before its inputs did."""
        going = self._resumed.going
        return bool(self.inputs) and min(going.needed) >= END > max(going.out)

    def _settle_all(self, downstream: SlotSet | None) -> None:
        if self.places[0].out[0] >= END:
            return
        if self.cut:  # what came beyond its own end is nobody's
            done = self._consumed[0].prefix() if downstream is None else (self._consumed[0] & downstream).prefix()
            for tally in self.tallies:
                tally.rewind(done)
        state = self._state()
        ends = (END,) * len(self._consumed)
        self.places.clear()
        self.places.append(Place(ends, ends, (), state))
        for tally in self.tallies if not self.sparse else ():
            tally.settle(END)

    def standing(self) -> Standing:
        """Return what a process in the stead of this one must know."""
        for row, begin in zip(self._lone, self.places[0].needed, strict=False):
            for tally in row:
                tally.settle(begin)
        return Standing(list(self.places), self.tallies, self._lone, self.base, self.last)

    def finished_with(self, index: int) -> SlotSet:
        """Return the slots of an input that are finished, or not wanted, for a producer in the same process."""
        begin = self.begin_of(index)
        done = SlotSet([(0, begin)] if begin else [])
        done.add(self.cut_at, END)
        return done

    def told(self, index: int) -> SlotSet:
        """Return the slots of an input that need never come again, as far as they came."""
        came = self._came[index]
        end = min(self.begin_of(index), self.cut_at, self.last if self.sparse else came[1] if came else 0)
        if self.sparse and not self.ended:
            end = self.begin_of(index)
        return SlotSet([(0, end)] if end else [])

    def make(self, slots: range, captured: int) -> Step:
        """Let a source make some slots; the slots of the step are those that it made."""
        given = self._asked.copy()
        if "slots" in given:
            given["slots"] = slots
        if self.poison and not self.poison.isdisjoint(slots):
            return self._pass_hole(0, Hole(slots.start, slots.stop, "poison", ()), counted=False)
        described = self._tune(slots.start)
        step = self._run(given, slots, captured)
        if described:
            step.items[:0] = described
        if self.ended:
            ends = [item.first for _, item in step.items if isinstance(item, Eos)]
            step.slots = slots = range(slots.start, max(ends, default=slots.start))
        elif step.slots is not None:
            slots = step.slots
        self.work_off(0, slots)
        if self.block.live:
            self.kept.extend((port, item) for port, item in step.items if isinstance(item, Frame | Gap))
        return step

    def _call(self, number: int, slab: Slab, named: range) -> Step:
        given = self._asked.copy()
        members = self._members[number]
        for index, arrays in zip(members, slab.arrays, strict=True):
            port, bound = self.inputs[index].port, self._bound[index]
            if port.name in given:
                wanted = {want: arrays[have] for want, have in bound.items()}
                given[port.name] = wanted[port.name] if port.single else wanted
        if "slots" in given:
            given["slots"] = named if len(named) == slab.end - slab.first else range(slab.first, slab.end)
        if "source" in given:
            given["source"] = self.inputs[members[-1]].stream
        if self._hears:
            given["message"] = slab.frame
        if self.poison and not self.poison.isdisjoint(named):
            return self._pass_hole(number, Hole(named.start, named.stop, "poison", ()), counted=False)
        described = self._tune(named.start)
        step = self._run(given, named, slab.captured)
        step.number = number
        if described:
            step.items[:0] = described
        self.work_off(number, named)
        return step

    def work_off(self, number: int, slots: range) -> None:
        """Note that these slots of a join are worked off."""
        first, stop = slots.start, slots.stop
        if self._virgin[number]:  # what lies before the first slot that ever came was never there
            self._virgin[number] = False
            self._consumed[number].add(0, first)
            self.base = first if self.base is None else self.base
        stop = min(stop, self.cut_at)
        if stop > first:
            self._consumed[number].add(first, stop)

    def _run(self, given: dict[str, Any], named: range, captured: int) -> Step:
        self.working_on, self.given = named, given
        budget: Budget | None = None
        if self.tuning.deadline is not None:
            given["budget"] = budget = Budget(captured + self.tuning.deadline)
        begun = time.monotonic_ns()
        if self._now is not None:
            self._now.begin(named, begun)
        if self._on_call is not None:
            self._on_call(named, given)
        try:
            self._let_go(None, None, None)
            try:
                made = self.block.process(**given)
            finally:
                self._take_back()
            spent = time.monotonic_ns() - begun
            if type(made) is Received:
                return self._take_in(made, named, begun, spent)
            step = Step(self._leaving(made, named, captured), named, captured, spent, begun=begun)
        except Exception as error:
            raise self._failure(named, "", error) from error
        if budget is not None and budget.spent:
            step.cut_short = True
            add_tags(step.items, {"deadline": True, "asked": budget.asked})  # a replay cuts it short there again
        self.working_on, self.given = None, _NOTHING
        return step

    def _leaving(self, made: Any, named: range, captured: int) -> list[tuple[str, Item]]:
        """Return what leaves for what was returned; where that was its last, the block has ended."""
        items = self._emitter.emit(made, named, captured)
        if self._emitter.ended_at is not None:
            self.cut_off(self._emitter.ended_at)
        return items

    def _take_in(self, made: Received, asked: range, begun: int, spent: int) -> Step:
        """Return the slots that a live source got, behind a gap for those that it did not."""
        first, slots = asked.start, made.slots
        if self.inputs or not self.block.live:
            raise ShapeError(f"{self.name}: process returned Received; only a source that is live does")
        if slots.step != 1 or slots.start < first or len(slots) > len(asked):
            raise ShapeError(
                f"{self.name}: process returned slots {slots.start}..{slots.stop - 1}; wanted slots from {first} on, "
                f"at most {len(asked)} of them"
            )
        if slots and made.outputs is None:
            raise ShapeError(f"{self.name}: process returned Received with {describe_slots(slots)} and no outputs")
        items: list[tuple[str, Item]] = []
        if made.info is not None:
            self._emitter.infos = complete_outputs(self.block, made.info, self.infos)
            items += [(name, Describe(f"{self.name}.{name}", info)) for name, info in self.infos.items()]
        if slots.start > first:
            gap = (first, slots.start - first, made.lost, made.captured)
            items += [(out.name, Gap(*gap)) for out in self._outs]
        if slots:
            items += self._leaving(made.outputs, slots, made.captured)
        self.working_on, self.given = None, _NOTHING
        return Step(items, range(first, slots.stop), made.captured, max(0, spent - made.waited), begun=begun)

    def _failure(self, slots: range | None, hook: str, error: Exception) -> BlockFailed:
        cause = str(error) if isinstance(error, FrameError) else f"{type(error).__name__}: {error}"
        return BlockFailed(self.name, slots, self.block.run.seed, f"{hook}{cause}{_written_at(error)}")

    @property
    def infos(self) -> dict[str, StreamInfo]:
        """The descriptions of the outputs, by port."""
        return self._emitter.infos

    def cut_off(self, at: int) -> None:
        """End before the inputs do: nothing is wanted from slot `at` on."""
        self.ended = self.cut = True
        self.cut_at = self.last = at

    def _finish(self, eos: Eos) -> list[tuple[str, Item]]:
        self.ended = True
        self.last = eos.first
        return [(out.name, eos) for out in self._outs]

    def streams(self, number: int) -> list[str]:
        """Return the streams of a join; where a port takes many, the one of that, for which it is there."""
        members = self._members[number]
        many = [index for index in members if self.inputs[index].port.many]
        return [self.inputs[index].stream for index in many or members]

    def waits_for(self) -> list[str]:
        """Return what the block waits for: which slot of which stream."""
        inputs = {
            index
            for members, join in zip(self._members, self._joins, strict=True)
            for index, queue in zip(members, join.queues, strict=True)
            if not queue.items
        }
        return [f"slot {(self._came[i] or (0, 0))[1]} of {self.inputs[i].stream}" for i in sorted(inputs)]


def _written_at(error: Exception) -> str:
    """Where the innermost line of somebody's own code is that the error passed through, as " (file.py:12)"."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(path, line) for path, line in frames if PACKAGE not in path.parents and "site-packages" not in path.parts]
    return f" ({own[-1][0].name}:{own[-1][1]})" if own else ""
