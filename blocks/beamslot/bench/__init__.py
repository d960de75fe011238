"""Benchmarks: speed as ratios to named peers or limits, measured in one interleaved run."""

import argparse
import json
import sys
from collections.abc import Sequence

TEACH = """
Rows are {name, value, unit, peer, peer_value, ratio, runs}: medians over runs that take turns, the ratio the median of
the ratios run by run, so that a machine that drifts does not decide. An absolute figure says as much about the machine.

  beamslot bench transport                 all rows, some six minutes
  beamslot bench transport --quick         shorter and fewer runs, to see that it works
  beamslot bench transport --only 3KiB     rows whose names hold this
"""


def main(argv: Sequence[str]) -> int:
    """Run a benchmark and print its rows; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="beamslot bench", description=__doc__, epilog=TEACH, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["transport"], help="transport: edges, taps, paced graphs and restarts")
    parser.add_argument("--json", action="store_true", help="print machine and rows as one JSON object")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer runs")
    parser.add_argument("--runs", type=int, help="how many times each is measured (7, quick 3)")
    parser.add_argument("--only", default="", help="only rows whose names hold this text")
    asked = parser.parse_args(argv)
    from beamslot.bench import machine, transport

    runs = asked.runs or (3 if asked.quick else 7)
    rows = transport.measure(runs=runs, quick=asked.quick, only=asked.only)
    found = machine.describe()
    if asked.json:
        print(json.dumps({"machine": found, "rows": rows}))
    else:
        machine.show(found, rows)
    if not rows:
        print(f"no row's name holds {asked.only!r}", file=sys.stderr)
    return 0 if rows else 2
