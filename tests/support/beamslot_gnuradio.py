"""Both ends of a link to GNU Radio for tests: a source of ours at work, and the real GNU Radio as a process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beamslot.bench.gnuradio import PEER, PYTHON, available
from beamslot.frame import Array, Describe, Frame, Gap, StreamInfo
from beamslot.runtime import Block, RunContext
from beamslot.runtime.core import Core

VLEN = 384
"""Samples of an item: 64 columns of 6 chains."""


def needs_gnuradio() -> None:
    """Skip a test where there is no GNU Radio."""
    if not available():
        pytest.skip(f"{PYTHON} cannot import gnuradio (make peers installs it)")


def samples(items: int, vlen: int = VLEN) -> np.ndarray:
    """Return what tools/gnuradio_peer.py sends: sample s of item k is k + s j."""
    return (np.arange(items)[:, None] + 1j * np.arange(vlen)).astype(np.complex64)


def rf_info(users: int = 2, y: int = 64, chain: int = 6, carrier: float = 28e9) -> StreamInfo:
    """Return the description of a stream of pilots behind RF chains."""
    arrays = {"rf": Array.of("slot user y chain", np.complex64, "sqrt(W)")}
    return StreamInfo(arrays, {"user": users, "y": y, "chain": chain}, 1e-3, carrier)


class Server:
    """GNU Radio, loaded once; what is asked of it, it does in processes that it forks."""

    def __init__(self, path: Path) -> None:
        needs_gnuradio()
        self.path = str(path)
        command = [PYTHON, str(PEER), "serve", "--to", self.path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline().startswith("ready")

    def close(self) -> None:
        self.process.communicate(timeout=20)


class Peer:
    """A flowgraph of GNU Radio in a process of its own; it waits for `go` where it is told to."""

    def __init__(self, server: Server, *arguments: object) -> None:
        self.arguments = [*map(str, arguments)]
        self._link = socket.socket(socket.AF_UNIX)
        self._link.settimeout(20)
        self._link.connect(server.path)
        self._said = self._link.makefile("r")
        self._say(json.dumps(self.arguments))
        said = self._said.readline().split()
        assert said[:1] == ["ready"], (said, self._said.read())
        self.pid = int(said[1])

    def _say(self, line: str) -> None:
        self._link.sendall(f"{line}\n".encode())

    def go(self) -> None:
        self._say("")

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    def kept(self) -> tuple[np.ndarray, Any]:
        """Wait until it has kept what it was asked for and has ended well; return the items and the tags."""
        said = self._said.read()
        assert said.endswith("done\n"), said
        with np.load(self.arguments[self.arguments.index("--out") + 1]) as found:
            return found["items"], json.loads(str(found["tags"]))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        while self.alive:
            time.sleep(1e-3)

    def close(self) -> None:
        self.kill()
        self._said.close()
        self._link.close()


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
