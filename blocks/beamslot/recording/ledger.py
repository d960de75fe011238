"""What a log amounts to so far: the descriptions, the slot due next, the samples of each stored array."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from beamslot.frame import Describe, Eos, Frame, Gap, StreamInfo
from beamslot.recording.layout import Segments, Stored
from beamslot.recording.metadata import Captures, Clock

Recordable = Describe | Frame | Gap | Eos
"""What a stream says, and what a recording keeps."""


@dataclass
class Ledger:
    """Kept by the writer while it writes, and made again from a log when one is resumed or repaired.

    port: its name    clock: of the capture times    infos: all descriptions    stream: what the last one is of
    captures: by file, of all stored arrays
    due: the slot after the last    slots, missing: slots of frames and of gaps    frames, gaps: how many there are
    ended: the end, where it came    reason: of the gap before the next frame, "" where there is none
    """

    port: str
    clock: Clock
    infos: list[StreamInfo] = field(default_factory=list[StreamInfo])
    stream: str = ""
    captures: dict[str, Captures] = field(default_factory=dict[str, Captures])
    due: int = 0
    slots: int = 0
    missing: int = 0
    frames: int = 0
    gaps: int = 0
    ended: Eos | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        self._segments = Segments(self.port)

    @property
    def kept(self) -> Mapping[str, Stored]:
        """By name, the stored arrays of the description that holds."""
        return self._segments.kept

    def repeats(self, message: Describe) -> bool:
        """Whether a description says what the one before said: taps repeat theirs, and so do restarts."""
        return bool(self.infos) and self.infos[-1] == message.info and self.stream == message.stream

    def describe(self, message: Describe) -> None:
        """Take in a description; one that changes the layout of stored arrays begins new files."""
        self._segments.describe(message.info)
        self.infos.append(message.info)
        self.stream = message.stream

    def rows(self, frame: Frame) -> dict[str, int]:
        """Return, for the arrays of a frame that are stored, the samples at which they begin."""
        return {
            name: self.captures[one.file].rows if one.file in self.captures else 0
            for name, one in self.kept.items()
            if (array := frame.arrays.get(name)) is not None
            and array.dtype == "<c8"
            and array.shape == (frame.count, *one.shape)
        }

    def frame(self, frame: Frame, rows: Mapping[str, Any]) -> None:
        """Take in a frame, of which the arrays in `rows` are stored."""
        slots = range(frame.first, frame.end)
        for name in rows:
            one = self.kept[name]
            captures = self.captures.setdefault(one.file, Captures(one))
            captures.add(slots, frame.captured, len(self.infos) - 1, self.infos, self.clock, self.reason)
        self.due, self.slots, self.frames, self.reason = frame.end, self.slots + frame.count, self.frames + 1, ""

    def gap(self, gap: Gap) -> None:
        """Take in a gap."""
        self.due, self.missing, self.gaps = gap.end, self.missing + gap.count, self.gaps + 1
        self.reason = self.reason or gap.reason

    def account(self) -> dict[str, int]:
        """Return what there is, in numbers."""
        return {"slots": self.slots, "missing": self.missing, "frames": self.frames, "gaps": self.gaps}
