"""What the log of a port on disk amounts to: the ledger that its writer had kept."""

from pathlib import Path

from beamslot.errors import StorageError
from beamslot.frame import Describe, Eos, Frame
from beamslot.recording import layout, log
from beamslot.recording.ledger import Ledger
from beamslot.recording.reader import Track


def recounted(directory: Path, port: str, at: int) -> Ledger:
    """Return what a log amounts to up to so many bytes; raises StorageError where it has less, or is damaged."""
    track = Track(directory, port, torn=True)
    ledger, end, problem = recount(track, at, checked=False)
    if end != at:
        raise StorageError(
            f"{directory / port}{layout.LOG}: holds {end} whole bytes; wanted the {at} that were written before"
            + (f" ({problem})" if problem else "")
        )
    return ledger


def recount(track: Track, upto: int, *, checked: bool) -> tuple[Ledger, int, str]:
    """Return what the messages of a track amount to, the byte up to which they are sound, and what is wrong there."""
    ledger, end = Ledger(track.name, track.clock), 0
    for entry in log.scan(track.data[: track.bytes]):
        if isinstance(entry, str) or entry.end > upto or entry.kind == log.CLOSE:
            break
        if entry.kind != log.BEGIN:
            try:
                _take(track, entry, ledger, checked=checked)
            except StorageError as error:
                return ledger, end, str(error)
        end = entry.end
    return ledger, end, ""


def _take(track: Track, entry: log.Entry, ledger: Ledger, *, checked: bool) -> None:
    held = len(ledger.infos) - 1
    message = track.read(entry, held)
    if checked and track.checksum(entry, held) != entry.crc:
        raise StorageError(f"record at byte {entry.at}: the checksum of slot {entry.first} does not fit")
    if isinstance(message, Describe):
        ledger.describe(message)
    elif isinstance(message, Frame):
        rows = ledger.rows(message)
        if track.rows_of(entry) != [rows.get(name) for name in message.arrays]:
            raise StorageError(f"record at byte {entry.at}: its samples do not follow on those before")
        ledger.frame(message, rows)
    elif isinstance(message, Eos):
        ledger.ended = message
    else:
        ledger.gap(message)
