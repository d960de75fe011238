"""Recordings that are damaged or made to do harm: typed errors, or what was written, and never anything else."""

import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from beamslot_recording import front_end, story, write

from beamslot.errors import StorageError
from beamslot.frame import Frame
from beamslot.recording import log as logs
from beamslot.recording import open_recording, repair

Files = dict[str, bytes]

TOKENS = [
    b"",
    b"0",
    b"-1",
    b"1e999",
    b"null",
    b"[]",
    b"{}",
    b'"../../x"',
    b"18446744073709551616",
    b"[" * 2000,
    b"\xff",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A small recording, by file."""
    directory = tmp_path_factory.mktemp("sound")
    write(directory, story(4, 6, infos=[front_end(0), front_end(1)]))
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Return a file with something changed: bits, bytes, a piece cut out, doubled or overwritten."""
    made = bytearray(data)
    at = rng.randrange(len(made))
    match rng.randrange(7):
        case 0:
            made[at] ^= 1 << rng.randrange(8)
        case 1:
            made[at] = rng.choice((0, 0x7F, 0x80, 0xFF))
        case 2:
            del made[at:]
        case 3:
            del made[at : at + rng.randrange(1, 64)]
        case 4:
            made[at:at] = made[at : at + rng.randrange(1, 64)]
        case 5:
            made[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)))
        case _:
            made[at : at + rng.randrange(8)] = rng.choice(TOKENS)
    return bytes(made)


def resealed(data: bytes, rng: random.Random) -> bytes:
    """Return a log with one record changed and its checksums made to fit, as somebody would who means harm."""
    entries = [entry for entry in logs.scan(memoryview(data)) if isinstance(entry, logs.Entry)]
    entry = rng.choice(entries)
    header = data[entry.header_at : entry.header_at + entry.header]
    body = data[entry.body_at : entry.end]
    fields = {"kind": entry.kind, "first": entry.first, "count": entry.count}
    match rng.randrange(4):
        case 0:
            name = rng.choice(list(fields))
            fields[name] = rng.choice((0, 1, 2, 3, 4, 5) if name == "kind" else (-1, 0, 1, 5, 2**31, 2**61, 2**62))
        case 1:
            header = flipped(header, rng)
        case 2:
            header = msgpack.packb(changed(msgpack.unpackb(header), rng))
        case _:
            body = flipped(body, rng)[: len(body) // 8 * 8] if body else bytes(8)
    made = logs.record(fields["kind"], fields["first"], fields["count"], header, len(body), zlib.crc32(body))
    return data[: entry.at] + made + body + data[entry.end :]


def changed(value: Any, rng: random.Random) -> Any:
    """Return plain values with one of them replaced by something that it should not be; the message inside too."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        if isinstance(value[key], bytes) and rng.random() < 0.8:
            return {**value, key: msgpack.packb(changed(msgpack.unpackb(value[key]), rng))}
        return (
            {**value, key: changed(value[key], rng)}
            if rng.random() < 0.9
            else {k: v for k, v in value.items() if k != key}
        )
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    return rng.choice(
        [None, -1, 0, 1, 7, 2**31, 2**63, 1.5, float("nan"), "x", "<c8", "../..", b"", [], {}, [[]] * 9, True]
    )


def put(directory: Path, files: Files) -> None:
    for path in directory.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        path = directory / name
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


def read_all(directory: Path) -> int:
    """Read what can be read, every byte of it; return how many messages there were."""
    count = 0
    with open_recording(directory, torn=True) as recording:
        for track in recording.ports.values():
            for message in track.messages():
                count += 1
                if isinstance(message, Frame):
                    for array in message.arrays.values():
                        array.tobytes()
        recording.verify()
    return count


MUTATIONS: dict[str, tuple[str, Callable[[bytes, random.Random], bytes], int]] = {
    "log": ("front.rf.log", flipped, 2_500),
    "resealed log": ("front.rf.log", resealed, 3_000),
    "samples": ("front.rf.rf.sigmf-data", flipped, 1_500),
    "metadata": ("front.rf.rf.sigmf-meta", flipped, 2_000),
    "facts": ("recording.json", flipped, 1_000),
}
"""Which file is changed, how, and how often in all: 10,000 times, a fifth of them in every run of the tests."""


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.soak) for part in range(1, 5))])
@pytest.mark.parametrize("what", MUTATIONS)
def test_whatever_is_changed_ends_in_an_error_of_ours_or_in_messages(
    files: Files, tmp_path: Path, what: str, part: int
) -> None:
    name, mutate, times = MUTATIONS[what]
    times //= 5
    rng = random.Random(f"{what} {part}")
    refused: list[str] = []
    put(tmp_path, files)
    for _ in range(times):
        (tmp_path / name).write_bytes(mutate(files[name], rng))
        try:
            assert read_all(tmp_path) < 100
        except StorageError as error:
            refused.append(str(error))
    assert all(str(tmp_path) in problem for problem in refused)
    assert len(refused) > times // 10


@pytest.mark.parametrize("what", MUTATIONS)
def test_whatever_is_changed_can_be_repaired_or_is_refused(files: Files, tmp_path: Path, what: str) -> None:
    name, mutate, times = MUTATIONS[what]
    rng = random.Random(f"repair {what}")
    repaired = 0
    refused: list[str] = []
    for _ in range(times // 25):
        put(tmp_path, {**files, name: mutate(files[name], rng)})
        try:
            repair(tmp_path)
        except StorageError as error:
            refused.append(str(error))
            continue
        read_all(tmp_path)
        assert all(one.whole for one in repair(tmp_path))
        repaired += 1
    assert all(str(tmp_path) in problem for problem in refused)
    assert repaired > times // 80 or what == "facts"  # those that are damaged are for people to look at
    assert {path.suffix for path in tmp_path.iterdir()} <= {".log", ".json", ".sigmf-data", ".sigmf-meta"}


def test_no_recording_names_a_file(files: Files, tmp_path: Path) -> None:
    """Names of arrays and ports that a recording holds lead nowhere else."""
    text = files["front.rf.log"].replace(b"front.rf", b"../../rf")
    put(tmp_path, {**files, "front.rf.log": text})
    with pytest.raises(StorageError, match="checksum does not fit"):
        open_recording(tmp_path)
    meta = json.loads(files["front.rf.rf.sigmf-meta"])
    meta["global"]["core:dataset"] = "../../etc/passwd"
    put(tmp_path, {**files, "front.rf.rf.sigmf-meta": json.dumps(meta).encode()})
    open_recording(tmp_path, verify=True)


def test_json_that_nests_for_ever_is_refused(files: Files, tmp_path: Path) -> None:
    put(tmp_path, {**files, "recording.json": b"[" * 100_000})
    with pytest.raises(StorageError, match=r"recording\.json: is no JSON"):
        open_recording(tmp_path)
