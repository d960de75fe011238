"""Read a recording: the messages of each port as they came, arrays as read-only views of the files."""

import hashlib
import mmap
import os
from array import array as compact
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from beamslot.errors import FrameError, StorageError, UnknownPort
from beamslot.frame import DTYPES, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.frame.codec import decode_body, decode_header
from beamslot.recording import layout, log
from beamslot.recording.ledger import Recordable
from beamslot.recording.log import Entry
from beamslot.recording.metadata import Clock

_KINDS: dict[int, type[Recordable]] = {log.DESCRIBE: Describe, log.FRAME: Frame, log.GAP: Gap, log.EOS: Eos}


def mapped(path: Path) -> memoryview:
    """Return a file as read-only bytes, mapped and not read; raises StorageError."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {layout.why(error)}") from None


class Track:
    """What one port said.

    name: "block.port"    infos: all descriptions    gaps, eos: as they came
    first, last: of the slots of its frames and gaps, None where there are none
    slots, missing: slots of frames and of gaps    longest: the most slots of a frame
    closed: whether its log is whole: its writer ended as it should, or it was repaired
    repaired: what was wrong with it then, "" where nothing was
    torn: what is wrong with the end of the log, "" where it is whole; what lies before can be read
    bytes: of the log, as far as it is whole    clock: one moment on the clock of the capture times and in UTC
    """

    def __init__(self, directory: Path, name: str, *, torn: bool = False) -> None:
        self.directory, self.name = directory, layout.check_port(name)
        self._path = directory / f"{name}{layout.LOG}"
        self.data = mapped(self._path)
        self._samples: dict[str, memoryview] = {}
        self._at, self._first, self._end = compact("q"), compact("q"), compact("q")
        self._described: list[int] = []
        self._segments = layout.Segments(name)
        self._kept: list[Mapping[str, layout.Stored]] = []
        self.infos: list[StreamInfo] = []
        self.streams: list[str] = []
        self.closed, self.torn, self.repaired = False, "", ""
        self.eos: Eos | None = None
        self.clock = Clock(0, 0)
        self.bytes = 0
        self.slots = self.missing = self.longest = 0
        self.first: int | None = None
        self.last: int | None = None
        self.gaps: list[Gap] = []
        self._scan()
        if self.torn and not torn:
            raise StorageError(f"{self._path}: {self.torn}; `beamslot record --repair {directory}` cuts it off")

    def _scan(self) -> None:
        for entry in log.scan(self.data):
            if isinstance(entry, str):
                self.torn = entry
                return
            if self.closed:
                self.torn = f"{len(self.data) - entry.at} bytes at byte {entry.at} come behind the end"
                return
            try:
                self._take(entry)
            except StorageError as error:
                self.torn = str(error)
                return
            self.bytes = entry.end
        if not self.bytes:
            self.torn = "is empty"

    def _take(self, entry: Entry) -> None:
        if entry.kind == log.BEGIN:
            self.clock = begin(self._header(entry), self.name, str(self._path))
            return
        if entry.kind == log.CLOSE:
            said = self._header(entry).get("repaired", "")
            self.closed, self.repaired = True, said if isinstance(said, str) else ""
            return
        if entry.kind == log.DESCRIBE:
            self._describe(entry)
        elif entry.kind == log.GAP:
            self.gaps += [gap for gap in [self.read(entry)] if isinstance(gap, Gap)]
            self.missing += entry.count
        elif entry.kind == log.EOS:
            eos = self.read(entry)
            self.eos = eos if isinstance(eos, Eos) else None
        else:
            self.slots += entry.count
            self.longest = max(self.longest, entry.count)
        if entry.count:
            self.first = entry.first if self.first is None else self.first
            self.last = entry.first + entry.count - 1
        self._at.append(entry.at)
        self._first.append(entry.first)
        self._end.append(entry.first + entry.count)

    def _describe(self, entry: Entry) -> None:
        message = self.read(entry)
        if not isinstance(message, Describe):
            return
        self._described.append(len(self._at))
        self._kept.append(self._segments.describe(message.info))
        self.infos.append(message.info)
        self.streams.append(message.stream)

    def __len__(self) -> int:
        return len(self._at)

    def __repr__(self) -> str:
        return f"Track({self.name!r}, slots {self.first}..{self.last}, {self.slots} recorded, {self.missing} missing)"

    def messages(self, first: int = 0, slots: int | None = None) -> Iterator[Recordable]:
        """Yield what the port said, exactly as it said it.

        first, slots: only frames and gaps that reach into these slots, whole; the description that holds there comes
            first, the end last where it lies within
        Arrays are read-only views of the files, valid as long as they are held.
        raises StorageError naming file and place of what is damaged
        """
        stop = None if slots is None else first + slots
        index = self._index_of(first)
        held = bisect_right(self._described, index) - 1
        if held >= 0 and self._described[held] < index:
            yield Describe(self.streams[held], self.infos[held])
        for number in range(index, len(self)):
            timed = self._end[number] > self._first[number]
            if stop is not None and (self._first[number] >= stop if timed else self._first[number] > stop):
                return
            message = self._message(number)
            if not timed and stop is not None and self._first[number] == stop and not isinstance(message, Eos):
                return
            yield message

    def _index_of(self, slot: int) -> int:
        """Return the first message that reaches to a slot or lies behind it."""
        return bisect_right(self._end, slot) if slot > 0 else 0

    def _message(self, number: int) -> Recordable:
        return self.read(self._entry(number), self._held(number))

    def _entry(self, number: int) -> Entry:
        entry = log.entry_at(self.data, self._at[number], self._first[number])
        if isinstance(entry, str):
            raise StorageError(f"{self._path}: {entry}")
        return entry

    def _held(self, number: int) -> int:
        """Return which description holds at a message."""
        return bisect_right(self._described, number) - 1

    def _where(self, entry: Entry) -> str:
        return f"{self._path}: record at byte {entry.at}"

    def _header(self, entry: Entry) -> dict[str, Any]:
        return log.unpack(self.data[entry.header_at : entry.header_at + entry.header], self._where(entry))

    def read(self, entry: Entry, held: int = -1) -> Recordable:
        """Return the message of a record.

        held: which description holds there
        """
        header, rows = self._wire(entry)
        try:
            message = decode_body(header, self._buffers(header, rows, entry, held))
        except FrameError as error:
            raise StorageError(f"{self._where(entry)}: {error}") from None
        kind = _KINDS[entry.kind]
        if not isinstance(message, kind):
            raise StorageError(f"{self._where(entry)}: is a {type(message).__name__}; its prefix says {kind.__name__}")
        if isinstance(message, Frame | Gap) and (message.first, message.count) != (entry.first, entry.count):
            came, said = f"{message.first}+{message.count}", f"{entry.first}+{entry.count}"
            raise StorageError(f"{self._where(entry)}: slots {came} came; its prefix says {said}")
        return message

    def _wire(self, entry: Entry) -> tuple[dict[str, Any], list[Any]]:
        """Return the header of the message in a record, as it travels, and where the samples of its arrays begin."""
        fields = self._header(entry)
        wire, rows = fields.get("message"), fields.get("rows")
        if not isinstance(wire, bytes) or not isinstance(rows, list):
            raise StorageError(f"{self._where(entry)}: holds no message; wanted message and rows")
        try:
            return decode_header(wire), rows
        except FrameError as error:
            raise StorageError(f"{self._where(entry)}: {error}") from None

    def _buffers(self, header: Mapping[str, Any], rows: list[Any], entry: Entry, held: int) -> list[memoryview]:
        specs = header.get("buffers", ())
        if not isinstance(specs, tuple) or len(specs) != len(rows):
            raise StorageError(f"{self._where(entry)}: its rows are not those of its buffers")
        kept = self._kept[held] if held >= 0 else {}
        at, buffers = entry.body_at, list[memoryview]()
        for spec, row in zip(specs, rows, strict=True):
            name, nbytes = _size(spec, self._where, entry)
            if row is None:
                buffers.append(self.data[at : min(at + nbytes, entry.end)])
                at += log.padded(nbytes)
            else:
                buffers.append(self._rows(kept.get(name), row, entry))
        return buffers

    def _rows(self, kept: layout.Stored | None, row: Any, entry: Entry) -> memoryview:
        if kept is None or type(row) is not int or row < 0:
            raise StorageError(f"{self._where(entry)}: points to samples that no description has")
        data = self._samples.get(kept.file)
        if data is None:
            data = self._samples[kept.file] = mapped(self._data_path(kept))
        begin, end = row * kept.row_bytes, (row + entry.count) * kept.row_bytes
        if end > len(data):
            path = self._data_path(kept)
            raise StorageError(f"{path}: has {len(data)} bytes; the log has slots of it up to byte {end}")
        return data[begin:end]

    def _data_path(self, kept: layout.Stored) -> Path:
        return self.directory / f"{kept.file}{layout.DATA}"

    def verify(self) -> None:
        """Check every byte: the checksum of each message, and the hash of each file of samples that has one.

        raises StorageError naming the first message or file that is not as it was written
        """
        for number in range(len(self)):
            entry = self._entry(number)
            if self.checksum(entry, self._held(number)) != entry.crc:
                raise StorageError(f"{self._where(entry)}: the checksum of slot {entry.first} does not fit")
        for path in layout.files(self.directory, self.name):
            if path.suffix == layout.META:
                _verify_hash(path)

    def rows_of(self, entry: Entry) -> list[Any]:
        """Return where the samples of the arrays of a frame begin, None for those in the log."""
        return self._wire(entry)[1]

    def checksum(self, entry: Entry, held: int) -> int:
        """Return the checksum of body and samples of a record as they are now.

        held: which description holds there
        """
        inline = [self.data[entry.body_at : entry.end]]
        if entry.kind != log.FRAME:
            return log.checksum(inline)
        header, rows = self._wire(entry)
        buffers = self._buffers(header, rows, entry, held)
        return log.checksum([*inline, *(b for b, row in zip(buffers, rows, strict=True) if row is not None)])

    def close(self) -> None:
        """Let go of the files; arrays that are still held keep theirs."""
        self._samples.clear()
        self.data = memoryview(b"")


def _size(spec: Any, where: Callable[[Entry], str], entry: Entry) -> tuple[Any, int]:
    """Return name and bytes of a buffer; the codec checks all else."""
    try:
        name, dtype, shape = spec
        nbytes = DTYPES[dtype].itemsize
        for n in shape:
            if type(n) is not int or not 0 <= n < 2**31:
                raise ValueError(n)
            nbytes *= n
    except (KeyError, TypeError, ValueError):
        raise StorageError(f"{where(entry)}: its list of buffers makes no sense") from None
    if nbytes > log.MAX_BODY:
        raise StorageError(f"{where(entry)}: a buffer wants {nbytes} bytes; the limit is {log.MAX_BODY}")
    return name, nbytes


def begin(header: Mapping[str, Any], port: str, where: str) -> Clock:
    """Return the clock that the first record of a log tells; raises StorageError where it is none of this port."""
    clock = header.get("clock")
    if header.get("log") != layout.VERSION:
        raise StorageError(f"{where}: is a log of version {str(header.get('log'))[:40]}; wanted {layout.VERSION}")
    if header.get("port") != port:
        raise StorageError(f"{where}: is the log of {str(header.get('port'))[:80]}; wanted {port}")
    if not isinstance(clock, dict) or not all(
        type(clock.get(key)) is int and 0 <= clock[key] < 2**63 for key in ("monotonic", "unix")
    ):
        raise StorageError(f"{where}: its clock makes no sense")
    return Clock(clock["monotonic"], clock["unix"])


def _verify_hash(path: Path) -> None:
    said = layout.read_json(path).get("global", {})
    wanted = said.get("core:sha512") if isinstance(said, dict) else None
    if wanted is None:
        return
    data = path.with_suffix(layout.DATA)
    found = hashlib.sha512(mapped(data)).hexdigest()
    if found != wanted:
        raise StorageError(f"{data}: hashes to {found[:16]}...; its metadata says {str(wanted)[:16]}...")


class Recording:
    """A recorded run, or those of its ports that were recorded.

    about: facts of the run: flowgraph, overrides, seed, versions, threads, timeline (changes of parameters, each with
        slot, block, parameter, value), whatever its writer knew
    ports: what each port said, by name
    """

    def __init__(self, directory: Path, *, torn: bool = False) -> None:
        self.path = directory
        self.about = layout.read_about(directory)
        self.ports = {name: Track(directory, name, torn=torn) for name in layout.ports(directory)}
        if not self.ports:
            raise StorageError(f"{directory}: no port is recorded there; wanted at least one BLOCK.PORT{layout.LOG}")

    @cached_property
    def complete(self) -> bool:
        """Whether every writer ended as it should, without a repair."""
        return all(track.closed and not track.repaired for track in self.ports.values())

    def __getitem__(self, port: str) -> Track:
        if port not in self.ports:
            raise UnknownPort(f"{self.path}: {port!r} is not recorded; there is {', '.join(self.ports)}")
        return self.ports[port]

    def verify(self) -> None:
        """Check every byte of every port; raises StorageError naming the first that is not as it was written."""
        for track in self.ports.values():
            track.verify()

    def close(self) -> None:
        """Let go of the files."""
        for track in self.ports.values():
            track.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_recording(path: Path | str, *, verify: bool = False, torn: bool = False) -> Recording:
    """Open a recording; arrays are mapped and not read, hashes not checked.

    path: its directory
    verify: check every byte
    torn: read up to where a log is damaged or ends in the middle of a record (Track.torn says where), as while it is
        written; else that is refused
    raises StorageError where there is none, or it is damaged
    """
    recording = Recording(Path(path), torn=torn)
    if verify:
        recording.verify()
    return recording
