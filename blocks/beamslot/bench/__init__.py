"""Benchmarks: speed as ratios to named peers or limits, measured in one interleaved run."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from beamslot.errors import BeamslotError

TEACH = """
Rows of transport are {name, value, unit, peer, peer_value, ratio, runs}: medians over runs that take turns, the ratio
the median of the ratios run by run, so that a machine that drifts does not decide. An absolute figure says as much
about the machine. Rows of estimators are {estimator, snr_db, paths, batch, nmse_db, ci95_db, crb_db, oracle_db (MMSE),
median_ms, p99_ms, ...}, on the same draws, slot by slot in turns; limits and ratios stand beside them. Rows of doa
are {scene, snapshots, snr_db, method, users, rmse_deg, ratio (to the bound), outlier_share, right_share, within_one,
...}, on the same frames; those of upa-net {estimator, operator, snr_db, nmse_db, ci95_db, crb_db, lost, ...}.

  beamslot bench transport                 all rows, some six minutes
  beamslot bench transport --quick         shorter and fewer runs, to see that it works
  beamslot bench transport --only 3KiB     rows whose names hold this
  beamslot bench estimators                time and NMSE of every estimator in four settings, some three minutes
  beamslot bench estimators --only vp_nomp --growth    how its time grows with array, paths and batch
  beamslot bench estimators --dense --plot nmse.png    what a dense dictionary would cost; NMSE against time
  beamslot bench doa                       vae_ula beside classical chains and bounds: half an hour
  beamslot bench doa --frames 500 --seeds 1    some minutes; --only "S1 coherent", --only speed: a part of it
  beamslot bench upa-net                   vae_upa: NMSE, time, what the net adds, operators that it never saw
"""

RUNS = {"transport": (7, 3), "estimators": (200, 16), "doa": (200, 16), "upa-net": (200, 16)}
"""How often each is measured, and how often with --quick; of doa that is its times."""
FRAMES, SEEDS = (10_000, 250), (3, 1)
"""Of doa: frames of a scene and a test seed, and test seeds; and with --quick."""


def main(argv: Sequence[str]) -> int:
    """Run a benchmark and print its rows; return the exit code."""
    parser = _parser()
    asked = parser.parse_args(argv)
    usual, quick = RUNS[asked.what]
    for name in ("runs", "frames", "seeds"):
        if (value := getattr(asked, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}, wanted at least 1")
    if asked.what != "estimators" and (asked.dense or asked.growth or asked.plot):
        parser.error("--dense, --growth and --plot are of: beamslot bench estimators")
    if asked.what != "doa" and (asked.frames or asked.seeds):
        parser.error("--frames and --seeds are of: beamslot bench doa")
    try:
        return VERBS[asked.what](asked, asked.runs or (quick if asked.quick else usual))
    except BeamslotError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="beamslot bench", description=__doc__, epilog=TEACH, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = "transport: edges, taps, paced graphs and restarts; estimators: their time and accuracy; "
    what += "doa: directions at a line of antennas; upa-net: the net behind a combiner"
    parser.add_argument("what", choices=[*RUNS], help=what)
    parser.add_argument("--json", action="store_true", help="print machine and rows as one JSON object")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer runs")
    parser.add_argument(
        "--runs", type=int, help="how many times each is measured (7, quick 3); slots or calls (200, quick 16)"
    )
    parser.add_argument("--only", default="", help="only rows whose names hold this text")
    of = parser.add_argument_group("of estimators only")
    of.add_argument("--dense", action="store_true", help="time the products with one shared dense dictionary")
    of.add_argument("--growth", action="store_true", help="time of vp_nomp over N_y, N_z, M, paths and batch")
    of.add_argument("--plot", type=Path, metavar="PNG", help="draw NMSE against time (needs beamslot[plot])")
    of = parser.add_argument_group("of doa only")
    of.add_argument("--frames", type=int, help="frames of a scene, an SNR and a test seed (10,000, quick 250)")
    of.add_argument("--seeds", type=int, help="test seeds (3, quick 1)")
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


def _doa(asked: argparse.Namespace, calls: int) -> int:
    from beamslot.bench import doa, machine

    frames, seeds = asked.frames or FRAMES[asked.quick], asked.seeds or SEEDS[asked.quick]
    found = doa.measure(frames, seeds, asked.only, calls)
    return _told(asked, machine.describe(), found, doa.show)


def _upa_net(asked: argparse.Namespace, draws: int) -> int:
    from beamslot.bench import machine, upa_net

    found = upa_net.measure(draws, asked.only)
    return _told(asked, machine.describe(), found, upa_net.show)


def _told(
    asked: argparse.Namespace, machine: dict[str, Any], found: dict[str, Any], show: Callable[[Any, Any], None]
) -> int:
    if asked.json:
        print(json.dumps({"machine": machine, **found}))
    else:
        show(machine, found)
    return 0


VERBS = {"transport": _transport, "estimators": _estimators, "doa": _doa, "upa-net": _upa_net}
"""Who measures what, given what was asked and how often; returns the exit code."""
