"""Two network namespaces joined by one link that can be taken down: two machines, as far as the network can tell."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import zmq

from beamslot.runtime.keys import Keys
from beamslot.runtime.secure import Gate, Watch, connect, tune

Side = Literal["left", "right"]

_numbers = itertools.count()


class Pair:
    """The two namespaces, `left` and `right`, and the link between them.

    addresses: IPv4, by side
    """

    def __init__(self) -> None:
        tag = f"{os.getpid()}-{next(_numbers)}"
        self.spaces: dict[Side, str] = {"left": f"bsl{tag}", "right": f"bsr{tag}"}
        self.addresses: dict[Side, str] = {"left": "10.83.7.1", "right": "10.83.7.2"}

    def make(self) -> None:
        """Make both namespaces and the link, and take it up."""
        left, right = self.spaces.values()
        for space in (left, right):
            ip("netns", "add", space)
        ip("-n", left, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", right)
        for side, space in self.spaces.items():
            ip("-n", space, "address", "add", f"{self.addresses[side]}/24", "dev", "wire")
            for device in ("lo", "wire"):
                ip("-n", space, "link", "set", device, "up")

    def remove(self) -> None:
        """Remove what was made; the link goes with its namespaces."""
        for space in self.spaces.values():
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)

    def command(self, side: Side, *words: str) -> list[str]:
        """Return the command line that runs a command on one side."""
        return ["ip", "netns", "exec", self.spaces[side], *words]

    def start(self, side: Side, *words: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a command on one side; options are those of Popen."""
        return subprocess.Popen(self.command(side, *words), text=True, **options)

    def python(self, side: Side, code: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start Python on one side, with the modules of this folder at hand; its output is a pipe."""
        path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        return self.start(side, sys.executable, "-c", code, *arguments, env=path, stdout=subprocess.PIPE)

    def down(self, side: Side = "left") -> None:
        """Take the link down at one end; the other sees it lose its carrier."""
        ip("-n", self.spaces[side], "link", "set", "wire", "down")

    def up(self, side: Side = "left") -> None:
        """Take the link up again."""
        ip("-n", self.spaces[side], "link", "set", "wire", "up")


def ip(*words: str) -> None:
    """Run one `ip` command.

    raises PermissionError where this user may not, OSError with what it says otherwise
    """
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        kind = PermissionError if "permitted" in done.stderr or "denied" in done.stderr else OSError
        raise kind(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def linked() -> Iterator[Pair]:
    """Give two namespaces with a link that is up; skip the test where this user may not make them."""
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces here: there is no command ip")
    pair = Pair()
    try:
        try:
            pair.make()
        except PermissionError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield pair
    finally:
        pair.remove()


def reap(processes: Sequence["subprocess.Popen[str]"]) -> None:
    """Kill processes and wait for them."""
    for process in processes:
        process.kill()
        process.communicate()


def pour(endpoint: str, keys: Sequence[str]) -> None:
    """Bind and send numbers without end to whoever said hello last; a lost one is not sent again.

    keys: our public and secret key, and the public one of the peer
    """
    context: Any = zmq.Context()
    socket, gate = context.socket(zmq.ROUTER), Gate(context)
    tune(socket, endpoint)
    gate.serve(socket, Keys(keys[0].encode(), keys[1].encode()), [keys[2].encode()], "tap")
    socket.bind(endpoint)
    poller = zmq.Poller()
    for each in (socket, gate.socket):
        poller.register(each, zmq.POLLIN)
    peer = b""
    for number in itertools.count():
        ready = dict(poller.poll(1))
        gate.poll()
        if socket in ready:
            peer = socket.recv_multipart()[0]
        if peer:
            socket.send_multipart([peer, number.to_bytes(8, "little"), bytes(3072)])


def drink(endpoint: str, keys: Sequence[str]) -> None:
    """Connect, say hello whenever joined, and print when something came after nothing had for 0.3 s [monotonic s]."""
    context: Any = zmq.Context()
    socket = context.socket(zmq.DEALER)
    tune(socket, endpoint)
    connect(socket, Keys(keys[0].encode(), keys[1].encode()), keys[2].encode(), "mouth")
    watch = Watch(context, socket, "mouth", endpoint, "connect")
    socket.connect(endpoint)
    poller, heard = zmq.Poller(), 0.0
    for each in (socket, watch.socket):
        poller.register(each, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if any(event.kind == "joined" for event in watch.poll()):
            socket.send(b"hello")
        if socket in ready:
            socket.recv_multipart()
            now = time.monotonic()
            if now - heard > 0.3:
                print(now, flush=True)
            heard = now
