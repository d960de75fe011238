"""Compare what a port says with what it said when it was recorded, message by message, to the last bit."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.frame import Frame, Gap
from beamslot.recording.reasons import UNSEEN
from beamslot.recording.reel import Reel


@dataclass(frozen=True)
class Difference:
    """Where a port said something else, at its first slot that differs.

    array: which; "slots" where a slot came as a gap on one side, "operator" where it was measured otherwise
    index: of the first entry that differs, by axis but slot    entries: how many of the slot differ
    recorded, replayed: that entry, or what came    largest: of |recorded - replayed| in that slot, None where none is
    """

    slot: int
    array: str
    recorded: Any
    replayed: Any
    index: tuple[int, ...] = ()
    entries: int = 0
    largest: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as plain values; a complex number is [real, imaginary]."""
        return {
            "slot": self.slot,
            "array": self.array,
            "index": list(self.index),
            "recorded": _plain(self.recorded),
            "replayed": _plain(self.replayed),
            "entries": self.entries,
            "largest": self.largest,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return [value.real, value.imag] if isinstance(value, complex) else value


class PortComparison:
    """One port, compared as its messages come.

    slots: compared    differing: of these    unrecorded: that the recording has not
    first: the first difference    framing: the first slot that came in a frame of other slots than recorded
    restarted: the first slot from which the recorded block had lost its state
    fed: the first slot that did not come because what led to it is not recorded
    """

    def __init__(self, reel: Reel) -> None:
        self._reel = reel
        self.slots = self.differing = self.unrecorded = 0
        self.first: Difference | None = None
        self.framing: int | None = None
        self.restarted: int | None = None
        self.fed: int | None = None

    def take(self, message: Frame | Gap) -> None:
        """Compare the next frame or gap."""
        items = self._reel.take(range(message.first, message.end))
        pieces = [item for item in items if isinstance(item, Frame | Gap)]
        if isinstance(message, Frame) and self.framing is None and not _framed_as(message, pieces):
            self.framing = message.first
        for piece in pieces:
            if isinstance(piece, Frame) and self.restarted is None and "restarted" in piece.tags:
                self.restarted = piece.first
            self._compare(piece, message)

    def _compare(self, piece: Frame | Gap, message: Frame | Gap) -> None:
        if isinstance(message, Gap) and message.reason in UNSEEN and self.fed is None:
            self.fed = message.first
        if any(isinstance(one, Gap) and one.reason in UNSEEN for one in (piece, message)):
            self.unrecorded += piece.count
            return
        self.slots += piece.count
        if isinstance(piece, Gap) and isinstance(message, Gap):
            return
        if isinstance(piece, Frame) and isinstance(message, Frame):
            self._compare_arrays(piece, message)
            return
        self._differ(piece.count, Difference(piece.first, "slots", _came(piece), _came(message)))

    def _differ(self, slots: int, difference: Difference) -> None:
        self.differing += slots
        if self.first is None:
            self.first = difference

    def _compare_arrays(self, recorded: Frame, came: Frame) -> None:
        first = recorded.first
        if recorded.operator != came.operator:
            self._differ(recorded.count, Difference(first, "operator", recorded.operator, came.operator))
            return
        differing: set[int] = set()
        found: list[Difference] = []
        unlike: list[Difference] = []
        for name in sorted({*recorded.arrays, *came.arrays}):
            one, other = recorded.arrays.get(name), came.arrays.get(name)
            array = self._reel.info.arrays.get(name)
            by_slot = array is not None and "slot" in array.axes
            if other is not None and by_slot:
                other = other[first - came.first : recorded.end - came.first]
            if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
                unlike.append(Difference(first, name, _shape(one), _shape(other)))
                continue
            if not by_slot:  # it stands for all slots of its frame
                one, other = one[None], other[None]
            if rows := _rows_that_differ(one, other):
                differing |= {first + row for row in rows} if by_slot else {*range(first, recorded.end)}
                found.append(_difference(first, name, one, other, rows[0]))
        if found or unlike:  # a value that differs says more than a shape
            self._differ(recorded.count if unlike else len(differing), min(found or unlike, key=lambda one: one.slot))

    def plain(self) -> dict[str, Any]:
        """Return what was found as plain values."""
        return {
            "slots": self.slots,
            "differing": self.differing,
            "unrecorded": self.unrecorded,
            "framing": self.framing,
            "restarted": self.restarted,
            "fed": self.fed,
            "first": None if self.first is None else self.first.plain(),
        }


def _framed_as(message: Frame, pieces: list[Frame | Gap]) -> bool:
    frames = [piece for piece in pieces if isinstance(piece, Frame)]
    return not frames or (len(pieces) == 1 and (frames[0].first, frames[0].end) == (message.first, message.end))


def _came(message: Frame | Gap) -> str:
    return f"a gap, {message.reason}" if isinstance(message, Gap) else "a frame"


def _shape(array: NDArray[Any] | None) -> str:
    return "nothing" if array is None else f"{array.dtype} {array.shape}"


def _bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an array as bytes, one more axis at its end: NaN equals itself, and -0 is not 0."""
    return np.ascontiguousarray(array).reshape(*array.shape, 1).view(np.uint8)


def _rows_that_differ(one: NDArray[Any], other: NDArray[Any]) -> list[int]:
    if one.tobytes() == other.tobytes():
        return []
    unlike = (_bits(one) != _bits(other)).any(-1)
    return np.flatnonzero(unlike.reshape(len(one), -1).any(1)).tolist()


def _difference(first: int, name: str, one: NDArray[Any], other: NDArray[Any], row: int) -> Difference:
    left, right = np.asarray(one[row]), np.asarray(other[row])
    unlike = (_bits(left) != _bits(right)).any(-1)
    index = tuple(np.argwhere(unlike)[0].tolist())
    largest = None
    if one.dtype.kind in "fciu":
        wide = np.complex128 if one.dtype.kind == "c" else np.float64
        distance = float(np.max(np.abs(left.astype(wide) - right.astype(wide)), initial=0.0, where=unlike))
        largest = distance if math.isfinite(distance) else None
    return Difference(first + row, name, left[index], right[index], index, int(unlike.sum()), largest)
