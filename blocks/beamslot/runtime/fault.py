"""A bad link on purpose: what a producer sends comes late, out of order, twice, damaged, or not at all.

It stands below the protocol of an edge, between an inlet and its connection, in a thread of its own. The inlet heals
what it does: see `transport.Inlet`. What the consumer says passes unharmed.
"""

import os
import random
import threading
import time
import traceback
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import zmq

from beamslot.frame import Acknowledge, Done, Frame, Gap, Heartbeat, Hello, Message, decode, encode
from beamslot.runtime.graph import LinkFault

FRESH = b"fresh"
"""Said to the inlet: what comes from here on comes over a new connection, from the oldest slot not acknowledged."""

AGAIN, HEARD, STOP = b"again", b"heard", b"stop"
"""Said by the inlet: make a new connection; `FRESH` was heard, and credit is counted anew; end."""

OVERTAKEN_WITHIN = 0.01
"""A message that waits to be overtaken waits so long at most [s]."""

CHECKED = 4
"""Bytes of the checksum that goes before every message, as on any link: damage is seen, never taken for data."""


def checksum(parts: Sequence[Any]) -> bytes:
    """Return the CRC-32 of the parts of a message."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc.to_bytes(CHECKED, "big")


class BadLink:
    """The link of one inlet.

    near: the socket of the inlet, in the place of a connection    counts: messages by what was done to them
    far: makes a connection to the producer
    source of what happens: (seed, edge, epoch), message by message
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        fault: LinkFault,
        key: str,
        far: Callable[[], zmq.Socket[bytes]],
    ) -> None:
        asked = {
            "delayed": fault.delay + fault.jitter,
            "reordered": fault.reorder,
            "duplicated": fault.duplicate,
            "corrupted": fault.corrupt,
            "cut": fault.cut,
        }
        # No key comes later: another thread reads them.
        self.counts = Counter({kind: 0 for kind, much in asked.items() if much > 0})
        self._fault, self._far = fault, far
        self._random = random.Random(key)  # noqa: S311 (nothing secret)
        self.near, self._inner = (context.socket(zmq.PAIR) for _ in range(2))
        for socket in (self.near, self._inner):
            socket.set(zmq.SNDHWM, 0)
            socket.set(zmq.RCVHWM, 0)
            socket.set(zmq.LINGER, 0)
        name = f"inproc://link-{id(self)}"
        self._inner.bind(name)
        self.near.connect(name)
        self._waiting: deque[tuple[float, list[Any]]] = deque()
        self._behind: tuple[float, list[Any]] | None = None
        self._latest = 0.0
        # A connection on which nothing has come yet is not given up: were its hello read after that of the next, the
        # producer would take it for the newer one, and nobody would be there.
        self._silent = True
        self._begun = self._stopped = False
        self._heard = True
        self._linger = 1000
        self._hello: Hello | None = None
        self._done: Done | None = None
        self._told: Acknowledge | Heartbeat | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def connect(self, endpoint: str) -> None:
        """Begin to carry messages from a producer and back."""
        self._endpoint = endpoint
        self._outer = self._far()
        self._outer.connect(endpoint)
        self._thread.start()

    def say(self, word: bytes) -> None:
        """Say a word to the link."""
        self.near.send(word)

    def close(self, linger: int) -> None:
        """End, when what the inlet has said is passed on; it is sent for so long [ms]."""
        self._linger = linger
        if self._thread.is_alive():
            self.say(STOP)
            self._thread.join()
        self._inner.close()
        self.near.close()

    # the thread

    def _run(self) -> None:
        try:
            self._carry()
        except Exception:
            traceback.print_exc()
            os._exit(1)  # to go on without a link would be to stand still in silence

    def _carry(self) -> None:
        poller, outer = zmq.Poller(), None
        while not self._stopped:
            if outer is not self._outer:
                outer = self._outer
                poller = zmq.Poller()
                for socket in (self._inner, outer):
                    poller.register(socket, zmq.POLLIN)
            ready = dict(poller.poll(self._patience()))
            if self._inner in ready:
                self._back(self._inner.recv_multipart(copy=False))
            elif self._outer in ready:
                self._strike(self._outer.recv_multipart(copy=False))
            self._release(time.monotonic())
        self._outer.close(linger=self._linger)

    def _patience(self) -> int | None:
        """Return how long there is nothing to do [ms]."""
        due = [self._waiting[0][0]] if self._waiting else []
        due += [self._behind[0]] if self._behind else []
        return max(0, int(1e3 * (min(due) - time.monotonic())) + 1) if due else None

    def _release(self, now: float) -> None:
        if self._behind is not None and self._behind[0] <= now:
            self._waiting.append(self._behind)
            self._behind = None
        while self._waiting and self._waiting[0][0] <= now:
            self._inner.send_multipart(self._waiting.popleft()[1], copy=False)

    # what comes from the producer

    def _strike(self, parts: list[Any]) -> None:
        """Do to a message what its turn of the dice says; the first that is about slots, and all before, pass unharmed.

        A stream may begin at any slot, so nobody could miss what came before.
        """
        self._silent = False
        fault, chance = self._fault, self._random.random
        message = [checksum([part.buffer for part in parts]), *parts]
        due = time.monotonic()
        if not self._begun:
            self._begun = isinstance(decode([part.buffer for part in parts]), Frame | Gap)
            self._put(due, message)
            return
        cut, reorder, duplicate, corrupt, late = (chance() for _ in range(5))
        if cut < fault.cut:
            self.counts["cut"] += 1
            self._reconnect()
            return
        if fault.delay or fault.jitter:
            self.counts["delayed"] += 1
            due += fault.delay + late * fault.jitter
        if corrupt < fault.corrupt:
            self.counts["corrupted"] += 1
            message = self._damaged(message)
        copies = 1
        if duplicate < fault.duplicate:
            self.counts["duplicated"] += 1
            copies = 2
        if reorder < fault.reorder and self._behind is None:
            self.counts["reordered"] += 1
            self._behind = (due + OVERTAKEN_WITHIN, message)
            copies -= 1
        for _ in range(copies):
            self._put(due, message)
        if copies and self._behind is not None and self._behind[1] is not message:
            self._put(due, self._behind[1])
            self._behind = None

    def _put(self, due: float, message: list[Any]) -> None:
        """Queue a message; delays of their own do not let one overtake another."""
        self._latest = max(self._latest, due)
        self._waiting.append((self._latest, message))

    def _damaged(self, message: list[Any]) -> list[Any]:
        """Return a message with one bit of it flipped."""
        parts = [bytes(part if isinstance(part, bytes) else part.buffer) for part in message]
        which = self._random.choice([index for index, part in enumerate(parts) if part])
        bit = self._random.randrange(8 * len(parts[which]))
        flipped = bytearray(parts[which])
        flipped[bit // 8] ^= 1 << bit % 8
        parts[which] = bytes(flipped)
        return parts

    # what the inlet says

    def _back(self, parts: list[Any]) -> None:
        if len(parts) == 1:
            self._obey(parts[0].bytes)
            return
        message = decode([part.buffer for part in parts])
        if isinstance(message, Hello):
            self._hello = message
        elif isinstance(message, Done):
            self._done = message
        elif isinstance(message, Acknowledge | Heartbeat):
            self._told = message
            if not self._heard:  # credit that was counted over the connection before
                message = replace(message, credit=0)
        self._send(message)

    def _obey(self, word: bytes) -> None:
        if word == AGAIN and self._silent:
            self._inner.send(FRESH)
        elif word == AGAIN:
            self._reconnect()
        elif word == HEARD:
            self._heard = True
        else:
            self._stopped = True

    def _send(self, message: Message | None) -> None:
        if message is not None:
            parts: list[Any] = [*encode(message)]
            self._outer.send_multipart(parts)

    def _reconnect(self) -> None:
        """Lose what is under way, connect anew, and introduce the inlet again with all that it has said."""
        self._waiting.clear()
        self._behind = None
        self._silent = True
        self._outer.close(linger=0)
        self._outer = self._far()
        self._outer.connect(self._endpoint)
        self._heard = False
        self._send(self._hello)
        self._send(self._told and replace(self._told, credit=0))
        self._send(self._done)
        self._inner.send(FRESH)
