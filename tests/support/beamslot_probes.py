"""Small blocks for tests of the runtime: a counting source with checksums, holds, checks, and blocks that misbehave."""

import os
import time
import zlib
from typing import Any

import numpy as np
from pydantic import Field

from beamslot.frame import Array, StreamInfo
from beamslot.runtime import Block, End, In, Out


def payload(slot: int, words: int) -> np.ndarray:
    """Return the payload of a slot: its index, and words that only it has."""
    return np.arange(words, dtype=np.int64) * 7919 + slot


def checksum(rows: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(row.tobytes()) for row in rows], np.int64)


class CountingSource(Block):
    """Slots with a payload that can be checked, and its checksum."""

    numbers = Out(
        words=Array.of("slot sample", np.int64), crc=Array.of("slot", np.int64), index=Array.of("slot", np.int64)
    )

    words: int = Field(8, ge=1)
    fail_at: int = Field(-1)

    def start(self) -> StreamInfo:
        return StreamInfo(self.outputs["numbers"].arrays, {"sample": self.words}, self.run.slot_period)

    def process(self, slots: range) -> dict[str, Any]:
        if self.fail_at in slots:
            raise RuntimeError("the source gives up")
        rows = np.stack([payload(slot, self.words) for slot in slots])
        return {"words": rows, "crc": checksum(rows), "index": np.array(slots, np.int64)}


class Relay(Block):
    """Passes numbers on; may work for a while, hold slots, fail, hang or die."""

    numbers = In(
        words=Array.of("slot sample", np.int64),
        crc=Array.of("slot", np.int64),
        index=Array.of("slot", np.int64),
        window="hold",
    )
    out = Out(words=Array.of("slot sample", np.int64), crc=Array.of("slot", np.int64), index=Array.of("slot", np.int64))

    hold: int = Field(0, ge=0)
    work: float = Field(0.0, ge=0)
    fail_at: int = Field(-1)
    hang_at: int = Field(-1)
    die_at: int = Field(-1)

    def process(self, numbers: dict[str, Any], slots: range) -> dict[str, Any]:
        if self.work:
            time.sleep(self.work)
        if self.fail_at in slots:
            raise RuntimeError("the relay gives up")
        if self.hang_at in slots:
            time.sleep(1000)
        if self.die_at in slots:
            os._exit(9)
        return dict(numbers)


class CheckSink(Block):
    """Checks that every slot comes once, in order, unharmed."""

    numbers = In(
        words=Array.of("slot sample", np.int64), crc=Array.of("slot", np.int64), index=Array.of("slot", np.int64)
    )

    work: float = Field(0.0, ge=0)

    def start(self) -> None:
        self._next = self._bad = self._seen = self._missed = 0

    def process(self, numbers: dict[str, Any], slots: range) -> None:
        if self.work:
            time.sleep(self.work)
        index = numbers["index"]
        expected = np.array(slots, np.int64)
        self._bad += int((index != expected).sum()) + int((checksum(numbers["words"]) != numbers["crc"]).sum())
        self._bad += int(slots.start < self._next)
        self._next = slots.stop
        self._seen += len(slots)

    def missed(self, slots: range, reason: str) -> None:
        self._missed += len(slots)

    def snapshot(self) -> list[int]:
        return [self._next, self._bad, self._seen, self._missed]

    def restore(self, state: list[int]) -> None:
        self._next, self._bad, self._seen, self._missed = state

    def results(self) -> dict[str, Any]:
        return {"seen": self._seen, "bad": self._bad, "missed": self._missed}


class PairSink(Block):
    """Joins two streams and checks that they are the same slots."""

    left = In(index=Array.of("slot", np.int64))
    right = In(index=Array.of("slot", np.int64))

    def start(self) -> None:
        self._bad = self._seen = self._missed = 0

    def process(self, left: dict[str, Any], right: dict[str, Any], slots: range) -> None:
        expected = np.array(slots, np.int64)
        self._bad += int((left["index"] != expected).sum() + (right["index"] != expected).sum())
        self._seen += len(slots)

    def missed(self, slots: range, reason: str) -> None:
        self._missed += len(slots)

    def snapshot(self) -> list[int]:
        return [self._bad, self._seen, self._missed]

    def restore(self, state: list[int]) -> None:
        self._bad, self._seen, self._missed = state

    def results(self) -> dict[str, Any]:
        return {"seen": self._seen, "bad": self._bad, "missed": self._missed}


class FirstSlots(Block):
    """Ends the stream after some slots."""

    numbers = In(index=Array.of("slot", np.int64))
    out = Out(index=Array.of("slot", np.int64))

    slots: int = Field(10, ge=1)

    def process(self, numbers: dict[str, Any], slots: range) -> Any:
        left = max(0, self.slots - slots.start)
        kept = {"index": numbers["index"][:left]}
        return End(kept) if left <= len(slots) else kept
