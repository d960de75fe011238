"""`beamslot hz` and `beamslot tap`: how fast frames pass a port of a running graph, and some of them kept."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import options

if TYPE_CHECKING:
    from beamslot.frame import StreamInfo
    from beamslot.probe import AttachedRun, Tapped

MOST_BYTES = 2**30
"""A tap without a length ends when it holds so much [bytes]."""


def register(verbs: options.Verbs) -> None:
    """Add the verbs."""
    hz = options.add_verb(
        verbs,
        "hz",
        _hz,
        "tell how fast and how evenly frames pass a port of a running graph",
        "beamslot hz omp.estimate",
    )
    _add_port(hz)
    hz.add_argument("--every", type=options.duration, default=1.0, metavar="TIME", help="tell so often (1s)")
    hz.add_argument("-n", dest="most", type=options.positive, metavar="N", help="end after N lines")
    options.add_json(hz, "print one JSON object a line")
    tap = options.add_verb(
        verbs,
        "tap",
        _tap,
        "keep what passes a port of a running graph",
        "beamslot tap combiner.rf -n 100 -o rf.npz\n  beamslot tap demo:combiner.rf --for 10s -o out/rf",
    )
    _add_port(tap)
    tap.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE.npz|DIR",
        help="an .npz file, written at the end; or the directory of a recording, as `record RUN` makes one",
    )
    tap.add_argument("-n", dest="most", type=options.positive, metavar="N", help="end after N slots")
    tap.add_argument("--for", dest="seconds", type=options.duration, metavar="TIME", help="end after 10s, 500ms, 2m")
    options.add_json(tap, "print what was kept as one JSON object")


def _add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("port", metavar="[RUN:]BLOCK.PORT", help="which port; of which run (name or pid): the newest")


def _hz(arguments: argparse.Namespace) -> int:
    from beamslot import probe

    run, port = probe.parse(arguments.port, "hz")
    meter, due, told = probe.Meter(), time.monotonic() + arguments.every, 0
    for frame in run.tap(port):
        now = time.monotonic()
        meter.add(frame, now)
        if now < due:
            continue
        said, due, told = meter.read(now), now + arguments.every, told + 1
        options.print_json(said) if arguments.json else print(line(said), flush=True)
        if told == arguments.most:
            break
    return 0


def line(said: Mapping[str, Any]) -> str:
    """Return a reading of a meter in one line."""
    from beamslot import tables

    def milliseconds(key: str) -> str:
        return tables.span(None if said[key] is None else 1e3 * said[key])

    parts = [
        f"{tables.number(said['slots_per_s'], 1)} slots/s",
        f"{said['mib_per_s']:.2f} MiB/s",
        f"frame to frame {milliseconds('between_p50_ms')}, p99 {milliseconds('between_p99_ms')}",
        f"jitter {milliseconds('jitter_ms')}",
        f"age {milliseconds('age_p50_ms')}, p99 {milliseconds('age_p99_ms')}",
        f"missed {tables.number(said['missed'])}",
    ]
    return "  ".join([*parts, *([f"gaps {tables.drops(said['gaps'])}"] if said["gaps"] else [])])


def _tap(arguments: argparse.Namespace) -> int:
    from beamslot import probe
    from beamslot.errors import BadParam

    output: Path = arguments.output
    if output.suffix not in (".npz", "") and not output.is_dir():
        raise BadParam(
            f"tap: got -o {output}; wanted a name that ends with .npz, or one without a suffix, of a directory"
        )
    run, port = probe.parse(arguments.port, "tap")
    return _keep(run, port, arguments) if output.suffix == ".npz" else _record(run, port, arguments)


def _record(run: "AttachedRun", port: str, arguments: argparse.Namespace) -> int:
    from beamslot.cli import record
    from beamslot.errors import BadParam
    from beamslot.recording import recorded

    if recorded(arguments.output):
        raise BadParam(f"tap: {arguments.output} has a recording; wanted another directory")
    said = record.listened(run, [port], arguments.output, arguments.most, arguments.seconds)
    options.print_json(said) if arguments.json else print(*record.text(said), sep="\n")
    return 0


def _keep(run: "AttachedRun", port: str, arguments: argparse.Namespace) -> int:
    import numpy as np

    from beamslot import probe

    with options.writing(arguments.output):
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    kept: list[Tapped] = []
    try:
        for frame in _until(run.tap(port), arguments.seconds):
            kept.append(frame)
            if _enough(kept, arguments.most):
                break
    except KeyboardInterrupt:
        print("interrupted: what came is kept", file=sys.stderr)
    arrays = probe.collect(kept)
    most = arguments.most or len(arrays["slots"])
    arrays = {name: array[:most] for name, array in arrays.items()}
    with options.writing(arguments.output):
        draft = arguments.output.with_name(f".{arguments.output.name}")
        with draft.open("wb") as file:
            np.savez(file, allow_pickle=False, stream=json.dumps(described(port, kept[-1].info)), **arrays)
        draft.replace(arguments.output)
    said = {
        "file": str(arguments.output),
        "port": port,
        "slots": len(arrays["slots"]),
        "missed": sum(frame.missed for frame in kept),
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
    }
    options.print_json(said) if arguments.json else print(text(said))
    return 0


def _until(frames: "Iterator[Tapped]", seconds: float | None) -> "Iterator[Tapped]":
    end = None if seconds is None else time.monotonic() + seconds
    for frame in frames:
        yield frame
        if end is not None and time.monotonic() > end:
            return


def _enough(kept: "list[Tapped]", most: int | None) -> bool:
    slots = sum(len(frame.slots) for frame in kept)
    nbytes = sum(array.nbytes for frame in kept[-1:] for array in frame.arrays.values()) * len(kept)
    return slots >= most if most is not None else nbytes >= MOST_BYTES


def described(port: str, info: "StreamInfo") -> dict[str, Any]:
    """Return what a stream is, as it stands in the file beside the arrays."""
    return {
        "port": port,
        "arrays": {name: {"axes": list(one.axes), "unit": one.unit} for name, one in info.arrays.items()},
        "axes": dict(info.axes),
        "slot_period": info.slot_period,
        "operator": info.operator.hash if info.operator else None,
    }


def text(said: Mapping[str, Any]) -> str:
    """Return what was kept as people read it."""
    arrays = ", ".join(f"{name} {tuple(shape)}" for name, shape in said["arrays"].items())
    missed = f", {said['missed']:,} missed between them" if said["missed"] else ""
    return f"{said['file']}: {said['slots']:,} slots of {said['port']}{missed}: {arrays}"
