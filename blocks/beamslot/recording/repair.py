"""Make a recording whole again after a crash: cut off what is torn or damaged, write captures and hashes anew."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from beamslot.errors import StorageError
from beamslot.recording import layout, log
from beamslot.recording.ledger import Ledger
from beamslot.recording.metadata import Captures
from beamslot.recording.reader import Track, mapped
from beamslot.recording.recount import recount
from beamslot.recording.writer import closing_record, finish


@dataclass
class Repaired:
    """What was done to one port.

    whole: whether nothing had to be done    slots, last: what is left, and its last slot
    cut: bytes that were cut off, by file    problem: what was wrong
    """

    port: str
    whole: bool
    slots: int = 0
    missing: int = 0
    last: int | None = None
    cut: dict[str, int] = field(default_factory=dict[str, int])
    problem: str = ""

    def __str__(self) -> str:
        left = f"{self.slots} slots" + (f" up to slot {self.last}" if self.last is not None else "")
        left += f", {self.missing} missing between them" if self.missing else ""
        if self.whole:
            return f"{self.port}: whole; {left}"
        cuts = ", ".join(f"{nbytes} bytes of {name}" for name, nbytes in self.cut.items()) or "nothing"
        why = f" ({self.problem})" if self.problem else ""
        return f"{self.port}: cut {cuts}{why}; {left} are left"


def repair(directory: Path | str) -> list[Repaired]:
    """Make every port of a recording whole and return what was done to each.

    What is damaged, and all behind it, is cut off: each message that is left has been checked byte by byte.
    raises StorageError where there is no recording, it is being written, or it cannot be
    """
    place = Path(directory)
    if not (place / layout.RECORDING).exists() and layout.ports(place):
        layout.amend(place, {})
    layout.read_about(place)
    layout.check_free(place)
    found = [_repair(place, port) for port in layout.ports(place)]
    if not found:
        raise StorageError(f"{place}: no port is recorded there; wanted at least one BLOCK.PORT{layout.LOG}")
    return found


def _repair(directory: Path, port: str) -> Repaired:
    path = directory / f"{port}{layout.LOG}"
    track = Track(directory, port, torn=True)
    if not track.bytes:
        return _emptied(directory, port, track)
    ledger, end, problem = recount(track, track.bytes, checked=True)
    problem = problem or track.torn
    last = ledger.due - 1 if ledger.slots or ledger.missing else None
    done = Repaired(port, whole=True, slots=ledger.slots, missing=ledger.missing, last=last, problem=problem)
    if track.closed and not problem and _is_finished(directory, ledger):
        return done
    closing = track.bytes - end if track.closed and not problem else 0  # written anew, behind what is left
    track.close()
    done.whole = False
    try:
        _cut(path, end + closing, done)
        os.truncate(path, end)
        hashes = {name: _cut_samples(directory, name, captures, done) for name, captures in ledger.captures.items()}
        for file in layout.files(directory, port)[:-1]:
            if file.name.removesuffix(file.suffix) not in ledger.captures:
                done.cut[file.name] = file.stat().st_size
                file.unlink()
        finish(directory, ledger, hashes)
        with path.open("ab") as log_file:
            log_file.write(closing_record(ledger, problem or "was not closed"))
    except OSError as error:
        raise StorageError(f"{directory}: {port} cannot be repaired: {layout.why(error)}") from None
    return done


def _emptied(directory: Path, port: str, track: Track) -> Repaired:
    """Remove a port that was killed before its first record was whole; refuse one that has more than that."""
    path = directory / f"{port}{layout.LOG}"
    size = path.stat().st_size
    if size > log.PREFIX + 256 or len(layout.files(directory, port)) > 1:
        raise StorageError(f"{path}: {track.torn}; nothing of it can be read, and nothing was changed")
    path.unlink()
    return Repaired(port, whole=False, cut={path.name: size}, problem=track.torn)


def _is_finished(directory: Path, ledger: Ledger) -> bool:
    """Whether all samples, and nothing else, are in their files, with their metadata."""
    sizes = {f"{name}{layout.DATA}": kept.rows * kept.stored.row_bytes for name, kept in ledger.captures.items()}
    files = layout.files(directory, ledger.port)[:-1]
    found = {path.name: path.stat().st_size for path in files if path.suffix == layout.DATA}
    metas = [path for path in files if path.suffix == layout.META]
    try:
        told = [layout.read_json(path).get("global", {}) for path in metas]
    except StorageError:
        return False
    return sizes == found and len(told) == len(sizes) and all("core:sha512" in one for one in told)


def _cut(path: Path, size: int, done: Repaired) -> None:
    found = path.stat().st_size
    if found > size:
        done.cut[path.name] = found - size
        os.truncate(path, size)


def _cut_samples(directory: Path, name: str, captures: Captures, done: Repaired) -> str:
    path = directory / f"{name}{layout.DATA}"
    _cut(path, captures.rows * captures.stored.row_bytes, done)
    return hashlib.sha512(mapped(path)).hexdigest()
