"""SigMF recordings of any software: complex samples of N channels, mapped and converted a piece at a time.

Integers are scaled to full scale 1, as the `sigmf` library does. A last sample that is not whole is left out.

source: SigMF specification 1.2, core namespace
"""

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam
from beamslot.frame.checks import MAX_SLOT
from beamslot.recording.foreign.bounded import reading
from beamslot.recording.foreign.operator_file import LONGEST

META, DATA = ".sigmf-meta", ".sigmf-data"
DATATYPE = re.compile(r"([cr])([fiu])(64|32|16|8)(_le|_be)?")
MOST_TEXT = 1 << 26
MAX_CAPTURES = 100_000


@dataclass(frozen=True)
class Run:
    """Samples that follow each other.

    first: index of the first, by the device's count    row: which it is in the file    count: how many
    offset: where it begins in the file [bytes]
    """

    first: int
    row: int
    count: int
    offset: int = 0


@dataclass(frozen=True)
class SigmfFile:
    """A recording, opened.

    data: the file as bytes    part: dtype of a component    channels: components / 2 of a sample
    rate: samples a second, None where it does not say    frequency: of the first capture [Hz], 0 where it does not say
    """

    path: Path
    data: NDArray[np.uint8]
    part: np.dtype[Any]
    channels: int
    runs: tuple[Run, ...]
    rate: float | None
    frequency: float

    def read(self, start: int, stop: int) -> NDArray[np.complex64]:
        """Return samples start .. stop-1 of the file as (sample, channel) complex64."""
        pieces = [self._piece(run, start, stop) for run in self.runs if run.row < stop and run.row + run.count > start]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _piece(self, run: Run, start: int, stop: int) -> NDArray[np.complex64]:
        width = 2 * self.channels * self.part.itemsize
        low, high = max(start - run.row, 0), min(stop - run.row, run.count)
        raw = self.data[run.offset + low * width : run.offset + high * width].view(self.part)
        return _complex(raw).reshape(high - low, self.channels)


def _complex(raw: NDArray[Any]) -> NDArray[np.complex64]:
    if raw.dtype.kind == "f":
        return raw.astype(np.float32).view(np.complex64)
    full = 2.0 ** (8 * raw.dtype.itemsize - 1)
    wide = raw.astype(np.float64)
    return ((wide - full if raw.dtype.kind == "u" else wide) / full).astype(np.float32).view(np.complex64)


def read_sigmf(path: Path) -> SigmfFile:
    """Open a recording by the name of its metadata or of its data.

    raises StorageError where it cannot be read, BadParam naming the file, what came and what was wanted
    """
    meta, data = path.with_suffix(META), path.with_suffix(DATA)
    with reading(meta):
        if meta.stat().st_size > MOST_TEXT:
            raise BadParam(f"{meta}: has {meta.stat().st_size} bytes; the limit is {MOST_TEXT}")
        said = json.loads(meta.read_bytes())
        if not isinstance(said, dict) or not isinstance(said.get("global"), dict):
            raise BadParam(f"{meta}: is no SigMF metadata: wanted an object with global and captures")
        core, captures = said["global"], _captures(meta, said)
    part = _part(meta, core.get("core:datatype"))
    channels = _natural(meta, core, "core:num_channels", 1, LONGEST**2, least=1)
    if core.get("core:metadata_only") is True or core.get("core:dataset") is not None:
        raise BadParam(f"{meta}: the samples are elsewhere (core:metadata_only, core:dataset); wanted {data.name}")
    with reading(data):
        size = data.stat().st_size
        raw: NDArray[np.uint8] = np.memmap(data, np.uint8, "r") if size else np.empty(0, np.uint8)
    width = 2 * channels * part.itemsize
    trailing = _natural(meta, core, "core:trailing_bytes", 0, size)
    runs = _runs(meta, captures, size - trailing, width)
    rate = _positive(meta, core, "core:sample_rate")
    return SigmfFile(path, raw, part, channels, runs, rate, _positive(meta, captures[0], "core:frequency") or 0.0)


def _captures(meta: Path, said: dict[str, Any]) -> list[dict[str, Any]]:
    captures = said.get("captures") or [{"core:sample_start": 0}]
    if not isinstance(captures, list) or not all(isinstance(one, dict) for one in captures):
        raise BadParam(f"{meta}: captures is no list of objects")
    if len(captures) > MAX_CAPTURES:
        raise BadParam(f"{meta}: has {len(captures)} captures; the limit is {MAX_CAPTURES}")
    return captures


def _part(meta: Path, datatype: Any) -> np.dtype[Any]:
    found = DATATYPE.fullmatch(datatype) if isinstance(datatype, str) else None
    if found is None or (found[2] == "f" and int(found[3]) < 32) or (found[2] != "f" and found[3] == "64"):
        raise BadParam(
            f"{meta}: core:datatype is {str(datatype)[:40]!r}; wanted a complex one such as cf32_le, ci16_le"
        )
    if found[1] == "r":
        raise BadParam(f"{meta}: core:datatype is {datatype}, real samples; wanted complex ones")
    return np.dtype(f"{'>' if found[4] == '_be' else '<'}{found[2]}{int(found[3]) // 8}")


def _runs(meta: Path, captures: list[dict[str, Any]], size: int, width: int) -> tuple[Run, ...]:
    """Return the captures as runs: what lies between two by the device's count is a gap."""
    starts = [_natural(meta, one, "core:sample_start", 0, MAX_SLOT) for one in captures]
    if any(b <= a for a, b in pairwise(starts)):
        raise BadParam(f"{meta}: core:sample_start of the captures does not rise")
    begun = _natural(meta, captures[0], "core:global_index", starts[0], MAX_SLOT)
    runs: list[Run] = []
    headers = row = 0
    for number, (one, start) in enumerate(zip(captures, starts, strict=True)):
        headers += _natural(meta, one, "core:header_bytes", 0, max(size, 0))
        left = max((size - headers) // width - row, 0)
        end = starts[number + 1] - start if number + 1 < len(starts) else left
        first = _natural(meta, one, "core:global_index", begun + start - starts[0], MAX_SLOT) - begun
        if first < (runs[-1].first + runs[-1].count if runs else 0):
            raise BadParam(f"{meta}: core:global_index of capture {number} goes back to {first + begun}")
        count = min(end, left)
        if count:
            runs.append(Run(first, row, count, headers + row * width))
        row += count
    return tuple(runs)


def _natural(meta: Path, fields: dict[str, Any], key: str, default: int, most: int, least: int = 0) -> int:
    value = fields.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise BadParam(f"{meta}: {key} is {str(value)[:40]}; wanted a whole number from {least} to {most}")
    return value


def _positive(meta: Path, fields: dict[str, Any], key: str) -> float | None:
    value = fields.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e300:
        raise BadParam(f"{meta}: {key} is {str(value)[:40]}; wanted a finite number of 0 or more")
    return float(value)
