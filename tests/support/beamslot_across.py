"""Two runs with one edge between them, each started as a program of its own, perhaps on the two ends of a link."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import graph

from beamslot.runtime.graph import Graph, Restart
from beamslot.runtime.launch import launch
from beamslot.sinks.remote_sink import RemoteSink
from beamslot.sources.remote_source import RemoteSource

PAUSE = 0.5
"""A silence of this length is one of the link's [s]."""


class StampSink(CheckSink):
    """Checks, and notes when slots came again after a silence."""

    def start(self) -> None:
        super().start()
        self._last = time.monotonic()
        self._returns: list[float] = []

    def process(self, numbers: dict[str, Any], slots: range) -> None:
        now = time.monotonic()
        if now - self._last > PAUSE:
            self._returns.append(now)
        self._last = now
        super().process(numbers, slots)

    def results(self) -> dict[str, Any]:
        return {**super().results(), "returns": self._returns}


def hardened(given: Graph) -> Graph:
    """Return a graph whose blocks are all started again."""
    return replace(
        given,
        blocks={name: replace(spec, restart=Restart("on_failure")) for name, spec in given.blocks.items()},
    )


def sending(parameters: dict[str, Any], slots: int, pace: float) -> Graph:
    """Return the graph of the sending run."""
    blocks = {"src": CountingSource, "relay": Relay, "tx": (RemoteSink, parameters)}
    edges = ("src.numbers > relay.numbers", "relay.out > tx.stream")
    return hardened(graph(blocks, *edges, slots=slots, pace=pace))


def receiving(parameters: dict[str, Any]) -> Graph:
    """Return the graph of the receiving run, which lasts as long as the other."""
    blocks = {"rx": (RemoteSource, parameters), "relay": Relay, "sink": StampSink}
    return hardened(graph(blocks, "rx.stream > relay.numbers", "relay.out > sink.numbers"))


def main(arguments: str) -> None:
    """Run one side: side, path of the report, parameters, and the options of `sending`, as JSON."""
    asked = json.loads(arguments)
    sides = {"send": sending, "receive": receiving}
    given = sides[asked["side"]](asked["parameters"], **asked.get("options", {}))
    path = Path(asked["path"])

    def watch(status: dict[str, Any]) -> None:
        _write(path.with_suffix(".status"), status)

    _write(path, launch(given, watch=watch, deadline=0.5, seconds=asked.get("seconds")))


def _write(path: Path, value: Any) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value))
    draft.rename(path)


if __name__ == "__main__":
    main(sys.argv[1])
