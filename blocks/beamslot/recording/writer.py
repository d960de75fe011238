"""Write the messages of one port as they come: streaming, in bounded memory, whole up to any moment of death."""

import fcntl
import hashlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from beamslot.errors import CorruptFrame, FrameError, StorageError, describe_slots
from beamslot.frame import Describe, Eos, Frame, Gap, decode, encode
from beamslot.recording import layout, log
from beamslot.recording.ledger import Ledger, Recordable
from beamslot.recording.metadata import Captures, Clock, metadata, written
from beamslot.recording.recount import recounted

_BUFFERS_AT_ONCE = 512
_PADDING = bytes(8)


class _File:
    """A file that is written at its end; a failed write leaves it as it was."""

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if new else 0)
        self._descriptor = os.open(path, flags, 0o644)
        self.size = os.fstat(self._descriptor).st_size

    def hold(self) -> None:
        """Show, as long as this process lives and the file is open, that it is being written."""
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def append(self, parts: Sequence[Any]) -> None:
        """Write some bytes-like parts, none of them empty; raises OSError."""
        left, at = [memoryview(part) for part in parts], self.size
        while left:
            done = os.pwritev(self._descriptor, left[:_BUFFERS_AT_ONCE], at)
            at += done
            while left and done >= left[0].nbytes:
                done -= left.pop(0).nbytes
            if done:
                left[0] = left[0][done:]
        self.size = at

    def cut(self, size: int) -> None:
        """Let go of what lies behind a size [bytes]; raises OSError."""
        os.ftruncate(self._descriptor, size)
        self.size = size

    def sync(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self._descriptor)

    def sha512(self) -> "hashlib._Hash":
        """Return the hash of what is in it."""
        digest, at = hashlib.sha512(), 0
        while piece := os.pread(self._descriptor, min(2**20, self.size - at), at):
            digest.update(piece)
            at += len(piece)
        return digest

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class Writer:
    """Keeps what a port says: arrays of complex64 as SigMF, all else in a log beside them (see FORMAT.md).

    directory: made where it is not there    port: "block.port"
    about: facts of the run for people and replays, plain values: flowgraph, overrides, seed, versions, threads, ...
    raises StorageError where the port is recorded there already, or nothing can be written
    """

    def __init__(self, directory: Path | str, port: str, *, about: Mapping[str, Any] | None = None) -> None:
        self.directory, self.port = Path(directory), layout.check_port(port)
        with self._telling("cannot be made"):
            self.directory.mkdir(parents=True, exist_ok=True)
        if layout.files(self.directory, port):
            raise StorageError(f"{self.directory}: {port} is recorded there already; wanted another directory")
        layout.amend(self.directory, about or {})
        self._data: dict[str, _File] = {}
        self._hashes: dict[str, Any] = {}
        self._ledger = Ledger(port, Clock(time.monotonic_ns(), time.time_ns()))
        self.closed = False
        with self._telling("cannot be made"):
            self._log = _File(self._path(layout.LOG), new=True)
            self._log.hold()
            clock = {"monotonic": self._ledger.clock.monotonic, "unix": self._ledger.clock.unix}
            header = log.pack({"log": layout.VERSION, "port": port, "clock": clock})
            self._log.append([log.record(log.BEGIN, 0, 0, header, 0, 0)])

    @classmethod
    def resume(cls, directory: Path | str, port: str, at: int) -> "Writer":
        """Return a writer that goes on where the log of a port had so many bytes; what came behind is cut off.

        raises StorageError where the log has less, or is damaged before that
        """
        made = cls.__new__(cls)
        made.directory, made.port = Path(directory), layout.check_port(port)
        made._ledger = recounted(made.directory, port, at)
        made._data, made._hashes, made.closed = {}, {}, False
        with made._telling("cannot be opened"):
            made._log = _File(made._path(layout.LOG), new=False)
            made._log.hold()
            made._log.cut(at)
            for path in layout.files(made.directory, port)[:-1]:
                if path.name.removesuffix(path.suffix) not in made._ledger.captures:
                    path.unlink()
            for captures in made._ledger.captures.values():
                file = made._open(captures.stored, new=False)
                file.cut(captures.rows * captures.stored.row_bytes)
        return made

    @property
    def at(self) -> int:
        """Bytes of the log: what `resume` takes."""
        return self._log.size

    @property
    def due(self) -> int:
        """The slot after the last that was written."""
        return self._ledger.due

    @property
    def nbytes(self) -> int:
        """Bytes written, of all files."""
        return self._log.size + sum(file.size for file in self._data.values())

    @property
    def account(self) -> dict[str, int]:
        """Slots and frames that came, slots missing and gaps."""
        return self._ledger.account()

    def write(self, message: Recordable) -> None:
        """Append a message; it is in the files, whole, when this returns.

        A description that says what the one before said, and an end behind an end, are passed over.
        raises StorageError where there is no room for it (all before it stays), it comes behind the end, or does not
            follow on what came; FrameError where the message is none that could travel
        """
        if isinstance(message, Eos) and self._ledger.ended is not None:
            return
        if self.closed:
            raise StorageError(f"{self.directory}: {self.port} is closed; nothing can be written any more")
        if isinstance(message, Describe):
            if not self._ledger.repeats(message):
                self._write(log.DESCRIBE, message, self._ledger.due, 0, {})
                self._ledger.describe(message)
            return
        if self._ledger.ended is not None:
            raise StorageError(f"{self.directory}: {self.port}: slot {message.first} came behind the end")
        if isinstance(message, Eos):
            self._write(log.EOS, message, self._ledger.due, 0, {})
            self._ledger.ended = message
            return
        if message.first < self._ledger.due:
            slots = describe_slots(range(message.first, message.end))
            raise StorageError(
                f"{self.directory}: {self.port}: {slots} came again or late; wanted {self._ledger.due} or later"
            )
        if isinstance(message, Gap):
            self._write(log.GAP, message, message.first, message.count, {})
            self._ledger.gap(message)
            return
        rows = self._ledger.rows(message)
        self._write(log.FRAME, message, message.first, message.count, rows)
        self._ledger.frame(message, rows)

    def _write(self, kind: int, message: Recordable, first: int, count: int, rows: Mapping[str, int]) -> None:
        parts = encode(message)
        decode(parts)  # what could not be read again is refused here
        if first + count >= log.MAX_SLOT:
            raise CorruptFrame(f"slots {first}..{first + count - 1} end behind 2**62 - 1")
        names = list(message.arrays) if isinstance(message, Frame) else [""] * (len(parts) - 2)
        inline: list[Any] = []
        placed: list[tuple[str, memoryview]] = []
        for name, part in zip(names, parts[2:], strict=True):
            data = _bytes(part)
            if name in rows:
                placed.append((name, data))
            elif data.nbytes:
                inline += [data, _PADDING[: log.padded(data.nbytes) - data.nbytes]]
        inline = [part for part in inline if len(part)]
        header = log.pack({"message": bytes(parts[1]), "rows": [rows.get(name) for name in names]})
        body = sum(memoryview(part).nbytes for part in inline)
        crc = log.checksum([*inline, *(data for _, data in placed)])
        where = f" at slot {first}" if kind in (log.FRAME, log.GAP) else ""
        self._append(placed, [log.record(kind, first, count, header, body, crc), *inline], where)
        for name, data in placed:
            if digest := self._hashes.get(self._ledger.kept[name].file):
                digest.update(data)

    def _append(self, placed: Sequence[tuple[str, memoryview]], record: Sequence[Any], where: str) -> None:
        """Append samples and behind them the record that tells of them; where one has no room, all are taken back."""
        begun = [(self._log, self._log.size)]
        try:
            for name, data in placed:
                file = self._file(name)
                begun.append((file, file.size))
                file.append([data])
            self._log.append(record)
        except (OSError, StorageError) as error:
            for file, size in begun:
                with suppress(OSError):
                    file.cut(size)
            why = layout.why(error) if isinstance(error, OSError) else str(error)
            raise StorageError(
                f"{self.directory}: {self.port} cannot be written{where}: {why}; what came before is kept"
            ) from None

    def _file(self, name: str) -> _File:
        stored = self._ledger.kept[name]
        return self._data.get(stored.file) or self._open(stored, new=True)

    def _open(self, stored: layout.Stored, *, new: bool) -> _File:
        file = self._data[stored.file] = _File(self.directory / f"{stored.file}{layout.DATA}", new=False)
        if new:
            self._hashes[stored.file] = hashlib.sha512()
            self._begin_metadata(stored)
        return file

    def _begin_metadata(self, stored: layout.Stored) -> None:
        """Write metadata before the first samples, so that even a killed recording can be read by others."""
        about = layout.read_about(self.directory)
        path = self.directory / f"{stored.file}{layout.META}"
        meta = metadata(self.port, Captures(stored), self._ledger.infos, about, None)
        meta["captures"] = [{"core:sample_start": 0}]
        layout.write_whole(path, written(meta, str(path)))

    def sync(self) -> None:
        """Wait until all that was written is on the disk; raises StorageError."""
        with self._telling("cannot be written"):
            for file in self._data.values():
                file.sync()
            self._log.sync()

    def close(self) -> None:
        """Write captures and hashes, mark the log as whole, and let go of the files; a second time it does nothing.

        raises StorageError where there is no room for that: the recording can be read, and `repair` completes it
        """
        if self.closed:
            return
        self.closed = True
        try:
            finish(self.directory, self._ledger, {name: self._digest(name) for name in self._ledger.captures})
            with self._telling("cannot be written"):
                for name in self._data.keys() - self._ledger.captures.keys():  # a first frame that had no room
                    for suffix in (layout.DATA, layout.META):
                        (self.directory / f"{name}{suffix}").unlink(missing_ok=True)
                self._log.append([closing_record(self._ledger)])
        finally:
            for file in (self._log, *self._data.values()):
                file.close()

    def _digest(self, name: str) -> str:
        known = self._hashes.get(name)
        return (known or self._data[name].sha512()).hexdigest()

    def _path(self, suffix: str) -> Path:
        return self.directory / f"{self.port}{suffix}"

    def _telling(self, what: str) -> AbstractContextManager[None]:
        return _telling(f"{self.directory}: {self.port} {what}")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bytes(part: Any) -> memoryview:
    return memoryview(np.asarray(part).reshape(-1).view(np.uint8))  # pyright: ignore[reportArgumentType]


@contextmanager
def _telling(what: str) -> Generator[None]:
    """Turn what the system says into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {layout.why(error)}") from None


def closing_record(ledger: Ledger, repaired: str = "") -> bytes:
    """Return the record that says that a log is whole.

    repaired: what was wrong with it, "" where its writer ended as it should
    """
    return log.record(log.CLOSE, ledger.due, 0, log.pack({"closed": ledger.account(), "repaired": repaired}), 0, 0)


def finish(directory: Path, ledger: Ledger, hashes: Mapping[str, str]) -> None:
    """Write the metadata of all stored arrays of a port.

    hashes: SHA-512 of the samples, by file
    raises StorageError
    """
    about = layout.read_about(directory)
    for name, captures in ledger.captures.items():
        path = directory / f"{name}{layout.META}"
        infos = ledger.infos
        try:
            layout.write_whole(path, written(metadata(ledger.port, captures, infos, about, hashes[name]), str(path)))
        except FrameError as error:
            raise StorageError(f"{path}: {error}") from None
