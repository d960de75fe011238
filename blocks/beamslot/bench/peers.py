"""One measurement of a peer that carries the same arrays between two processes.

python -m beamslot.bench.peers pyzmq '{"nbytes": 3072, "frames": 1000}'
pyzmq: PUSH/PULL over ipc as its manual writes it (multipart calls, no copies from 64 KiB on), a msgpack header of the
    same fields packed for each frame, NumPy views on receipt
ezmsg: a publishing and a subscribing Unit, each in a process of its own, as its users write them
"""

import json
import math
import os
import statistics
import sys
import tempfile
import time
from typing import Any

NO_COPY = 64 * 1024


def header(slot: int, captured: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the fields that a frame of ours has."""
    return {
        "beamslot": 1,
        "kind": "data",
        "first": slot,
        "count": 1,
        "epoch": 0,
        "seq": slot + 1,
        "captured": captured,
        "sent": time.monotonic_ns(),
        "operator": None,
        "deadline": None,
        "buffers": [("data", "<c8", shape)],
        "tags": {},
    }


class Pacer:
    """Waits for frames as our slot clock does: sleep until the frame is due."""

    def __init__(self, pace: float) -> None:
        self.period = 1e9 / pace if math.isfinite(pace) else 0.0
        self.origin = time.monotonic_ns()

    def wait(self, frame: int) -> int:
        """Return when the frame was captured [ns]: when it was due, or now."""
        if not self.period:
            return time.monotonic_ns()
        due = self.origin + round((frame + 1) * self.period)
        time.sleep(max(0.0, (due - time.monotonic_ns()) * 1e-9))
        return due


def summary(first: int, last: int, frames: int, latencies: list[int]) -> dict[str, float]:
    """Return the rate between first and last arrival [frames/s] and the median latency [us]."""
    return {"rate": (frames - 1) * 1e9 / max(1, last - first), "p50_us": statistics.median(latencies) / 1e3}


def pyzmq(nbytes: int, frames: int, pace: float = math.inf) -> dict[str, float]:
    """PUSH in a forked process, PULL in this one."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/peer"
        child = os.fork()
        if child == 0:
            _push(endpoint, nbytes, frames, pace)
            os._exit(0)
        got = _pull(endpoint, nbytes, frames)
        os.waitpid(child, 0)
    return got


def _push(endpoint: str, nbytes: int, frames: int, pace: float) -> None:
    import msgpack
    import numpy as np
    import zmq

    socket = zmq.Context().socket(zmq.PUSH)
    socket.connect(endpoint)
    arrays: list[Any] = [np.full((1, nbytes // 8), k, np.complex64) for k in range(8)]
    pacer = Pacer(pace)
    for slot in range(frames):
        array = arrays[slot % 8]
        head: Any = msgpack.packb(header(slot, pacer.wait(slot), array.shape))
        socket.send_multipart([head, array], copy=nbytes < NO_COPY)
    socket.close()
    socket.context.term()


def _pull(endpoint: str, nbytes: int, frames: int) -> dict[str, float]:
    import msgpack
    import numpy as np
    import zmq

    socket = zmq.Context().socket(zmq.PULL)
    socket.bind(endpoint)
    first = now = 0
    latencies: list[int] = []
    head: Any
    data: Any
    for _ in range(frames):
        head, data = socket.recv_multipart(copy=nbytes < NO_COPY)
        fields: Any = msgpack.unpackb(head)
        ((_, dtype, shape),) = fields["buffers"]
        np.frombuffer(data, dtype).reshape(shape)
        now = time.monotonic_ns()
        first = first or now
        latencies.append(now - fields["captured"])
    return summary(first, now, frames, latencies)


def ezmsg(nbytes: int, frames: int, pace: float = math.inf) -> dict[str, float]:
    """Two Units in two processes; nothing where ezmsg is not installed."""
    try:
        from beamslot.bench.ezmsg_units import run
    except ModuleNotFoundError:
        return {}
    return run(nbytes, frames, pace)


def main(argv: list[str]) -> None:
    """Print one measurement as JSON."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps({"pyzmq": pyzmq, "ezmsg": ezmsg}[argv[0]](**json.loads(argv[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
