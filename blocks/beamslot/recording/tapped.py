"""Record what the taps of a running graph tell: lossy, so what was not heard stands in the recording as a gap."""

import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from beamslot.errors import FrameError, PeerLost
from beamslot.frame import Describe, Eos, Frame, Gap, Message, decode
from beamslot.recording.reasons import UNHEARD
from beamslot.recording.writer import Writer
from beamslot.runtime.taps import subscribe
from beamslot.runtime.transport import receive

HIGH_WATER = 256
"""Messages that may wait to be heard."""

AHEAD = 64
"""Messages of replicas, which come out of order, that are held back until the slot that is due comes."""

LATE = 0.5
"""How long slots before the end may still come, of replicas [s]."""


class TappedPort:
    """One port of a running graph, heard and written; closes its recording when it is left.

    endpoints: of its tap, one a replica    port: "block.port"    directory, about: of the recording
    """

    def __init__(self, endpoints: Sequence[str], port: str, directory: Path, about: Mapping[str, Any]) -> None:
        self.endpoints, self.port = list(endpoints), port
        self.writer = Writer(directory, port, about=about)
        self.heard = time.monotonic()
        self.over = False
        self._held: list[tuple[int, int, Frame | Gap]] = []
        self._eos: Eos | None = None
        self._ended = 0.0
        self._described = False
        self._open = ExitStack()
        self.socket = self._open.enter_context(subscribe(self.endpoints, port, HIGH_WATER))

    @property
    def slots(self) -> int:
        """Slots that are written, gaps among them."""
        return sum(self.writer.account[key] for key in ("slots", "missing"))

    def take(self, message: Message) -> None:
        """Take what was heard; nothing is written before the stream has been described."""
        if isinstance(message, Describe):
            if self._described:
                self._release(all_=True)
            self.writer.write(message)
            self._described = True
        elif isinstance(message, Frame | Gap) and self._described:
            heapq.heappush(self._held, (message.first, message.end, message))
            self._release(all_=len(self.endpoints) == 1)
        elif isinstance(message, Eos) and self._described:
            self._eos, self._ended = message, time.monotonic()
        self._finish()

    def _release(self, all_: bool) -> None:
        """Write what is due, and what is not where it must not or need not be waited for."""
        while self._held and (all_ or len(self._held) > AHEAD or self._held[0][0] <= self.writer.due):
            first, _, message = heapq.heappop(self._held)
            if first < self.writer.due:
                continue  # taps show slots again after a restart
            begun = self.slots > 0
            if begun and first > self.writer.due:
                self.writer.write(Gap(self.writer.due, first - self.writer.due, UNHEARD))
            self.writer.write(message)

    def _finish(self) -> None:
        eos = self._eos
        if eos is None or self.over:
            return
        if self.writer.due >= eos.first or time.monotonic() - self._ended > LATE or len(self.endpoints) == 1:
            self._release(all_=True)
            if self.slots and self.writer.due < eos.first:
                self.writer.write(Gap(self.writer.due, eos.first - self.writer.due, UNHEARD))
            self.writer.write(eos)
            self.over = True

    def hear(self, most: int | None) -> None:
        """Take all that has come.

        most: stop at so many slots
        """
        for _ in range(HIGH_WATER):  # the other taps want their turn
            if self.over or not self.socket.poll(0):
                break
            self.heard = time.monotonic()
            try:
                message = decode(receive(self.socket))
            except FrameError:
                continue  # the slots of it will be missed, and marked
            self.take(message)
            if most is not None and self.slots >= most:
                self.over = True
        self._finish()

    def close(self) -> None:
        """Write what is held back, and complete the recording."""
        try:
            if self._described:
                self._release(all_=True)
            self.writer.close()
        finally:
            self._open.close()

    def __enter__(self) -> "TappedPort":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def listen(taps: Sequence[TappedPort], most: int | None, silence: float) -> Iterator[int]:
    """Record some taps until each is over; yield every now and then how many slots the furthest has.

    most: so many slots of each    silence: how long a tap may say nothing [s]
    raises PeerLost when one says nothing for longer, StorageError where there is no room
    """
    poller = zmq.Poller()
    for tap in taps:
        poller.register(tap.socket, zmq.POLLIN)
    while not all(tap.over for tap in taps):
        poller.poll(100)
        now = time.monotonic()
        for tap in taps:
            if tap.over:
                continue
            tap.hear(most)
            if now - tap.heard > silence:
                raise PeerLost(f"{tap.port}: nothing came for {silence:g} s; is the run over? what came is kept")
        for tap in taps:
            if tap.over and tap.socket in poller:
                poller.unregister(tap.socket)
        yield max((tap.slots for tap in taps), default=0)
