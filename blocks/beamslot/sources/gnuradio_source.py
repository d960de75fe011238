"""Samples of a GNU Radio flowgraph, or of a radio that speaks like one, as a stream."""

import time
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from beamslot.errors import BadParam, CorruptFrame, FrameError, ShapeError
from beamslot.frame import Array, Geometry, StreamInfo
from beamslot.gnuradio.peer import PATIENCE, GnuradioBlock, lengths, plain
from beamslot.gnuradio.pmt import Pair, read_whole
from beamslot.gnuradio.regroup import Regrouper, Slots
from beamslot.gnuradio.sockets import COUNT, Ear
from beamslot.gnuradio.tags import Chunk, Tag, read_message
from beamslot.runtime import Out, Received, Tagged

MOST_ITEMS = 65_536
"""So many items a request asks for."""

MOST_MESSAGES = 256
"""So many messages are taken in one call."""

HIGHEST_CARRIER = 1e15
"""Beyond this `rx_freq` is no carrier frequency [Hz]."""

MOST_TAGGED = 12_000
"""Tags of the peer's go on with a frame as long as they are this short as text; the head of a frame is limited."""


class GnuradioSource(GnuradioBlock):
    """Stream what a ZMQ sink of GNU Radio sends: its samples as slots, its tags as the slot clock.

    {name: radio, id: gnuradio_source,
     parameters: {connect: "tcp://127.0.0.1:5601", axes: {user: 1, y: 64, chain: 6}, tags: true, slots_by: tag}}

    takes from a ZMQ PUSH Sink with vlen 384 and tags passed. A slot is as many items as its axes want: by count, or
    from one `slot` tag to the next. What is missing, by the offsets of the header, by `rx_time` or by `slot`, becomes
    gaps; so does one slot wherever the peer begins anew. Without tags a gap in what comes cannot be seen. `rx_freq` is
    the carrier; `rx_time`, `rx_rate` and all other tags go on as tags of the frames, [slot, item, value] each. The peer
    gives the pace: leave that of the graph at `max`, and its slot_period at the truth.
    """

    live: ClassVar[bool] = True

    stream = Out()

    socket: Literal["pull", "sub", "req"] = Field("pull", description="ours; the peer has push, pub or rep")
    axes: dict[str, int] = Field(
        default={},
        description="axes of a slot and their lengths, outermost first; unset: user, y, chain by the operator",
    )
    operator_file: str = Field("", description="what the chains are, .npz or .json; see `beamslot replay`")
    spacing: float = Field(
        0.5, gt=0, description="distance of antennas in wavelengths, where axes y and z say that samples are theirs"
    )
    array: str = Field("rf", pattern="^[a-z][a-z0-9_]*$", description="name of the array")
    unit: str = Field("sqrt(W)", description="of the samples")
    carrier: float = Field(0.0, ge=0, description="carrier frequency until the peer says rx_freq; 0: the file's")
    slots_by: Literal["count", "tag"] = Field("count", description="what begins a slot: the last one's end, or a tag")
    origin: int | None = Field(None, description="slot tag of our slot 0; unset: the first that comes is where we are")
    request: Literal["items", "byte"] = Field(
        "items", description="what `req` asks with: four bytes, as GNU Radio does, or one, as srsRAN does"
    )

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.key and (self.socket != "sub" or self.messages):
            raise ValueError("key is for sub, without messages")
        if self.slots_by == "tag" and not (self.tags or self.messages):
            raise ValueError("slots_by: tag wants tags: true, or messages: true")
        if not self.axes and not self.operator_file:
            raise ValueError("give axes, what a slot is, or an operator_file, what its chains are")
        if any(length < 1 for length in self.axes.values()):
            raise ValueError(f"axes are {self.axes}; wanted lengths of 1 or more")
        return self

    def start(self) -> StreamInfo:
        """Describe the stream and open the socket, or go on where only a parameter has changed."""
        if self._is_open(getattr(self, "_ear", None)):
            return self._info
        self._info = self._described()
        axes = dict(self._info.axes)
        self._shape = tuple(axes.values())
        self._per_slot, self._vlen = lengths(axes, self.vlen, self.run.name)
        self._group: Regrouper | None = None
        self._refusals: dict[str, int] = {}
        self._told_rate = self._parted = False
        self._begin_watch()
        request = b""
        if self.socket == "req":
            request = b"\xff" if self.request == "byte" else COUNT.pack(1 if self.messages else MOST_ITEMS)
        self._ear = Ear(
            self.socket,
            self.endpoint,
            bind=self.bind is not None,
            where="GNU Radio",
            key=self.key.encode(),
            hwm=self.hwm,
            request=request,
        )
        return self._info

    def _described(self) -> StreamInfo:
        axes, carrier, geometry, operator = dict(self.axes), self.carrier, None, None
        if self.operator_file:
            from beamslot.recording.foreign.operator_file import load_operator

            front = load_operator(self.operator_file)
            geometry, operator, carrier = front.geometry, front.operator, carrier or front.carrier
            inner = {"y": geometry.n_y, "z": geometry.n_z}
            if operator is not None:
                inner = {"y": operator.weights.shape[0], "chain": operator.weights.shape[1]}
            axes = axes or {"user": front.users, **inner}
            if any(axes.get(axis, length) != length for axis, length in inner.items()):
                raise BadParam(f"{self.run.name}.axes: are {axes}; {self.operator_file} has {inner}")
        elif {"y", "z"} <= axes.keys():
            geometry = Geometry(axes["y"], axes["z"], self.spacing, self.spacing)
        arrays = {self.array: Array.of(f"slot {' '.join(axes)}", np.complex64, self.unit)}
        return StreamInfo(arrays, axes, self.run.slot_period, carrier, geometry, operator)

    def process(self, slots: range) -> Received:
        """Take what has come, or wait a little for it."""
        group = self._group
        if group is None or slots.start != self._next:
            group = self._group = self._regrouper(slots.start)
        begun, waited = time.monotonic_ns(), 0
        self._listen(group, slots)
        if not group.waiting:
            self._ear.wait(PATIENCE)
            waited = time.monotonic_ns() - begun
            self._listen(group, slots)
        self._tell_rate(group)
        taken = group.take(len(slots))
        self._heed_silence(slots.start, taken is not None, "nothing has come from GNU Radio")
        now = time.monotonic_ns()
        if taken is None:
            self._next = slots.start
            return Received(None, range(slots.start, slots.start), captured=now, waited=waited)
        self._next = taken.end
        return self._outputs(taken, now, waited)

    def _regrouper(self, begin: int) -> Regrouper:
        numbering: Any = {"by": self.slots_by, "key": self.slot_tag, "origin": self.origin}
        return Regrouper(self._per_slot, self._vlen, self.run.slot_period, begin=begin, **numbering)

    def _listen(self, group: Regrouper, slots: range) -> None:
        """Take messages until there are slots enough, or no more messages."""
        if self._heed_peers(self._ear.news(), slots.start):
            self._parted = True
        for _ in range(MOST_MESSAGES):
            if group.waiting >= len(slots):
                return
            parts = self._ear.receive()
            if parts is None:
                if self._parted:
                    self._parted = False
                    group.part()
                return
            try:
                chunk = self._read(parts)
            except FrameError as error:
                self._refuse(error, slots.start)
                group.refuse()
                continue
            if chunk is not None:
                group.feed(chunk)

    def _read(self, parts: list[Any]) -> Chunk | None:
        """Return what a message brings; None for one with another key, which ours is a beginning of."""
        if not parts:
            raise CorruptFrame("a message came that answers no request")
        if self.messages:
            return self._read_pdu(parts)
        if self.key and len(parts) > 1 and bytes(parts[0]) != self.key.encode():
            return None
        return read_message(parts, self._vlen, tagged=self.tags, keyed=bool(self.key))

    def _read_pdu(self, parts: list[Any]) -> Chunk:
        value = read_whole(parts[0])
        if not (isinstance(value, Pair) and isinstance(value.cdr, np.ndarray)):
            raise CorruptFrame("a message came that is no PDU; wanted a pair of a dict and a uniform vector")
        wanted = self._per_slot * self._vlen
        if value.cdr.dtype != np.complex64 or len(value.cdr) != wanted:
            raise ShapeError(f"a PDU of {len(value.cdr)} {value.cdr.dtype} came; wanted {wanted} complex64")
        meta = value.car if isinstance(value.car, dict) else {}
        tags = tuple([Tag(0, key, one) for key, one in meta.items() if isinstance(key, str)])
        return Chunk(value.cdr.reshape(self._per_slot, self._vlen), None, tags)

    def _refuse(self, error: FrameError, slot: int) -> None:
        """Count a message that is not as it should be; tell of the first, tenth, hundredth ... of a kind."""
        kind = type(error).__name__
        count = self._refusals[kind] = self._refusals.get(kind, 0) + 1
        if str(count).rstrip("0") == "1":
            times = f" ({count} times)" if count > 1 else ""
            self.tell(f"{kind}{times} from {self.endpoint}, at slot {slot}: {error}")

    def _tell_rate(self, group: Regrouper) -> None:
        if group.rate is None or self._told_rate:
            return
        self._told_rate = True
        lasts = self._per_slot / group.rate
        if abs(lasts - self.run.slot_period) > 1e-6 * self.run.slot_period:
            self.tell(
                f"rx_rate is {group.rate:g} Hz: a slot of {self._per_slot} items lasts {lasts:g} s, "
                f"and slot_period is {self.run.slot_period:g} s"
            )

    def _outputs(self, taken: Slots, now: int, waited: int) -> Received:
        slots, info = range(taken.first, taken.end), None
        carrier = next((one.value for one in reversed(taken.remarks) if one.key == "rx_freq"), None)
        if isinstance(carrier, float | int) and 0 <= carrier < HIGHEST_CARRIER and carrier != self._info.carrier:
            info = self._info = self._info.replace(carrier=float(carrier))
        outputs: Any = {self.array: taken.items.reshape(len(slots), *self._shape)}
        tags: dict[str, list[Any]] = {}
        room = MOST_TAGGED
        for one in taken.remarks:
            key, entry = plain(one.key), [one.slot, one.item, plain(one.value)]
            room -= len(key) + len(str(entry))
            if room < 0:
                break
            tags.setdefault(key, []).append(entry)
        if tags:
            outputs = Tagged(outputs, tags)
        return Received(outputs, slots, taken.lost or "missing", now, waited, info)

    @property
    def refused(self) -> int:
        """Messages that were not as they should be, and peers that are none."""
        ear = getattr(self, "_ear", None)
        return 0 if ear is None else sum(self._refusals.values()) + ear.refused

    def stop(self) -> None:
        """Close the socket."""
        self._ear.close()
