"""One measurement of a peer that carries the same arrays between two processes.

python -m beamslot.bench.peers pyzmq '{"nbytes": 3072, "frames": 1000}'
pyzmq: PUSH/PULL over ipc as its manual writes it (multipart calls, no copies from 64 KiB on), a msgpack header of the
    same fields packed for each frame, NumPy views on receipt
ezmsg: a publishing and a subscribing Unit, each in a process of its own, as its users write them
sleeper: a process that only sleeps until frames are due, to know what the machine leaves of a clock
"""

import json
import math
import os
import sys
import tempfile
import time
from typing import Any

from beamslot.bench.frames import Pacer, header, summary

NO_COPY = 64 * 1024


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


def sleeper(frames: int, pace: float, burst: int) -> dict[str, float]:
    """A process that does nothing but sleep until each frame is due: what lateness the machine itself brings."""
    calls, period = frames // burst, burst * 1e9 / pace
    pacer = Pacer(pace / burst)
    over = [-pacer.wait(call) + time.monotonic_ns() for call in range(calls)]  # the clock is read after the wait
    late = 100 * sum(waited > period for waited in over) / calls
    return {"rate": pace, "late_percent": late, "p99_us": sorted(over)[calls * 99 // 100] / 1e3}


def main(argv: list[str]) -> None:
    """Print one measurement as JSON."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    peers = {"pyzmq": pyzmq, "ezmsg": ezmsg, "sleeper": sleeper}
    print(json.dumps(peers[argv[0]](**json.loads(argv[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
