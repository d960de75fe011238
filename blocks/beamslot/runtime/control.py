"""What supervisor and block processes tell each other, over a socket pair made before the fork.

A message is a 4-byte little-endian length and a msgpack map with the key "kind". The end of the pipe is news too:
the other side is dead.
"""

import select
import socket
import struct
from typing import Any, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]

_LENGTH = struct.Struct("<I")


class Control:
    """One end of the socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.closed = False
        self._buffer = bytearray()

    @classmethod
    def pair(cls) -> tuple["Control", "Control"]:
        """Return the two ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self.socket.fileno()

    @property
    def free(self) -> bool:
        """Whether a message can be sent without waiting for the other side to read."""
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close this end."""
        self.closed = True
        self.socket.close()

    def send(self, kind: str, **fields: Any) -> bool:
        """Send a message; return False when the other side is gone."""
        data = cast(bytes, msgpack.packb({"kind": kind, **fields}))  # pyright: ignore[reportUnknownMemberType]
        try:
            self.socket.sendall(_LENGTH.pack(len(data)) + data)
        except OSError:
            return False  # what the other side said before it went may still be there to be read
        return True

    def receive(self) -> list[dict[str, Any]]:
        """Return what has come, without waiting; `closed` tells whether the other side is gone."""
        while not self.closed:
            try:
                data = self.socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self._buffer += data
        messages: list[dict[str, Any]] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            data = bytes(self._buffer[_LENGTH.size : end])
            messages.append(cast(dict[str, Any], msgpack.unpackb(data)))  # pyright: ignore[reportUnknownMemberType]
            del self._buffer[:end]
        return messages
