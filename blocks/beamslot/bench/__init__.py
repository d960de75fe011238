"""Benchmarks: speed as ratios to named peers or limits, measured in one interleaved run."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beamslot.errors import BeamslotError

TEACH = """
Rows of transport are {name, value, unit, peer, peer_value, ratio, runs}: medians over runs that take turns, the ratio
the median of the ratios run by run, so that a machine that drifts does not decide. An absolute figure says as much
about the machine. Rows of estimators are {estimator, snr_db, paths, batch, nmse_db, ci95_db, crb_db, oracle_db (MMSE),
median_ms, p99_ms, ...}, on the same draws, slot by slot in turns; limits and ratios stand beside them.

  beamslot bench transport                 all rows, some six minutes
  beamslot bench transport --quick         shorter and fewer runs, to see that it works
  beamslot bench transport --only 3KiB     rows whose names hold this
  beamslot bench estimators                time and NMSE of every estimator in four settings, some three minutes
  beamslot bench estimators --only vp_nomp --growth    how its time grows with array, paths and batch
  beamslot bench estimators --dense --plot nmse.png    what a dense dictionary would cost; NMSE against time
"""

RUNS = {"transport": (7, 3), "estimators": (200, 16)}
"""How often each is measured, and how often with --quick."""


def main(argv: Sequence[str]) -> int:
    """Run a benchmark and print its rows; return the exit code."""
    parser = _parser()
    asked = parser.parse_args(argv)
    usual, quick = RUNS[asked.what]
    if asked.runs is not None and asked.runs < 1:
        parser.error(f"--runs is {asked.runs}, wanted at least 1")
    runs = asked.runs or (quick if asked.quick else usual)
    if asked.what == "estimators":
        try:
            return _estimators(asked, runs)
        except BeamslotError as error:
            print(error, file=sys.stderr)
            return 2
    if asked.dense or asked.growth or asked.plot:
        parser.error("--dense, --growth and --plot are of: beamslot bench estimators")
    return _transport(asked, runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="beamslot bench", description=__doc__, epilog=TEACH, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = "transport: edges, taps, paced graphs and restarts; estimators: their time and accuracy"
    parser.add_argument("what", choices=[*RUNS], help=what)
    parser.add_argument("--json", action="store_true", help="print machine and rows as one JSON object")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer runs")
    parser.add_argument("--runs", type=int, help="how many times each is measured (7, quick 3); slots (200, quick 16)")
    parser.add_argument("--only", default="", help="only rows whose names hold this text")
    of = parser.add_argument_group("of estimators only")
    of.add_argument("--dense", action="store_true", help="time the products with one shared dense dictionary")
    of.add_argument("--growth", action="store_true", help="time of vp_nomp over N_y, N_z, M, paths and batch")
    of.add_argument("--plot", type=Path, metavar="PNG", help="draw NMSE against time (needs beamslot[plot])")
    return parser


def _transport(asked: argparse.Namespace, runs: int) -> int:
    from beamslot.bench import machine, transport

    rows = transport.measure(runs=runs, quick=asked.quick, only=asked.only)
    found = machine.describe()
    if asked.json:
        print(json.dumps({"machine": found, "rows": rows}))
    else:
        machine.show(found, rows)
    if not rows:
        print(f"no row's name holds {asked.only!r}", file=sys.stderr)
    return 0 if rows else 2


def _estimators(asked: argparse.Namespace, slots: int) -> int:
    from beamslot.bench import arithmetic, estimators, figures, machine

    if asked.plot:
        figures.can_plot(asked.plot)
    found: dict[str, Any] = estimators.measure(slots, asked.only)
    if asked.growth:
        found["growth"] = estimators.growth(slots)
    if asked.dense:
        found["dense"] = arithmetic.dense(min(slots, 40))
    described = machine.describe()
    if asked.plot:
        figures.plot(found["rows"], asked.plot)
        print(f"plot: {asked.plot}", file=sys.stderr)
    if asked.json:
        print(json.dumps({"machine": described, **found}))
    else:
        figures.show(described, found)
    return 0
