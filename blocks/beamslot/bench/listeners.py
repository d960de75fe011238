"""One measurement of a paced graph whose ports are listened to: by nobody, by readers that are stopped, or live ones.

python -m beamslot.bench.listeners stopped '{"slots": 2000}'
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

from beamslot.errors import RunFailed
from beamslot.runtime import observe, rundir
from beamslot.runtime.taps import listen

LISTENERS = {"nobody": 0, "stopped": 2, "live": 5}
RATE = 1000
STREAM = "pass0.out"


def measure(who: str, slots: int = 2000) -> dict[str, float]:
    """Return the p99 from capture to sink [us], slots lost, and the most memory of the process listened to [MiB].

    36 KiB of truth and 3 KiB of observation a slot, 1,000 slots a second, through three processes; listeners are
    processes of their own at the port of the second, and those that are stopped are so from their first frame on.
    raises RunFailed where the graph or a listener did not begin
    """
    with tempfile.TemporaryDirectory(prefix="bs-") as place:
        os.environ["XDG_RUNTIME_DIR"] = place
        told = {"nbytes": 0, "frames": slots, "pace": RATE, "through": 1}
        words = [sys.executable, "-m", "beamslot.bench.ours", "ours", json.dumps(told)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as run:  # noqa: S603
            listeners = [_listener() for _ in range(LISTENERS[who])]
            try:
                memory = _most_memory(run, listeners, stop=who == "stopped")
            finally:
                for listener in listeners:
                    listener.kill()
                    listener.communicate()
            found = json.loads(run.communicate()[0])
    return {"p99_us": found["p99_us"], "lost": slots - found["seen"], "memory_mib": memory}


def _listener() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "beamslot.bench.listeners", "listen"], stdout=subprocess.PIPE)


def _most_memory(run: subprocess.Popen[bytes], listeners: list[subprocess.Popen[bytes]], stop: bool) -> float:
    """Wait for the listeners and for the run; return the most memory that the process listened to had [MiB]."""
    for listener in listeners:
        if listener.stdout is None or listener.stdout.read(1) != b"!":
            raise RunFailed("a listener heard nothing", {})
        if stop:
            listener.send_signal(signal.SIGSTOP)
    most = 0
    while run.poll() is None:
        for pid in _pids():
            seen = observe.usage(pid)
            most = max(most, seen.memory if seen else 0)
        try:
            run.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    return most / 2**20


def _pids() -> list[int]:
    looks = [observe.look(card) for card in rundir.runs()]
    return [
        process["pid"]
        for look in looks
        if look is not None
        for process in look.status["processes"]
        if STREAM.partition(".")[0] in process["blocks"]
    ]


def _listen() -> None:
    """Read the stream, saying once that it has begun."""
    cards = rundir.runs()
    while not cards:
        cards = rundir.runs()
    for number, _ in enumerate(listen(cards[0]["ports"][STREAM], STREAM)):
        if not number:
            os.write(1, b"!")


def main(argv: list[str]) -> None:
    """Print one measurement as JSON, or listen to the run that there is."""
    if argv[0] == "listen":
        _listen()
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options: dict[str, Any] = json.loads(argv[1])
    print(json.dumps(measure(argv[0], **options)))


if __name__ == "__main__":
    main(sys.argv[1:])
