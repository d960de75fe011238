"""More blocks for tests of the runtime: filters, sliding windows, judges of many, and special ways to fail."""

import time
from typing import Any

import numpy as np
from pydantic import Field

from beamslot.errors import ShapeError
from beamslot.frame import Array, Frame, StreamInfo
from beamslot.runtime import Block, End, In, Out

INDEX = Array.of("slot", np.int64)
NUMBERS: dict[str, Any] = {"words": Array.of("slot sample", np.int64), "crc": INDEX, "index": INDEX}


class Filter(Block):
    """Lets every n-th slot pass."""

    numbers = In(**NUMBERS)
    out = Out(**NUMBERS)

    every: int = Field(2, ge=1)

    def process(self, numbers: dict[str, Any], slots: range) -> Any:
        return dict(numbers) if slots.start % self.every == 0 else None


class Slide(Block):
    """Hands on the newest slots of a sliding window."""

    numbers = In(**NUMBERS, window="size", hop="step")
    out = Out(**NUMBERS)

    size: int = Field(4, ge=1)
    step: int = Field(1, ge=1)

    def process(self, numbers: dict[str, Any]) -> Any:
        assert len(numbers["index"]) == self.size
        return {name: array[-self.step :] for name, array in numbers.items()}


class Judge(Block):
    """Joins each of many streams with the truth."""

    truth = In(index=INDEX)
    estimate = In(index=INDEX, many=True)

    def start(self) -> None:
        self._seen: dict[str, int] = {}
        self._bad = 0

    def process(self, truth: dict[str, Any], estimate: dict[str, Any], source: str) -> None:
        self._bad += int((truth["index"] != estimate["index"]).sum())
        self._seen[source] = self._seen.get(source, 0) + len(truth["index"])

    def results(self) -> dict[str, Any]:
        return {**self._seen, "bad": self._bad}


class Ending(Block):
    """A source that ends by itself."""

    numbers = Out(**NUMBERS)

    most: int = Field(10, ge=0)

    def start(self) -> StreamInfo:
        return StreamInfo(self.outputs["numbers"].arrays, {"sample": 1}, self.run.slot_period)

    def process(self, slots: range) -> Any:
        kept = np.array(slots)[: max(0, self.most - slots.start)]
        made = {"words": kept[:, None], "crc": kept, "index": kept}
        return made if len(kept) == len(slots) else End(made)


class Picky(Block):
    """Refuses in start what comes, or takes its time for it."""

    numbers = In(**NUMBERS)

    refuse: bool = Field(True)
    seconds: float = Field(0.0)

    def start(self, numbers: StreamInfo) -> None:
        time.sleep(self.seconds)
        if self.refuse:
            raise ShapeError(f"there are {numbers.axes['sample']} samples; wanted 3")

    def process(self, numbers: dict[str, Any]) -> None: ...


class Full(Block):
    """A sink whose disk is full."""

    numbers = In(**NUMBERS)

    when: str = Field("process")

    def start(self) -> None:
        self._file = open("/dev/full", "wb", buffering=0 if self.when == "process" else 1 << 20)  # noqa: SIM115

    def process(self, numbers: dict[str, Any]) -> None:
        self._file.write(numbers["words"].tobytes())

    def stop(self) -> None:
        self._file.close()


class Late(Block):
    """A source that takes longer than it has for some slots."""

    numbers = Out(index=INDEX)

    slow_at: int = Field(-1)
    seconds: float = Field(0.0)

    def start(self) -> StreamInfo:
        return StreamInfo(self.outputs["numbers"].arrays, {}, self.run.slot_period)

    def process(self, slots: range) -> Any:
        if self.slow_at in slots:
            time.sleep(self.seconds)
        return {"index": np.array(slots, np.int64)}


class Stamps(Block):
    """Keeps when each slot came, on the monotonic clock [s]."""

    numbers = In(index=INDEX)

    def start(self) -> None:
        self._times: list[float] = []

    def process(self, numbers: dict[str, Any]) -> None:
        self._times += [time.monotonic()] * len(numbers["index"])

    def results(self) -> dict[str, Any]:
        return {"times": self._times}


class Cut(Block):
    """Ends its stream after some slots."""

    numbers = In(**NUMBERS)
    out = Out(**NUMBERS)

    slots: int = Field(10, ge=1)

    def process(self, numbers: dict[str, Any], slots: range) -> Any:
        left = max(0, self.slots - slots.start)
        kept = {name: array[:left] for name, array in numbers.items()}
        return kept if left > len(slots) else End(kept)


class Garbling(Block):
    """A source that damages one of its messages."""

    numbers = Out(**NUMBERS)

    at: int = Field(7)

    def start(self) -> StreamInfo:
        from beamslot.runtime import transport  # in the process of the block alone: it loads ZeroMQ

        whole = transport.__dict__["encode"]

        def encode(message: Any, topic: bytes = b"\0") -> Any:
            damaged = isinstance(message, Frame) and message.first == self.at
            return [topic, b"garbage"] if damaged else whole(message, topic)

        transport.__dict__["encode"] = encode
        return StreamInfo(self.outputs["numbers"].arrays, {"sample": 1}, self.run.slot_period)

    def process(self, slots: range) -> Any:
        index = np.array(slots)
        return {"words": index[:, None], "crc": index, "index": index}
