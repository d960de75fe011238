"""One measurement of a link to GNU Radio, and of the same link between two processes of GNU Radio's own.

python -m beamslot.bench.gnuradio received '{"items": 20000, "tags": false}'
pair: a GNU Radio flowgraph that sends, one that takes    received: the same that sends, a graph of ours that takes
sent: a graph of ours that sends, the same that takes
echo_pair, echo_ours: one item there and back, through a flowgraph of GNU Radio's, or a process of ours with both blocks

GNU Radio runs from tools/gnuradio_peer.py of a checkout, under the system's Python; without it nothing is measured.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PYTHON = "/usr/bin/python3"
PEER = Path(__file__).parents[3] / "tools" / "gnuradio_peer.py"

VLEN = 384
"""Samples of an item: 3 KiB, what 64 columns of 6 chains give in a slot."""

BURST = 256
"""Slots of a frame of ours."""


@cache
def available() -> bool:
    """Return whether there is a GNU Radio to measure against."""
    if not PEER.exists() or not Path(PYTHON).exists():
        return False
    command = [PYTHON, "-c", "import gnuradio.zeromq"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


@contextlib.contextmanager
def peer(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A flowgraph of GNU Radio, ended with the block."""
    command = [PYTHON, str(PEER), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
    try:
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        process.stdout.readline()
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def _link(tags: bool, endpoint: str) -> tuple[list[object], list[object]]:
    """Return what a flowgraph that sends without end is told, and one that takes."""
    shared: list[object] = ["--vlen", VLEN, *(["--tags"] if tags else [])]
    return ["send", "--to", endpoint, "--count", 1000, "--repeat", *shared], ["drain", "--from", endpoint, *shared]


def pair(endpoint: str, items: int, tags: bool) -> dict[str, float]:
    """GNU Radio to GNU Radio [items/s]."""
    sends, takes = _link(tags, endpoint)
    with peer(*sends), peer(*takes, "--count", items) as taker:
        return _rate(taker)


def _rate(taker: subprocess.Popen[str]) -> dict[str, float]:
    assert taker.stdout is not None  # noqa: S101  (it is a pipe)
    return json.loads(taker.stdout.readline())


def received(endpoint: str, items: int, tags: bool) -> dict[str, float]:
    """GNU Radio to a graph of ours [items/s]."""
    parameters = {"connect": endpoint, "axes": {"sample": VLEN}, "vlen": VLEN, "tags": tags}
    parameters |= {"slots_by": "tag"} if tags else {}
    with peer(*_link(tags, endpoint)[0]):
        return {"rate": _run({"radio": ("source", parameters), "sink": ("null", {})}, items)["sinks"]["sink"]["rate"]}


def sent(endpoint: str, items: int, tags: bool) -> dict[str, float]:
    """A graph of ours to GNU Radio [items/s]."""
    prepared = {"sizes": {"data": 8 * VLEN}, "burst": BURST}
    with peer(*_link(tags, endpoint)[1], "--count", items) as taker:
        blocks = {"front": ("prepared", prepared), "radio": ("sink", {"bind": endpoint, "vlen": VLEN, "tags": tags})}
        _run(blocks, items)
        return _rate(taker)


def _run(blocks: dict[str, tuple[str, dict[str, Any]]], slots: int, burst: int = BURST) -> Any:
    """Run two blocks in a process, one feeding the other, as those of a flowgraph of GNU Radio; return the report."""
    from beamslot.bench.blocks import NullSink, PreparedSource
    from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph
    from beamslot.runtime.launch import launch
    from beamslot.sinks.gnuradio_sink import GnuradioSink
    from beamslot.sources.gnuradio_source import GnuradioSource

    kinds = {"source": GnuradioSource, "sink": GnuradioSink, "null": NullSink, "prepared": PreparedSource}
    specs = {
        name: BlockSpec(name, kinds[kind], parameters, process="both") for name, (kind, parameters) in blocks.items()
    }
    first, last = specs.values()
    edge = EdgeSpec(first.name, next(iter(first.kind.outputs)), last.name, "stream")
    graph = Graph(name="bench", blocks=specs, edges=(edge,), slots=slots, slot_period=1e-3, burst=burst)
    with tempfile.TemporaryDirectory() as logs:
        report = launch(graph, logs=Path(logs))
    if not report["ok"]:
        raise SystemExit(f"the run failed: {report['problems']}")
    return report


def echo_pair(endpoint: str, items: int) -> dict[str, float]:
    """One item a message, there and back through GNU Radio: the median [us]."""
    with peer("loop", "--from", endpoint, "--to", f"{endpoint}.back", "--vlen", VLEN):
        return _echo(endpoint, items)


def echo_ours(endpoint: str, items: int) -> dict[str, float]:
    """One item a message, there and back through a process of ours: the median [us]."""
    child = os.fork()
    if child == 0:
        source = {"connect": endpoint, "axes": {"sample": VLEN}, "vlen": VLEN}
        sink = {"bind": f"{endpoint}.back", "vlen": VLEN}
        _run({"radio": ("source", source), "back": ("sink", sink)}, items, burst=1)
        os._exit(0)
    try:
        return _echo(endpoint, items)
    finally:
        os.waitpid(child, 0)


def _echo(endpoint: str, items: int) -> dict[str, float]:
    import numpy as np
    import zmq

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    there, back = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    there.bind(endpoint)
    back.connect(f"{endpoint}.back")
    item = np.ones(VLEN, np.complex64).tobytes()
    took: list[int] = []
    for _ in range(items):
        begun = time.monotonic_ns()
        there.send(item)
        back.recv()
        took.append(time.monotonic_ns() - begun)
        time.sleep(1e-3)  # a slot's time: what is measured is an answer, not a queue
    for socket in (there, back):
        socket.close(0)
    context.term()
    return {"p50_us": statistics.median(took[items // 10 :]) / 1e3}


def main(argv: list[str]) -> None:
    """Print one measurement as JSON; nothing of it where there is no GNU Radio."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    takers = {"pair": pair, "received": received, "sent": sent, "echo_pair": echo_pair, "echo_ours": echo_ours}
    with tempfile.TemporaryDirectory() as folder:
        found = takers[argv[0]](f"ipc://{folder}/link", **json.loads(argv[1])) if available() else {}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
