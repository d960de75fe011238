"""A stream as samples for a GNU Radio flowgraph, or for a radio that listens like one."""

import math
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from beamslot.errors import PortMismatch
from beamslot.frame import StreamInfo
from beamslot.gnuradio.peer import PATIENCE, GnuradioBlock, lengths
from beamslot.gnuradio.pmt import U64, Pair, write
from beamslot.gnuradio.sockets import Mouth
from beamslot.gnuradio.tags import Tag, write_message
from beamslot.runtime import In

MOST_ITEMS = 65_536
"""A message has no more items than these."""


class GnuradioSink(GnuradioBlock):
    """Send one complex array of a stream to a ZMQ source of GNU Radio, whole items at a time, tags where it wants them.

    {name: radio, id: gnuradio_sink, parameters: {bind: "tcp://127.0.0.1:5600", tags: true}}

    feeds a ZMQ PULL Source that connects there, with tags passed; vlen is all axes of a slot but the first. Each slot
    has a `slot` tag; at the first, and behind every gap, stand `rx_time` (seconds since slot 0, and `epoch`), `rx_rate`
    and `rx_freq`. A slot that did not come is sent as zeros where there are no tags to tell. The protocol has no
    acknowledgements: what a peer had taken when it died is lost with it. `tags`, `key` and the length of an item must
    be what the peer is set to: GNU Radio ends where they are not, and nothing of that can be seen here.
    """

    stream = In()

    socket: Literal["push", "pub", "rep"] = Field("push", description="ours; the peer has pull, sub or req")
    array: str = Field("", description="which array; unset: the only complex one")
    wait: bool = Field(
        True, description="whether slots wait for somebody who takes them; else they are passed over, counted"
    )
    fill_gaps: bool | None = Field(
        None, description="whether zeros stand for slots that did not come; unset: where neither tags nor messages tell"
    )
    epoch: float = Field(0.0, ge=0, description="rx_time of slot 0", json_schema_extra={"unit": "s"})

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.key and (self.socket != "pub" or self.messages):
            raise ValueError("key is for pub, without messages")
        return self

    def start(self, stream: StreamInfo) -> None:
        """Choose the array and open the socket, or go on where only a description has changed."""
        self._name = self._choose(stream)
        axes = {axis: stream.axes[axis] for axis in stream.arrays[self._name].axes[1:]} or {"sample": 1}
        self._per_slot, self._vlen = lengths(axes, self.vlen, self.run.name)
        self._rate = self._per_slot / stream.slot_period
        self._period, self._carrier = stream.slot_period, stream.carrier
        self._fresh = getattr(self, "_fresh", False) or getattr(self, "_described", None) != stream
        self._described = stream
        if self._is_open(getattr(self, "_mouth", None)):
            return
        self._fresh = True
        self._offset = self._owed = self._slots = self._missed = self._unheard = 0
        self._begin_watch()
        self._mouth = Mouth(
            self.socket,
            self.endpoint,
            bind=self.bind is not None,
            where="GNU Radio",
            key=self.key.encode(),
            hwm=self.hwm,
        )

    def _choose(self, stream: StreamInfo) -> str:
        fit = [n for n, a in stream.arrays.items() if a.dtype == np.complex64 and a.axes[:1] == ("slot",)]
        found = [name for name in fit if name == self.array] if self.array else fit
        if len(found) == 1:
            return found[0]
        wanted = f"array {self.array!r}" if self.array else "one array"
        has = ", ".join(f"{name} {array}" for name, array in stream.arrays.items())
        raise PortMismatch(f"{self.run.name}.stream: wanted {wanted} of complex64, a slot an entry; there is {has}")

    def process(self, stream: dict[str, NDArray[Any]], slots: range) -> None:
        """Send these slots, and zeros for those before them that did not come."""
        items = np.ascontiguousarray(stream[self._name]).reshape(-1, self._vlen)
        while self._owed:
            some = min(self._owed, max(1, MOST_ITEMS // self._per_slot))
            self._give(np.zeros((some * self._per_slot, self._vlen), np.complex64), range(slots.start, slots.start))
            self._owed -= some
        if self.messages:
            for index, slot in enumerate(slots):
                self._give_pdu(items[index * self._per_slot : (index + 1) * self._per_slot], slot)
        else:
            self._give(items, slots)
        self._slots += len(slots)

    def missed(self, slots: range, reason: str) -> None:
        """Owe zeros for slots that did not come, or let the next tags tell."""
        self._missed += len(slots)
        self._fresh = True
        if self.fill_gaps if self.fill_gaps is not None else not (self.tags or self.messages):
            self._owed += len(slots)

    def _give(self, items: NDArray[np.complex64], slots: range) -> None:
        """Send items, as many in a message as the peer takes, with the tags of the slots that begin among them."""
        marks = self._tags_of(slots) if self.tags else []
        at, first = 0, self._offset
        while at < len(items):
            room = self._room(slots.start)
            if not room:
                self._pass_over(len(slots) - at // self._per_slot)
                break
            count = min(room, len(items) - at, MOST_ITEMS)
            begin = first + at
            inside = [tag for tag in marks if begin <= tag.offset < begin + count]
            offset = begin if self.tags else None
            parts = write_message(items[at : at + count], offset, inside, self.key.encode())
            if self._sent(parts):
                at += count
            elif not self.wait:
                self._pass_over(len(slots) - at // self._per_slot)
                break
        self._offset = first + at

    def _give_pdu(self, items: NDArray[np.complex64], slot: int) -> None:
        meta = {self.slot_tag: slot} | {tag.key: tag.value for tag in self._tags_of(range(slot, slot + 1))}
        part = write(Pair(meta, items.reshape(-1)))
        while self._room(slot):
            if self._sent([part]):
                return
            if not self.wait:
                break
        self._pass_over(1)

    def _pass_over(self, slots: int) -> None:
        """Count slots that nobody takes; who comes then is told the time anew."""
        self._unheard += slots
        self._fresh = True

    def _room(self, slot: int) -> int:
        """Return how many items the peer takes now; wait for it, or return 0 where nothing waits."""
        while True:
            self._heed_peers(self._mouth.news(), slot)
            room = self._mouth.room(PATIENCE if self.wait else 0)
            self._heed_silence(slot, bool(room) or not self.wait, "nobody takes samples")
            if room or not self.wait:
                return room

    def _sent(self, parts: list[Any]) -> bool:
        return self._mouth.send(parts, PATIENCE)

    def _tags_of(self, slots: range) -> list[Tag]:
        """Return the tags of some slots, the first of which is sent next."""
        tags = [Tag(self._offset + index * self._per_slot, self.slot_tag, slot) for index, slot in enumerate(slots)]
        if self._fresh and slots:
            self._fresh = False
            at = self.epoch + slots.start * self._period
            radio = {"rx_time": (U64(math.floor(at)), at - math.floor(at)), "rx_rate": self._rate}
            radio |= {"rx_freq": self._carrier} if self._carrier else {}
            tags += [Tag(self._offset, key, value) for key, value in radio.items()]
        return tags

    def snapshot(self) -> dict[str, Any]:
        """Return how far the stream is, and the counts."""
        state = {"offset": self._offset, "owed": self._owed, "fresh": self._fresh}
        return {**state, **self.results()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._offset, self._owed, self._fresh = state["offset"], state["owed"], state["fresh"]
        self._slots, self._missed, self._unheard = state["slots"], state["missed"], state["unheard"]

    def results(self) -> dict[str, Any]:
        """Return how many slots came, did not come, and were passed over as nobody took them."""
        return {"slots": self._slots, "missed": self._missed, "unheard": self._unheard}

    @property
    def refused(self) -> int:
        """Peers that were refused."""
        mouth = getattr(self, "_mouth", None)
        return 0 if mouth is None else mouth.refused

    def stop(self) -> None:
        """Close the socket; what is queued is sent first."""
        self._mouth.close()
