"""What our two blocks for GNU Radio share: where the peer is, what it is told, and what people are told of it."""

import time
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from beamslot.errors import BadParam
from beamslot.gnuradio.pmt import Pair
from beamslot.gnuradio.sockets import LinkEnd
from beamslot.runtime import Block, Live
from beamslot.runtime.keys import check_endpoint, host_of
from beamslot.runtime.secure import Event

PATIENCE = 20
"""A call waits for the peer so long and then lets its process do other things [ms]."""

MOST_TEXT = 200
"""A text of the peer's is shown up to here."""

MOST_VALUES = 32
"""A vector of the peer's goes on as a tag when it has so many values at most."""


class GnuradioBlock(Block):
    """A block with GNU Radio on the other side of a socket."""

    connect: str | None = Field(None, description="endpoint where GNU Radio binds: tcp://HOST:PORT or ipc:///PATH")
    bind: str | None = Field(None, description="endpoint to wait at for GNU Radio: tcp://HOST:PORT or ipc:///PATH")
    trusted_network: bool = Field(
        False,
        description="whether samples may leave this machine; GNU Radio knows no keys, anybody could read and send",
    )
    tags: bool = Field(False, description="whether messages have a header with tags: pass_tags of the peer")
    key: str = Field(
        "", max_length=256, description="of PUB and SUB: first part of every message; the peer has the same"
    )
    messages: bool = Field(False, description="PDUs, one slot each, for GNU Radio's message blocks instead of streams")
    vlen: int | None = Field(
        None, ge=1, description="samples of an item, vlen of the peer; unset: the product of all axes but the first"
    )
    slot_tag: str = Field("slot", min_length=1, max_length=256, description="key of the tags that number slots")
    hwm: int = Field(-1, ge=-1, description="messages that the socket queues (ZMQ_HWM); -1: as ZeroMQ sees fit")
    silence: float = Live(
        2.0, gt=0, description="after so long without the peer people are told", json_schema_extra={"unit": "s"}
    )

    @model_validator(mode="after")
    def _endpoint_fits(self) -> Self:
        if (self.connect is None) == (self.bind is None):
            raise ValueError("give one of connect and bind: the endpoint, and who waits there")
        try:
            if self.connect is not None and host_of(self.connect) == "*":
                raise ValueError(f"connect is {self.connect}; wanted the host that GNU Radio runs on")
            check_endpoint(self.endpoint, self.trusted_network)
        except BadParam as error:
            text = str(error)
            if "leaves this machine" in text:
                text = f"{self.endpoint} leaves this machine, and GNU Radio knows no keys; trusted_network says it may"
            raise ValueError(text) from None
        if self.messages and self.tags:
            raise ValueError("messages have their tags in their dict; tags is for streams")
        return self

    @property
    def endpoint(self) -> str:
        """Where the peer is, or comes to."""
        return self.connect or self.bind or ""

    @staticmethod
    def _is_open(end: LinkEnd | None) -> bool:
        return end is not None and not end.closed

    def _begin_watch(self) -> None:
        self._heard_at = time.monotonic()
        self._silent = self._left = False

    def _heed_peers(self, events: list[Event], slot: int) -> bool:
        """Tell people of peers that came back, left or were refused; return whether one has left."""
        gone = False
        for event in events:
            if event.kind == "refused":
                self.tell(event.text)
            elif event.kind == "left":
                self._left = gone = True
                self.tell(f"GNU Radio at {self.endpoint} has gone, at slot {slot}; waiting for it to come back")
            elif self._left:
                self._left = False
                self.tell(f"GNU Radio at {self.endpoint} is back, at slot {slot}")
        return gone

    def _heed_silence(self, slot: int, heard: bool, what: str) -> None:
        """Tell people when the peer has been silent for long, once until it is heard again."""
        if heard:
            self._heard_at = time.monotonic()
            self._silent = False
        elif not self._silent and not self._left and time.monotonic() - self._heard_at > self.silence:
            self._silent = True
            self.tell(f"{what} at {self.endpoint} for {self.silence:g} s, at slot {slot}")


def lengths(axes: dict[str, int], vlen: int | None, where: str) -> tuple[int, int]:
    """Return how many items a slot is, and how many samples an item.

    axes: length of every axis of a slot    vlen: as asked for, None for all axes but the first
    raises BadParam where they do not divide
    """
    samples = int(np.prod(list(axes.values()), dtype=np.int64))
    if vlen is None:
        first = next(iter(axes.values()))
        return first, samples // first
    if samples % vlen:
        raise BadParam(f"{where}.vlen: is {vlen}; a slot has {samples} samples, {axes}, which it does not divide")
    return samples // vlen, vlen


def plain(value: Any) -> Any:
    """Return a PMT as what the tag of a frame may be; what is large or deep as a text that says what it was."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()[:MOST_TEXT]
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, tuple | list) and len(value) <= MOST_VALUES and not any(_deep(one) for one in value):
        return [plain(one) for one in value]
    return f"<{type(value).__name__}>"


def _deep(value: Any) -> bool:
    return isinstance(value, tuple | list | dict | Pair | np.ndarray)
