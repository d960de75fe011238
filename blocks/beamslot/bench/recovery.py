"""One measurement of a restart: how long a NumPy block is away when its process is killed.

python -m beamslot.bench.recovery ours '{"slot": 500}'
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.bench.blocks import NullSink, PassBlock, PreparedSource
from beamslot.errors import RunFailed
from beamslot.runtime.chaos import Strike
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph, Restart
from beamslot.runtime.launch import launch

RATE = 1000
"""Slots a second: what waits for the block while it is away is little, so that the restart alone is measured."""


class Spectrum(PassBlock):
    """Hands on the spectrum of what comes; notes when the first and the last call of each life ended."""

    folder: str = Field(min_length=1, description="where each life leaves its two times")

    def start(self) -> None:
        """Open the note of this life."""
        self._first = 0
        self._note = os.open(f"{self.folder}/{time.monotonic_ns()}.life", os.O_WRONLY | os.O_CREAT, 0o600)

    def process(self, stream: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the spectrum."""
        made = {name: np.fft.fft(array).astype(array.dtype) for name, array in stream.items()}
        now = time.monotonic_ns()
        self._first = self._first or now
        os.pwrite(self._note, f"{self._first:20} {now:20}".encode(), 0)  # there when the process is killed
        return made

    def stop(self) -> None:
        """Close the note."""
        os.close(self._note)


def measure(*, slot: int = 500) -> dict[str, float]:
    """Return how long it takes from the last call before a kill to the end of the first one after it [s].

    slot: at which the process is killed, as the call begins; half as many follow
    raises RunFailed when the run lost something
    """
    with tempfile.TemporaryDirectory() as folder:
        graph = _graph(folder, slot + slot // 2)
        report = launch(graph, logs=Path(folder) / "logs", strikes=[Strike("kill", "spectrum", slot)])
        if not report["ok"] or report["sinks"]["sink"]["seen"] != graph.slots or report["restarts"] != 1:
            raise RunFailed(
                f"recovery: {report['restarts']} restarts, problems {report['problems']}; wanted 1 and none"
            )
        lives = [[int(word) for word in path.read_text().split()] for path in sorted(Path(folder).glob("*.life"))]
    before, after = lives
    return {"away_s": (after[0] - before[1]) * 1e-9}


def _graph(folder: str, slots: int) -> Graph:
    again = Restart("on_failure")
    blocks = {
        "source": BlockSpec("source", PreparedSource, {"sizes": {"data": 3 * 1024}}, restart=again),
        "spectrum": BlockSpec("spectrum", Spectrum, {"folder": folder}, restart=again),
        "sink": BlockSpec("sink", NullSink, restart=again),
    }
    edges = (EdgeSpec("source", "out", "spectrum", "stream"), EdgeSpec("spectrum", "out", "sink", "stream"))
    return Graph(name="recovery", blocks=blocks, edges=edges, slots=slots, slot_period=1 / RATE, pace=1.0)


def main(argv: list[str]) -> None:
    """Print one measurement as JSON."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options: dict[str, Any] = json.loads(argv[1])
    print(json.dumps(measure(**options)))


if __name__ == "__main__":
    from beamslot.bench.recovery import main as run_main  # its block must be known by the name of this module

    run_main(sys.argv[1:])
