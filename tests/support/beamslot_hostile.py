"""Hostile input: messages of strangers, forged and broken, and bytes that are no message at all. All of it seeded."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from beamslot_probes import CountingSource
from pydantic import Field

from beamslot.frame import (
    Acknowledge,
    Array,
    Credit,
    Describe,
    Done,
    Eos,
    Frame,
    Gap,
    Heartbeat,
    Hello,
    StreamInfo,
    encode,
)
from beamslot.runtime import End

Parts = list[bytes]

_pack: Any = msgpack.packb

PART = 64 * 1024
"""The largest part that a producer takes; one with more ends the connection that it came over."""

MOST_PARTS = 2000
INTEGERS = [-(2**63), -1, 0, 1, 2**31, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
VALUES: list[Any] = [*INTEGERS, None, True, 1.0, float("nan"), "", "x" * 2000, b"raw", [], {}, [[]], {"a": {"b": [1]}}]
INFO = StreamInfo({"x": Array.of("slot y", np.float32)}, {"y": 4})


class Lasting(CountingSource):
    """A counting source that goes on until a file is there."""

    until: str = Field()

    def process(self, slots: range) -> Any:
        made = super().process(slots)
        return End(made) if Path(self.until).exists() else made


def forged(rng: random.Random, edge: str) -> Parts:
    """Return a whole message of any kind, as one who knows the edge but not the token would write it."""
    end = rng.choice([1, 10, 10_000, 2**40])
    message = rng.choice(
        [
            Hello(rng.randbytes(16).hex(), edge, 0, rng.randrange(3), [(0, end)], 2**40, 2**50),
            Hello("", edge, 0, 0, [], 1, 1),
            Credit(rng.choice([1, 2**62]), rng.choice([1, 2**62])),
            Acknowledge([(0, end)], eos=True),
            Heartbeat([(0, end)], eos=rng.random() < 0.5),
            Done([(0, end)]),
            Frame(end, 1, {"x": np.zeros((1, 4), np.float32)}),
            Describe("src.numbers", INFO),
            Gap(end, 5, "forged"),
            Eos(end),
        ]
    )
    return [bytes(part) for part in encode(message)]


def with_ranges(rng: random.Random) -> Parts:
    """Return an acknowledgement with many ranges, in some cases more than a message may have."""
    count = rng.choice([2, 50, 1000, 5000])
    ranges = [[3 * n, 3 * n + rng.choice([1, 3, 4, 2**62, -1])] for n in range(count)]
    return [b"\0", _pack({"beamslot": 1, "kind": "acknowledge", "finished": ranges, "eos": True})[:PART]]


def with_odd_field(rng: random.Random, edge: str) -> Parts:
    """Return a message with a value that a field may not have, another version among them."""
    parts = forged(rng, edge)
    header = msgpack.unpackb(parts[1])
    header[rng.choice(list(header))] = rng.choice(VALUES)
    return [parts[0], _pack(header), *parts[2:]]


def broken(rng: random.Random, edge: str) -> Parts:
    """Return a message of which bits, bytes or parts are changed, lost, doubled or swapped."""
    parts = forged(rng, edge)
    index = rng.randrange(len(parts))
    part = parts[index]
    at = rng.randrange(len(part))
    harm = rng.randrange(6)
    if harm == 0:
        parts[index] = part[:at] + bytes([part[at] ^ 1 << rng.randrange(8)]) + part[at + 1 :]
    elif harm == 1:
        parts[index] = part[:at]
    elif harm == 2:
        parts[index] = part + rng.randbytes(rng.randrange(1, 100))
    elif harm == 3:
        parts.insert(index, part)
    elif harm == 4:
        parts.reverse()
    else:
        del parts[index]
    return parts


def noise(rng: random.Random) -> Parts:
    """Return a few random or empty parts."""
    return [rng.randbytes(rng.choice([0, 1, 2, 8, 64, 300])) for _ in range(rng.randint(1, 6))]


def excessive(rng: random.Random) -> Parts:
    """Return a message with very many parts, very large ones, or one that nests very deep."""
    kind = rng.randrange(4)
    if kind == 0:
        return [b"\0", *[b""] * rng.randrange(60, MOST_PARTS)]
    if kind == 1:
        return [b"\0", rng.randbytes(PART), rng.randbytes(PART)]
    if kind == 2:
        return [b"\0", rng.choice([b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff", b"\xdc\x10\x00"]) * (PART // 8)]
    return with_ranges(rng)


def messages(seed: int, edge: str) -> Iterator[Parts]:
    """Yield messages of strangers without end; no part is over the limit, so each of them arrives.

    edge: "block.port > block.port"
    """
    rng = random.Random(seed)
    while True:
        draw = rng.random()
        if draw < 0.3:
            yield forged(rng, edge)
        elif draw < 0.6:
            yield broken(rng, edge)
        elif draw < 0.8:
            yield with_odd_field(rng, edge)
        elif draw < 0.995:
            yield noise(rng) or [b""]
        else:
            yield excessive(rng)


def identity(rng: random.Random, edge: str, epoch: int) -> bytes:
    """Return the name that a stranger gives itself: random, or like that of a consumer."""
    return rng.choice([b"\xff" + rng.randbytes(254), f"{edge}#{epoch}#{rng.randbytes(4).hex()}".encode()])


def subscription(rng: random.Random) -> bytes:
    """Return what a stranger may say to a tap: subscriptions, ends of those never made, and things that are neither."""
    first = rng.choice([b"\x01", b"\x01", b"\x00", b"\x02", b""])
    topic = rng.choice([b"src.numbers", b"src.numbers\0", b"relay.", b"", rng.randbytes(rng.choice([1, 4, 16, 100]))])
    return first + topic


# the bytes of ZMTP 3: a greeting, then the command that says what kind of socket this is
SIGNATURE = b"\xff\0\0\0\0\0\0\0\x01\x7f"
GREETING = SIGNATURE + b"\x03\x01NULL" + bytes(48)
LONG, COMMAND = 2, 4


def ready(kind: bytes) -> bytes:
    """Return the READY command of a socket type."""
    body = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return bytes([COMMAND, len(body)]) + body


def stream(rng: random.Random) -> bytes:
    """Return bytes for a socket that wants ZMTP: no greeting, half of one, another, or one with nonsense behind it."""
    kind = rng.choice([b"DEALER", b"SUB", b"XSUB", b"REQ", b"PULL", b"ROUTER", b"", b"?" * 200])
    return rng.choice(
        [
            b"",
            rng.randbytes(rng.randrange(1, 200)),
            b"GET / HTTP/1.1\r\n\r\n",
            GREETING[: rng.randrange(len(GREETING))],
            SIGNATURE + rng.randbytes(54),
            GREETING.replace(b"NULL", rng.choice([b"PLAI", b"CURV", b"\0\0\0\0"])) + ready(kind),
            SIGNATURE + b"\x01" + rng.randbytes(40),
            GREETING + rng.randbytes(rng.randrange(1, 300)),
            GREETING + ready(kind) * 3,
        ]
    )


def behind(rng: random.Random) -> bytes:
    """Return bytes for a peer that is through with the handshake: frames that claim much, odd commands, noise."""
    huge = rng.choice([2**16 + 1, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1]).to_bytes(8, "big")
    return rng.choice(
        [
            rng.randbytes(rng.randrange(1, 300)),
            bytes([LONG]) + huge + b"x" * 100,
            bytes([LONG | COMMAND]) + huge + b"\x04PING",
            b"\x04\x07\x04PING\0\0" + b"\x04\x0b\x09SUBSCRIBEa" + b"\x04\x08\x06CANCELb",
            b"\x01\x01x" * 50,  # parts of a message that never ends
            ready(b"DEALER") + b"\x04\x06\x05ERROR",
        ]
    )
