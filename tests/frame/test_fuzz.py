"""Twenty thousand broken messages: nothing but a message or a FrameError comes out, in bounded time and memory."""

import random
import time
import tracemalloc
from collections import Counter

import msgpack
import numpy as np
import pytest

from beamslot.errors import FrameError
from beamslot.frame import (
    Acknowledge,
    Array,
    Credit,
    Describe,
    Done,
    Eos,
    Frame,
    Gap,
    Geometry,
    Heartbeat,
    Hello,
    Operator,
    StreamInfo,
    decode,
    encode,
)

MUTATIONS = 20_000
OPERATOR = Operator(np.ones((2, 2, 3), np.complex64), np.array([0, -1], np.int16), (-0.5, 0.0))
ARRAYS = {"rf": Array.of("slot y chain", np.complex64), "angle": Array.of("path", np.float64, "rad")}
INFO = StreamInfo(ARRAYS, {"y": 2, "chain": 2, "path": 3}, 1e-3, 28e9, Geometry(2, 6), OPERATOR, {"seed": 3})
VALID = [
    [bytes(part) for part in encode(message, topic)]
    for topic in (b"\0", b"front.rf\0")
    for message in (
        Frame(7, 2, {"rf": np.ones((2, 2, 2), np.complex64), "mask": np.ones(3, bool)}, 1, 2, 3, 4, OPERATOR.hash),
        Frame(0, 1, {"angle": np.zeros((0, 3)), "n": np.array(3, np.uint8)}, tags={"a": [1, {"b": None}]}, deadline=9),
        Describe("front.rf", INFO),
        Describe("sink.out", INFO.replace(geometry=None, operator=None)),
        Gap(3, 2, "dropped"),
        Eos(9, False, "stopped"),
        Hello("token", "a.b > c.d", 0, 1, [(0, 3), (5, 9)], 8, 4096),
        Credit(4, 1024),
        Acknowledge([(0, 3), (7, 2**40)], True),
        Heartbeat(),
        Done([(1, 2)]),
    )
]
EDGES = [0, 1, -1, 2**31, 2**62, 2**63, 2**64 - 1, -(2**63), 0.0, 1.0, -0.0, 1e308, float("nan"), float("inf")]
TEXTS = ["", "rf", "slot", "y", "|O", "<c8", "<U4", "(1,2", "data", "beamslot", "a" * 1025, "\0", "é"]


def random_value(rng, depth=0):
    """Return any value that msgpack can carry."""
    draw = rng.randrange(12 if depth < 4 else 8)
    if draw < 3:
        return rng.choice(EDGES)
    if draw < 5:
        return rng.choice(TEXTS)
    if draw < 8:
        return rng.choice(
            [None, True, False, b"", b"bytes", msgpack.ExtType(rng.randrange(128), b"x" * rng.randrange(3))]
        )
    if draw < 10:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = [*TEXTS, 1, None, b"key"]
    return {rng.choice(keys): random_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def flip(rng, parts):
    index = rng.randrange(len(parts))
    data = bytearray(parts[index])
    for _ in range(rng.randint(1, 8) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    parts[index] = bytes(data)


def truncate(rng, parts):
    index = rng.randrange(len(parts))
    parts[index] = parts[index][: rng.randrange(len(parts[index]) + 1)]


def splice(rng, parts):
    index, other = rng.randrange(len(parts)), rng.choice(rng.choice(VALID))
    cut = rng.randrange(len(parts[index]) + 1)
    parts[index] = parts[index][:cut] + other[rng.randrange(len(other) + 1) :]


def rearrange(rng, parts):
    index = rng.randrange(len(parts))
    parts[index : index + rng.randrange(2)] = [rng.choice(rng.choice(VALID))] * rng.randrange(3)


def replace_field(rng, parts):
    """Put any value in the place of a field, however deep, or take the field away."""
    header = place = msgpack.unpackb(parts[1])
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not (isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8):
            break
        place = place[key]
    if rng.random() < 0.1:
        del place[key]
    else:
        place[key] = random_value(rng)
    parts[1] = msgpack.packb(header)


def replace_header(rng, parts):
    parts[1] = msgpack.packb(random_value(rng))


def replace_bytes(rng, parts):
    parts[rng.randrange(len(parts))] = rng.randbytes(rng.randrange(64))


HARM = [flip, truncate, splice, rearrange, replace_field, replace_field, replace_field, replace_header, replace_bytes]


def broken(rng):
    parts = list(rng.choice(VALID))
    harm = rng.choice(HARM)
    harm(rng, parts)
    return harm.__name__, parts


def outcome(parts):
    try:
        return decode(parts)
    except FrameError as error:
        return error


def test_a_broken_message_gives_a_message_or_a_frame_error_and_nothing_else():
    rng, seen, slowest = random.Random(20260), Counter(), 0.0
    for _ in range(MUTATIONS):
        harm, parts = broken(rng)
        began = time.thread_time()
        found = outcome(parts)
        slowest = max(slowest, time.thread_time() - began)
        seen[harm, isinstance(found, FrameError)] += 1
        if isinstance(found, FrameError):
            assert 0 < len(str(found)) < 1500
        else:
            again = [bytes(part) for part in encode(found, parts[0])]
            assert [bytes(part) for part in encode(decode(again), parts[0])] == again
    assert slowest < 1.0
    assert all(seen[harm.__name__, True] > 100 for harm in HARM)
    assert sum(count for (_, refused), count in seen.items() if not refused) > 1000


def test_broken_messages_take_little_memory():
    rng = random.Random(20261)
    messages = [broken(rng)[1] for _ in range(2000)]
    tracemalloc.start()
    for parts in messages:
        outcome(parts)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.reset_peak()
    tracemalloc.stop()


BOMBS = {
    "lists that claim many entries": b"\xdc\x10\x00" * 20_000,
    "lists that claim most entries": b"\xdc\xff\xff" * 20_000,
    "long lists that claim many entries": b"\xdd\x00\x00\x10\x00" * 13_000,
    "lists that claim billions": b"\xdd\xff\xff\xff\xff" * 13_000,
    "maps that claim many entries": b"\x81\xa8beamslot" + b"\xde\x0f\xff\xa1a" * 10_000,
    "maps that claim billions": b"\xdf\xff\xff\xff\xff" * 13_000,
    "a text that claims gigabytes": b"\x81\xdb\xff\xff\xff\xff",
    "bytes that claim gigabytes": b"\xc6\xff\xff\xff\xff",
    "an extension that claims gigabytes": b"\xc9\xff\xff\xff\xff\x01",
    "deep lists": b"\x91" * 65_000,
    "deep maps": b"\x81\xa1a" * 20_000,
    "a deep kind": b"\x82\xa8beamslot\x01\xa4kind" + b"\x91" * 1000 + b"\xc0",
    "a deep version": b"\x81\xa8beamslot" + b"\x91" * 1000 + b"\xc0",
    "deep tags": b"\x83\xa8beamslot\x01\xa4kind\xa4data\xa4tags" + b"\x91" * 1000 + b"\xc0",
    "deep buffers": b"\x83\xa8beamslot\x01\xa4kind\xa4data\xa7buffers" + b"\x91" * 1000 + b"\xc0",
    "deep ranges": b"\x83\xa8beamslot\x01\xa4kind\xa4done\xa8finished" + b"\x91" * 1000 + b"\xc0",
    "a deep shape": VALID[0][1].replace(b"\x93\x02\x02\x02", b"\x91" * 900 + b"\xc0"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_header_that_claims_much_costs_little(bomb):
    assert len(BOMBS[bomb]) <= 65_536
    began = time.thread_time()
    tracemalloc.start()
    found = outcome([b"\0", BOMBS[bomb], *VALID[0][2:]])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, FrameError)
    assert peak < 40_000_000  # at most 1,024 open lists of 4,096 places
    assert time.thread_time() - began < 1.0
