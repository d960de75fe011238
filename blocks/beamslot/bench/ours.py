"""One measurement of the real runtime: prepared frames from a source process to a sink process, perhaps through others.

python -m beamslot.bench.ours ours '{"nbytes": 3072, "frames": 1000}'
"""

import json
import math
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

TRUTH_AND_OBSERVATION = {"truth": 36 * 1024, "observation": 3 * 1024}


def measure(
    *, nbytes: int, frames: int, pace: float = math.inf, burst: int = 1, through: int = 0
) -> dict[str, float | None]:
    """Return rate [slots/s], p50 and p99 from capture to sink [us], and the share of late slots [%].

    nbytes: payload of a slot, 0 for 36 KiB of truth and 3 KiB of observation    frames: slots in all
    pace: slots/s, inf for as fast as it goes    burst: slots a frame    through: blocks between source and sink
    """
    from beamslot.bench.blocks import NullSink, PassBlock, PreparedSource
    from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph
    from beamslot.runtime.launch import launch

    sizes = {"data": nbytes} if nbytes else TRUTH_AND_OBSERVATION
    between = [f"pass{number}" for number in range(through)]
    names = ["source", *between, "sink"]
    blocks = {
        "source": BlockSpec("source", PreparedSource, {"sizes": sizes, "burst": burst}),
        **{name: BlockSpec(name, PassBlock) for name in between},
        "sink": BlockSpec("sink", NullSink),
    }
    edges = tuple(EdgeSpec(a, "out", b, "stream") for a, b in pairwise(names))
    paced = math.isfinite(pace)
    graph = Graph(
        name="bench",
        blocks=blocks,
        edges=edges,
        slots=frames,
        slot_period=1 / pace if paced else 1e-3,
        pace=1.0 if paced else math.inf,
        burst=burst,
    )
    with tempfile.TemporaryDirectory() as logs:
        report = launch(graph, logs=Path(logs))
    if not report["ok"] or report["sinks"]["sink"]["seen"] != frames:
        raise SystemExit(f"the run failed: {report['problems']}")
    return {
        "rate": report["sinks"]["sink"]["rate"],
        "p50_us": report["end_to_end"]["p50_us"],
        "p99_us": report["end_to_end"]["p99_us"],
        "late_percent": 100 * report["late_slots"] / frames,
        "seen": report["sinks"]["sink"]["seen"],
    }


def main(argv: list[str]) -> None:
    """Print one measurement as JSON."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options: dict[str, Any] = json.loads(argv[1])
    print(json.dumps(measure(**options)))


if __name__ == "__main__":
    main(sys.argv[1:])
