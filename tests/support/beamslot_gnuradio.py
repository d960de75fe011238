"""Both ends of a link to GNU Radio for tests: a source of ours at work, and the real GNU Radio as a process."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beamslot.frame import Array, Describe, Frame, Gap, StreamInfo
from beamslot.runtime import Block, RunContext
from beamslot.runtime.core import Core

PYTHON = "/usr/bin/python3"
PEER = Path(__file__).parents[2] / "tools" / "gnuradio_peer.py"

VLEN = 384
"""Samples of an item: 64 columns of 6 chains."""


@cache
def _has_gnuradio() -> bool:
    if shutil.which(PYTHON) is None:
        return False
    code = "import gnuradio.zeromq, pmt"
    return subprocess.run([PYTHON, "-c", code], capture_output=True, check=False, timeout=60).returncode == 0


def needs_gnuradio() -> None:
    """Skip a test where there is no GNU Radio."""
    if not _has_gnuradio():
        pytest.skip(f"{PYTHON} cannot import gnuradio (make peers installs it)")


def samples(items: int, vlen: int = VLEN) -> np.ndarray:
    """Return what tools/gnuradio_peer.py sends: sample s of item k is k + s j."""
    return (np.arange(items)[:, None] + 1j * np.arange(vlen)).astype(np.complex64)


def rf_info(users: int = 2, y: int = 64, chain: int = 6, carrier: float = 28e9) -> StreamInfo:
    """Return the description of a stream of pilots behind RF chains."""
    arrays = {"rf": Array.of("slot user y chain", np.complex64, "sqrt(W)")}
    return StreamInfo(arrays, {"user": users, "y": y, "chain": chain}, 1e-3, carrier)


class Peer:
    """A flowgraph of GNU Radio in a process of its own; it waits for `go` where it is told to."""

    def __init__(self, *arguments: object) -> None:
        command = [PYTHON, str(PEER), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        said = self.process.stdout.readline()
        assert said == "ready\n", (said, self.process.communicate()[1])

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kept(self, seconds: float = 20.0) -> tuple[np.ndarray, Any]:
        """Wait until it has kept what it was asked for; return the items and the tags."""
        self.process.wait(seconds)
        with np.load(self.process.args[self.process.args.index("--out") + 1]) as found:
            return found["items"], json.loads(str(found["tags"]))

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.alive:
            self.process.send_signal(number)
        self.process.communicate(timeout=20)


class Hearing:
    """A source of ours at work, as its process works it: what it has given so far, and what it told people."""

    def __init__(self, block: Block, slot_period: float = 1e-3, begin: int = 0) -> None:
        self.told: list[str] = []
        block.join_run(RunContext("radio", 0, slot_period, self.told.append))
        self.block, self.core, self.next = block, Core(block, []), begin
        self.items: list[Any] = [item for _, item in self.core.start()]

    def turn(self, slots: int = 64) -> None:
        step = self.core.make(range(self.next, self.next + slots), 0)
        self.next = step.slots.stop if step.slots is not None else self.next
        self.items += [item for _, item in step.items]

    def until(self, condition: Callable[[], Any], seconds: float = 15.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.next, self.told)
            self.turn()

    def reach(self, slot: int, seconds: float = 15.0) -> "Hearing":
        self.until(lambda: self.next >= slot, seconds)
        return self

    @property
    def joined(self) -> int:
        return self.block._ear.joined

    @property
    def frames(self) -> list[Frame]:
        return [item for item in self.items if isinstance(item, Frame)]

    @property
    def gaps(self) -> list[tuple[int, int, str]]:
        return [(item.first, item.count, item.reason) for item in self.items if isinstance(item, Gap)]

    @property
    def infos(self) -> list[StreamInfo]:
        return [item.info for item in self.items if isinstance(item, Describe)]

    def array(self, name: str = "rf") -> np.ndarray:
        return np.concatenate([frame.arrays[name] for frame in self.frames])

    def slots(self) -> list[int]:
        return [slot for frame in self.frames for slot in range(frame.first, frame.end)]

    def close(self) -> None:
        self.block.stop()
