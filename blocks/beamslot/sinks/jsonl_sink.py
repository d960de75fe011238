"""Write slots as JSON lines: one object a slot, whole lines only."""

import json
import os
import stat
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.errors import BadParam
from beamslot.frame import StreamInfo
from beamslot.runtime import Block, In


def as_json(array: NDArray[Any]) -> Any:
    """Return an array as nested lists; a complex number is [real, imaginary], NaN and infinities are null."""
    if np.iscomplexobj(array):
        array = np.stack([np.real(array), np.imag(array)], -1)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        finite = array.astype(object)
        finite[~np.isfinite(array)] = None
        return finite.tolist()
    return array.tolist()


class JsonlSink(Block):
    """Write the arrays of any stream to a file, a line a slot: {"slot": 7, "u": [...], ...}; gaps have a line too."""

    stream = In()

    path: str = Field(min_length=1, description="file to write")
    arrays: tuple[str, ...] = Field((), description="which arrays, by name; all where none is named")
    existing: Literal["replace", "append", "refuse"] = Field(
        "replace", description="what to do with a file in place that is not empty"
    )

    def start(self, stream: StreamInfo) -> None:
        """Open the file, unless it is open; what is in it stays until the first line, snapshot or restore."""
        unknown = [name for name in self.arrays if name not in stream.arrays]
        if unknown:
            raise BadParam(
                f"{self.run.name}.arrays: the stream has no {', '.join(unknown)}; it has {', '.join(stream.arrays)}"
            )
        self._names = self.arrays or tuple(stream.arrays)
        if not hasattr(self, "_file"):  # a changed description is no reason to begin a new file
            self._lines, self._file, self._begun = 0, self._open(), False

    def _open(self) -> FileIO:
        """Open the file and leave what is in it: only `restore`, or its absence, tells whose lines these are."""
        try:
            return FileIO(self.path, "a")
        except OSError as error:
            raise BadParam(f"{self.run.name}.path: {self.path} cannot be written: {error.strerror}") from None

    def _begin(self) -> None:
        """Deal with what was in place, once, as `existing` says."""
        if self._begun:
            return
        found = os.fstat(self._file.fileno())
        if self.existing == "refuse" and found.st_size:
            raise self._refused("is there already, and existing is refuse")
        emptied = self.existing == "replace" and stat.S_ISREG(found.st_mode)
        if emptied:
            self._file.truncate(0)
        self._begun, self._bytes = True, 0 if emptied else found.st_size

    def _refused(self, problem: str) -> BadParam:
        """Let go of a file that must not be written, and return the error that says why."""
        self._close()
        return BadParam(f"{self.run.name}.path: {self.path} {problem}")

    def process(self, stream: dict[str, NDArray[Any]], slots: range) -> None:
        """Append the lines of these slots; they are in the file when this returns."""
        kept = {name: stream[name] for name in self._names}
        self._append(
            [
                {"slot": slot} | {name: as_json(np.asarray(array[row])) for name, array in kept.items()}
                for row, slot in enumerate(slots)
            ]
        )

    def missed(self, slots: range, reason: str) -> None:
        """Say in the file what did not come."""
        self._append([{"slot": slots.start, "count": len(slots), "gap": reason}])

    def _append(self, lines: list[dict[str, Any]]) -> None:
        self._begin()
        end = self._file.seek(0, os.SEEK_END) if self._file.seekable() else 0
        left = memoryview(b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in lines))
        size = len(left)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with suppress(OSError):  # not every path is a file
                self._file.truncate(end)  # a full disk takes part of a line; whole lines only
            raise
        self._bytes, self._lines = end + size, self._lines + len(lines)

    def snapshot(self) -> dict[str, int]:
        """Return how far the file goes [bytes] and the lines written; a file to be replaced is emptied by then."""
        self._begin()
        return {"bytes": self._bytes, "lines": self._lines}

    def restore(self, state: dict[str, int]) -> None:
        """Cut off what was written after the snapshot and go on there; what is no regular file just goes on.

        raises BadParam where the file has lost what it had then
        """
        self._begun, self._bytes, self._lines = True, state["bytes"], state["lines"]
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return
        if found.st_size < self._bytes:
            raise self._refused(
                f"has {found.st_size} bytes; wanted the {self._bytes} that were written before the restart"
            )
        self._file.truncate(self._bytes)

    def stop(self) -> None:
        """Close the file, unless it was refused; one to be replaced is empty where nothing came."""
        if hasattr(self, "_file"):
            if self.existing == "replace":
                self._begin()
            self._close()

    def _close(self) -> None:
        self._file.close()
        del self._file

    def results(self) -> dict[str, Any]:
        """Return where the lines are."""
        return {"path": str(Path(self.path).resolve()), "lines": self._lines}
