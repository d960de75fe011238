"""Compare two streams slot by slot: how far apart they are, and from which slot on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.metrics import ExactSum
from beamslot.errors import PortMismatch
from beamslot.frame import StreamInfo
from beamslot.runtime import Block, In


@dataclass
class Difference:
    """How far one array of the right stream is from that of the left, over all slots so far.

    largest: of |left - right|    gap, energy: sums of |left - right|^2 and of |left|^2
    """

    largest: float = 0.0
    gap: ExactSum = field(default_factory=ExactSum)
    energy: ExactSum = field(default_factory=ExactSum)

    def add(self, left: NDArray[np.number[Any]], distance: NDArray[np.float64]) -> None:
        """Take in some slots: (slot, entry) of the left array, and the distance of each entry to the right one."""
        self.largest = max(self.largest, float(distance.max(initial=0.0)))
        for gap, energy in zip((distance**2).sum(1).tolist(), (np.abs(left) ** 2).sum(1).tolist(), strict=True):
            self.gap.add(gap)
            self.energy.add(energy)

    def result(self) -> dict[str, float | None]:
        """Return the largest difference, and the RMS difference relative to the RMS of the left array [dB]."""
        gap, energy = float(self.gap), float(self.energy)
        sound = 0 < gap < math.inf and 0 < energy < math.inf
        return {
            "max_abs": self.largest if math.isfinite(self.largest) else None,
            "rms_rel_db": 10 * (math.log10(gap) - math.log10(energy)) if sound else None,
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain numbers and short lists of them."""
        return {"largest": self.largest, "gap": list(self.gap.parts), "energy": list(self.energy.parts)}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> "Difference":
        """Return the difference that `snapshot` was taken from."""
        return cls(state["largest"], ExactSum(state["gap"]), ExactSum(state["energy"]))


class DifferenceSink(Block):
    """Compare two streams of the same arrays, joined by slot: what should be equal, or nearly so.

    A slot differs where |left - right| of any entry is above `tolerance`, or only one of the two is not a number.
    """

    left = In()
    right = In()

    tolerance: float = Field(0.0, ge=0, allow_inf_nan=False, description="largest |left - right| that is no difference")

    def start(self, left: StreamInfo, right: StreamInfo) -> None:
        """Begin to count, or go on where a description has changed and has the same arrays.

        raises PortMismatch where the two streams are not of the same arrays
        """
        if problems := _unlike(left, right):
            raise PortMismatch(f"{self.run.name}: left and right do not match: {'; '.join(problems)}")
        if getattr(self, "_arrays", {}).keys() != left.arrays.keys():
            self._slots = self._missed = self._differing = 0
            self._first: int | None = None
            self._arrays = {name: Difference() for name in left.arrays}
        self._by_slot = {name for name, array in left.arrays.items() if "slot" in array.axes}

    def process(self, left: dict[str, NDArray[Any]], right: dict[str, NDArray[Any]], slots: range) -> None:
        """Compare some slots."""
        differs = np.zeros(len(slots), np.bool_)
        for name, difference in self._arrays.items():
            one, other = (self._rows(name, arrays[name], len(slots)) for arrays in (left, right))
            same = (one == other) | (np.isnan(one) & np.isnan(other))
            distance = _distance(one, other, same)
            difference.add(_wide(one), distance)
            differs |= (~same & ((distance > self.tolerance) | (self.tolerance == 0))).any(1)
        self._slots += len(slots)
        self._differing += int(differs.sum())
        if self._first is None and differs.any():
            self._first = slots[int(differs.argmax())]

    def _rows(self, name: str, array: NDArray[Any], slots: int) -> NDArray[Any]:
        """Return an array as (slot, entry); one without slots stands for each of them."""
        every = array if name in self._by_slot else np.broadcast_to(array, (slots, *array.shape))
        return np.ascontiguousarray(every).reshape(slots, math.prod(every.shape[1:]))

    def missed(self, slots: range, reason: str) -> None:
        """Count what did not come on both."""
        self._missed += len(slots)

    def snapshot(self) -> dict[str, Any]:
        """Return what was compared so far."""
        return {
            "slots": self._slots,
            "missed": self._missed,
            "differing": self._differing,
            "first": self._first,
            "arrays": {name: difference.snapshot() for name, difference in self._arrays.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what was compared."""
        self._slots, self._missed, self._differing = state["slots"], state["missed"], state["differing"]
        self._first = state["first"]
        self._arrays = {name: Difference.restore(difference) for name, difference in state["arrays"].items()}

    def results(self) -> dict[str, Any]:
        """Return the slots compared and missed, those that differ, the first of them; how far, as "array.NAME".

        A figure that is not finite, or the ratio in dB where nothing differs, is None.
        """
        return {
            "slots": self._slots,
            "missed": self._missed,
            "differing": self._differing,
            "first_differing": self._first,
        } | {f"array.{name}": difference.result() for name, difference in self._arrays.items()}


def _unlike(left: StreamInfo, right: StreamInfo) -> list[str]:
    problems: list[str] = []
    for name in sorted({*left.arrays, *right.arrays}):
        one, other = left.arrays.get(name), right.arrays.get(name)
        if one is None or other is None:
            problems.append(f"array {name!r} comes on {'right' if one is None else 'left'} only")
        elif (one.axes, one.dtype) != (other.axes, other.dtype):
            problems.append(f"array {name!r} is {one} on left, {other} on right")
        elif left.shape(name, 1) != right.shape(name, 1):
            lengths = [f"{_lengths(info, name)} on {side}" for info, side in ((left, "left"), (right, "right"))]
            problems.append(f"array {name!r} is {', '.join(lengths)}")
    return problems


def _lengths(info: StreamInfo, name: str) -> str:
    return " ".join(f"{axis}={info.axes[axis]}" for axis in info.arrays[name].axes if axis != "slot")


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def _distance(one: NDArray[Any], other: NDArray[Any], same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """|one - other|, 0 where the two are the same, infinite where one is not finite and the other is not the same."""
    distance = np.where(same, 0.0, np.inf)
    sound = ~same & np.isfinite(one) & np.isfinite(other)
    distance[sound] = np.abs(_wide(one[sound]) - _wide(other[sound]))
    return distance
