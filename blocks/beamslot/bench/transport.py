"""Rates, latencies, paced graphs and restarts of the real runtime, against raw pyzmq, ezmsg and limits, taking turns.

Every measurement is a fresh process that prints one JSON object: `python -m beamslot.bench.ours`, `.recovery`
or `.peers`, or of the links to GNU Radio `.gnuradio`.
"""

import json
import statistics
import subprocess
import sys
import timeit
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beamslot.errors import RunFailed

SIZES = {"3KiB": 3 * 1024, "36KiB": 36 * 1024, "1MiB": 1024 * 1024}
FRAMES = {"3KiB": 40_000, "36KiB": 20_000, "1MiB": 2_000}
ITEMS = 100_000
"""Sent to GNU Radio, and taken from it."""
MODULES = (
    {"ours": "ours", "recovery": "recovery"}
    | dict.fromkeys(("nobody", "stopped", "live"), "listeners")
    | dict.fromkeys(("pair", "received", "sent", "echo_pair", "echo_ours"), "gnuradio")
)
"""What measures whom, where it is not `peers`."""
PACED = 500
"""Frames a second where latency is measured."""

Row = dict[str, Any]


def measure(runs: int, quick: bool, only: str = "") -> list[Row]:
    """Return all rows whose names hold `only`."""
    shrink = 20 if quick else 1
    rows: list[Row] = []
    for size in SIZES:
        if only in f"edge_{size}_rate":
            rows += _rates(size, runs, FRAMES[size] // shrink)
    for size in ("3KiB", "36KiB"):
        if only in f"edge_{size}_latency_p50":
            rows += _latencies(size, runs, PACED * 3 // min(shrink, 6))
    if only in "tap_idle_cost":
        rows.append(_tap_idle_cost(runs, FRAMES["3KiB"] // shrink))
    if only in "listened":
        rows += _listened(min(runs, 5), slots=1_000 if quick else 5_000)
    for name, rate, burst in (("realtime_1000", 1_000, 1), ("bursts_8000", 8_000, 8)):
        if only in name:
            rows += _paced(name, rate, burst, seconds=2 if quick else 20, runs=min(runs, 3))
    rows += _gnuradio(runs, ITEMS // shrink, only)
    if only in "recovery":
        rows.append(_recovery(runs, slot=100 if quick else 500))
    return rows


def _rates(size: str, runs: int, frames: int) -> list[Row]:
    options = {"nbytes": SIZES[size], "frames": frames}
    takers = {"ours": options, "pyzmq": options, "ezmsg": options}
    seen = _figure(_turns(f"edge_{size}_rate", runs, takers, ["rate"]), "rate")
    return [_row(f"edge_{size}_rate", "frames/s", peer, seen) for peer in ("pyzmq", "ezmsg")]


def _latencies(size: str, runs: int, frames: int) -> list[Row]:
    options = {"nbytes": SIZES[size], "frames": frames, "pace": PACED}
    takers = {"ours": options, "pyzmq": options, "ezmsg": options}
    seen = _figure(_turns(f"edge_{size}_latency_p50", runs, takers, ["p50_us"]), "p50_us")
    return [_row(f"edge_{size}_latency_p50", "us", peer, seen) for peer in ("pyzmq", "ezmsg")]


def _tap_idle_cost(runs: int, frames: int) -> Row:
    """What an outlet asks per frame for a tap that nobody listens to, as a share of a frame's time on a 3 KiB edge."""
    import zmq

    from beamslot.runtime.transport import Outlet

    context, loops = zmq.Context(), 1_000_000
    outlet = Outlet(context, "bench.out", [], "")
    seen: dict[str, list[float]] = {"ours": [], "frame": []}
    for _ in range(runs):
        asked = timeit.timeit("if outlet.tapped.listeners: pass", globals={"outlet": outlet}, number=loops)
        bare = timeit.timeit("pass", number=loops)
        seen["ours"].append((asked - bare) / loops * 1e9)
        seen["frame"].append(1e9 / _measured("ours", {"nbytes": SIZES["3KiB"], "frames": frames})["rate"])
        _tell("tap_idle_cost", len(seen["ours"]), runs)
    outlet.close()
    context.term()
    return _row("tap_idle_cost", "ns", "frame", seen)


def _listened(runs: int, slots: int) -> list[Row]:
    """A paced graph with two listeners that are stopped, and with five that read, beside one that nobody listens to."""
    takers: dict[str, Any] = {who: {"slots": slots} for who in ("nobody", "stopped", "live")}
    seen = _turns("listened", runs, takers, ("p99_us", "lost", "memory_mib"))
    rows: list[Row] = []
    for who in ("stopped", "live"):
        for figure, unit in (("p99_us", "us"), ("memory_mib", "MiB")):
            found = _figure(seen, figure)
            name = f"listened_{who}_{figure.partition('_')[0]}"
            rows.append(_row(name, unit, "nobody", {"ours": found[who], "nobody": found["nobody"]}))
        rows.append(_against(f"listened_{who}_lost", _figure(seen, "lost")[who], "slots", 1.0))
    return rows


def _paced(name: str, rate: int, burst: int, seconds: int, runs: int) -> list[Row]:
    """36 KiB of truth and 3 KiB of observation a slot, through three processes, against limits.

    Late slots stand beside those of a process that only sleeps until each frame is due: what the machine leaves.
    """
    paced = {"frames": rate * seconds, "pace": rate, "burst": burst}
    takers = {"ours": {"nbytes": 0, "through": 1, **paced}, "sleeper": paced}
    seen = _turns(name, runs, takers, ("rate", "late_percent", "p99_us"))
    late = _figure(seen, "late_percent")
    return [
        _against(f"{name}_rate", _figure(seen, "rate")["ours"], "slots/s", float(rate)),
        _against(f"{name}_late", late["ours"], "%", 0.1),
        _row(f"{name}_late", "%", "sleeper", late),
        _against(f"{name}_latency_p99", _figure(seen, "p99_us")["ours"], "us", 5_000.0),
    ]


def _gnuradio(runs: int, items: int, only: str) -> list[Row]:
    """Items of 3 KiB between GNU Radio and us, and between two of its own flowgraphs; and one there and back."""
    rows: list[Row] = []
    for tags, ending in ((False, ""), (True, "_tagged")):
        wanted = {f"gnuradio_{who}{ending}": who for who in ("received", "sent") if only in f"gnuradio_{who}{ending}"}
        if wanted:
            takers = {who: {"items": items, "tags": tags} for who in ("pair", *wanted.values())}
            seen = _figure(_turns(f"gnuradio{ending}", runs, takers, ["rate"]), "rate")
            rows += [_beside(name, "items/s", seen[who], seen["pair"]) for name, who in wanted.items() if seen[who]]
    if only in "gnuradio_echo_p50":
        takers = {who: {"items": max(100, items // 100)} for who in ("echo_pair", "echo_ours")}
        seen = _figure(_turns("gnuradio_echo_p50", runs, takers, ["p50_us"]), "p50_us")
        if seen["echo_ours"]:
            rows.append(_beside("gnuradio_echo_p50", "us", seen["echo_ours"], seen["echo_pair"]))
    return rows


def _beside(name: str, unit: str, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    return _row(name, unit, "gnuradio", {"ours": ours, "gnuradio": theirs})


def _recovery(runs: int, slot: int) -> Row:
    """How long a NumPy block is away when its process is killed, against the limit that is promised."""
    seen = _turns("recovery", runs, {"recovery": {"slot": slot}}, ["away_s"])
    return _against("recovery", _figure(seen, "away_s")["recovery"], "s", 0.5)


def _turns(
    name: str, runs: int, takers: Mapping[str, Mapping[str, Any]], figures: Sequence[str]
) -> dict[str, list[dict[str, float]]]:
    """Measure all takers in turn, `runs` times; one that cannot run here is left out."""
    seen: dict[str, list[dict[str, float]]] = {who: [] for who in takers}
    for turn in range(runs):
        _tell(name, turn + 1, runs)
        for who, options in takers.items():
            got = _measured(who, options)
            if got:
                seen[who].append({figure: got[figure] for figure in figures})
    return seen


def _figure(seen: Mapping[str, Sequence[Mapping[str, float]]], name: str) -> dict[str, list[float]]:
    return {who: [got[name] for got in measured] for who, measured in seen.items()}


def _measured(who: str, options: Mapping[str, Any]) -> dict[str, Any]:
    module = f"beamslot.bench.{MODULES.get(who, 'peers')}"
    command = [sys.executable, "-m", module, who, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    if done.returncode:
        raise RunFailed(f"{' '.join(command[1:])} exited with {done.returncode}: {done.stderr.strip()[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _row(name: str, unit: str, peer: str, seen: Mapping[str, Sequence[float]]) -> Row:
    ours, theirs = seen["ours"], seen[peer]
    ratios = _ratios(ours, theirs)
    return {
        "name": name,
        "value": statistics.median(ours),
        "unit": unit,
        "peer": peer,
        "peer_value": statistics.median(theirs) if theirs else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "runs": len(ours),
    }


def _ratios(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=False) if b]


def _against(name: str, seen: Sequence[float], unit: str, limit: float) -> Row:
    value = statistics.median(seen)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": "limit",
        "peer_value": limit,
        "ratio": value / limit,
        "runs": len(seen),
    }


def _tell(name: str, turn: int, turns: int) -> None:
    print(f"{name}: {turn} of {turns}", file=sys.stderr, flush=True)
