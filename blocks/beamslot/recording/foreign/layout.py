"""Samples of other software as a stream: which axis is what, and which slot is where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam
from beamslot.frame import Array, Frame, Gap, StreamInfo
from beamslot.frame.checks import MAX_LENGTH
from beamslot.recording.foreign.operator_file import FrontEnd
from beamslot.recording.foreign.sigmf_file import Run
from beamslot.recording.reasons import NOT_RECORDED

RF = Array.of("slot user y chain", np.complex64, "sqrt(W)")
FIELD = Array.of("slot user y z", np.complex64, "sqrt(W)")

Read = Callable[[int, int], NDArray[np.complex64]]


@dataclass(frozen=True)
class Foreign:
    """A recording of other software as a stream of one array, `rf` or `field`.

    read: returns slots start .. stop-1 of the file, (slot, user, y, chain or z) complex64
    runs: which slots are where in the file
    """

    path: Path
    info: StreamInfo
    read: Read
    runs: tuple[Run, ...]

    @property
    def end(self) -> int:
        """The slot after the last."""
        return self.runs[-1].first + self.runs[-1].count

    def item(self, slots: range) -> Frame | Gap:
        """Return the frame of the slots, or as much of it as lies before the next gap; or the gap."""
        for run in self.runs:
            if slots.start < run.first:
                return Gap(slots.start, min(run.first, slots.stop) - slots.start, NOT_RECORDED)
            if slots.start < run.first + run.count:
                return self._frame(run, slots.start, min(slots.stop, run.first + run.count))
        raise BadParam(f"{self.path}: has no slot {slots.start}; it ends at {self.end}")

    def _frame(self, run: Run, first: int, end: int) -> Frame:
        (name,) = self.info.arrays
        values = self.read(run.row + first - run.first, run.row + end - run.first)
        values.flags.writeable = False
        operator = self.info.operator
        return Frame(first, end - first, {name: values}, operator=operator.hash if operator else None)


def stream_of(front_end: FrontEnd, at_antennas: bool, slot_period: float | None, carrier: float = 0.0) -> StreamInfo:
    """Return the description of a stream of such a front end.

    at_antennas: whether the samples are those of the antennas, whatever is behind them
    slot_period, carrier: what the recording says [s, Hz]; the operator file comes first
    """
    geometry, operator = front_end.geometry, None if at_antennas else front_end.operator
    axes = {"user": front_end.users, "y": geometry.n_y}
    if operator is None:
        arrays, axes = {"field": FIELD}, {**axes, "z": geometry.n_z}
    else:
        arrays, axes = {"rf": RF}, {**axes, "chain": operator.weights.shape[1]}
    return StreamInfo(
        arrays,
        axes,
        front_end.slot_period or slot_period or 1e-3,
        front_end.carrier or carrier,
        geometry,
        operator,
    )


def reader(
    path: Path, what: str, rows: Callable[[int, int], NDArray[Any]], shape: Sequence[int], info: StreamInfo
) -> Read:
    """Return what reads slots of an array whose first axis is the slot, in the axes of the stream.

    rows: returns rows start .. stop-1    shape: of the array
    raises BadParam where the array cannot be (slot, user, y, chain or z): axes of length 1 may be left out, and user,
        y and chain (or z) may be one axis, in C order
    """
    (name,) = info.arrays
    wanted = info.shape(name, 1)[1:]
    users, columns, last = wanted
    came = [n for n in shape[1:] if n != 1]
    forms = ([users, columns, last], [users, columns * last], [users * columns, last], [users * columns * last])
    if not shape or came not in [[n for n in form if n != 1] for form in forms]:
        axes = ", ".join(f"{axis} {n}" for axis, n in zip(info.arrays[name].axes[1:], wanted, strict=True))
        raise BadParam(f"{path}: {what} is {tuple(shape)}; wanted (slot, {axes}), or these three as one axis")
    if not 1 <= shape[0] <= MAX_LENGTH:
        raise BadParam(f"{path}: {what} has {shape[0]} slots; wanted 1 to {MAX_LENGTH}")

    def read(start: int, stop: int) -> NDArray[np.complex64]:
        found = np.array(rows(start, stop), np.complex64, order="C")
        return found.reshape(stop - start, *wanted)

    return read
