"""Streams to record, made from a seed, and what recordings are held against."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sigmf
from sigmf.validate import validate

from beamslot.frame import AXES, DTYPES, Array, Describe, Eos, Frame, Gap, Geometry, Operator, StreamInfo
from beamslot.recording import Recordable, Writer

FIELDS = {
    Frame: ("first", "count", "captured", "sent", "epoch", "seq", "operator", "deadline", "tags"),
    Gap: ("first", "count", "reason", "captured", "epoch", "seq"),
    Eos: ("first", "ok", "reason"),
    Describe: ("stream", "info"),
}


def operator(seed: int, y: int = 3) -> Operator:
    """Return a front end."""
    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=(y, 2, 3)) + 1j * rng.normal(size=(y, 2, 3))).astype(np.complex64)
    return Operator(weights, rng.integers(-1, 2, y).astype(np.int16), (-0.5, 0.25), 0.1 if seed % 2 else None)


def front_end(seed: int = 0) -> StreamInfo:
    """Return the description of observations and of what belongs to them: stored arrays, others, one without slots."""
    return StreamInfo(
        {
            "rf": Array.of("slot user y chain", np.complex64, "sqrt(W)"),
            "power": Array.of("slot user", np.float64, "W"),
            "beam": Array.of("y chain", np.complex64),
            "draw": Array.of("slot", np.int64),
        },
        {"user": 2, "y": 3, "chain": 2},
        slot_period=5e-4,
        carrier=28e9,
        geometry=Geometry(3, 6, 0.5, 0.7),
        operator=operator(seed),
        notes={"site": "roof", "gains": [1.5, -2.0], "on": True},
    )


def arrays(info: StreamInfo, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return arrays of so many slots, of all bit patterns, NaN and infinities among them."""
    made = {}
    for name, array in info.arrays.items():
        shape = info.shape(name, count)
        raw = rng.integers(0, 2 if array.dtype.kind == "b" else 256, (*shape, array.dtype.itemsize), np.uint8)
        made[name] = np.ascontiguousarray(raw).view(array.dtype)[..., 0]
    return made


def any_info(rng: np.random.Generator) -> StreamInfo:
    """Return a description of a stream of any arrays."""
    lengths = {axis: int(rng.integers(1, 5)) for axis in AXES if axis != "slot"}
    described = {}
    for number in range(rng.integers(1, 5)):
        names = rng.permutation(list(lengths))[: rng.integers(0, 4)].tolist()
        dtype = "<c8" if rng.random() < 0.5 else str(rng.choice(list(DTYPES)))
        described[f"array {number}!" if rng.random() < 0.2 else f"a{number}"] = Array.of(
            " ".join([*(["slot"] if rng.random() < 0.8 else []), *names]), dtype, "W"
        )
    used = {axis for array in described.values() for axis in array.axes}
    return StreamInfo(
        described,
        {axis: n for axis, n in lengths.items() if axis in used},
        carrier=float(rng.choice([0.0, 3.5e9])),
        geometry=Geometry(2, 3) if rng.random() < 0.5 else None,
        operator=operator(int(rng.integers(9))) if rng.random() < 0.5 else None,
    )


def story(seed: int, length: int = 30, infos: Sequence[StreamInfo] = (), stream: str = "front.rf") -> list[Recordable]:
    """Return what a port says: descriptions that change, frames of many lengths, gaps that are told or not, an end."""
    rng = np.random.default_rng(seed)
    info = infos[0] if infos else any_info(rng)
    said: list[Recordable] = [Describe(stream, info)]
    due = int(rng.integers(0, 50))
    for seq in range(length):
        turn = rng.random()
        if turn < 0.08:
            info = infos[int(rng.integers(len(infos)))] if infos else any_info(rng)
            if info != next(one.info for one in reversed(said) if isinstance(one, Describe)):
                said.append(Describe(stream, info))
        elif turn < 0.2:
            count = int(rng.integers(1, 2**40 if rng.random() < 0.1 else 9))
            said.append(Gap(due, count, str(rng.choice(["late", "latest", "lost"])), int(rng.integers(2**60)), 1, seq))
            due += count
        else:
            due += int(rng.integers(1, 5)) if rng.random() < 0.1 else 0  # slots of which nothing is told
            frame = frame_of(info, due, int(rng.integers(1, 6)), rng, seq)
            said.append(frame)
            due = frame.end
    return [*said, Eos(due, bool(rng.random() < 0.7), "done")]


def frame_of(info: StreamInfo, first: int, count: int, rng: np.random.Generator, seq: int = 0) -> Frame:
    """Return a frame with all that a frame can carry."""
    return Frame(
        first,
        count,
        arrays(info, count, rng),
        captured=int(rng.integers(2**62)),
        sent=int(rng.integers(2**62)),
        epoch=int(rng.integers(3)),
        seq=seq,
        operator=info.operator.hash if info.operator else None,
        deadline=int(rng.integers(2**62)) if rng.random() < 0.5 else None,
        tags={"restarted": True, "at": [1, 2.5, None], "who": {"é": "x"}} if rng.random() < 0.3 else {},
    )


def write(directory: Path, said: Iterable[Recordable], port: str = "front.rf", **about: Any) -> None:
    """Record what a port says."""
    with Writer(directory, port, about=about) as writer:
        for message in said:
            writer.write(message)


def same(came: Recordable, wanted: Recordable) -> bool:
    """Whether two messages are the same to the last bit."""
    if type(came) is not type(wanted):
        return False
    if any(getattr(came, name) != getattr(wanted, name) for name in FIELDS[type(wanted)]):
        return False
    if not (isinstance(came, Frame) and isinstance(wanted, Frame)):
        return True
    return [*came.arrays] == [*wanted.arrays] and all(
        (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        for one, other in zip(came.arrays.values(), wanted.arrays.values(), strict=True)
    )


def assert_same(came: Iterable[Recordable], wanted: Sequence[Recordable]) -> None:
    """Assert that messages are the same to the last bit, none more and none less."""
    got = list(came)
    for number, (one, other) in enumerate(zip(got, wanted, strict=False)):
        assert same(one, other), f"message {number} is {one}; wanted {other}"
    assert len(got) == len(wanted)


def metas(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the metadata of a recording by the name of its file without suffix, each found valid by the library."""
    found = {}
    for path in sorted(directory.glob("*.sigmf-meta")):
        meta = json.loads(path.read_text())
        validate(meta)
        found[path.name.removesuffix(".sigmf-meta")] = meta
    return found


def samples(directory: Path, name: str) -> np.ndarray:
    """Return the samples of a recorded array as the SigMF library reads them, its hash checked: (slot, channel)."""
    kept = sigmf.sigmffile.fromfile(str(directory / f"{name}.sigmf-meta"))
    kept.validate()
    return np.asarray(kept.read_samples()).reshape(-1, kept.get_global_field("core:num_channels"))


def stored_slots(said: Iterable[Recordable], name: str) -> dict[int, np.ndarray]:
    """Return what an array was in each slot, as (channel,)."""
    found: dict[int, np.ndarray] = {}
    for message in said:
        if isinstance(message, Frame):
            rows = message.arrays[name].reshape(message.count, -1)
            found |= {message.first + row: rows[row] for row in range(message.count)}
    return found


def sampled_slots(meta: Mapping[str, Any], rows: int) -> list[int]:
    """Return the slot of every sample, worked out from the captures alone, as other software would."""
    captures = meta["captures"]
    starts = [one["core:sample_start"] for one in captures] + [rows]
    return [
        one["core:global_index"] + row
        for one, begin, end in zip(captures, starts[:-1], starts[1:], strict=True)
        for row in range(end - begin)
    ]
