"""Write slots as JSON lines: one object a slot, whole lines only."""

import json
import os
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
    existing: Literal["replace", "append", "refuse"] = Field("replace", description="what to do with a file in place")

    def start(self, stream: StreamInfo) -> None:
        """Open the file, unless it is open."""
        unknown = [name for name in self.arrays if name not in stream.arrays]
        if unknown:
            raise BadParam(
                f"{self.run.name}.arrays: the stream has no {', '.join(unknown)}; it has {', '.join(stream.arrays)}"
            )
        self._names = self.arrays or tuple(stream.arrays)
        if not hasattr(self, "_file"):  # a changed description is no reason to begin a new file
            self._lines, self._file = 0, self._open()

    def _open(self) -> FileIO:
        try:
            return FileIO(self.path, {"append": "a", "replace": "w", "refuse": "x"}[self.existing])
        except FileExistsError:
            raise BadParam(f"{self.run.name}.path: {self.path} is there already, and existing is refuse") from None
        except OSError as error:
            raise BadParam(f"{self.run.name}.path: {self.path} cannot be written: {error.strerror}") from None

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
        end = self._file.seek(0, os.SEEK_END) if self._file.seekable() else 0
        left = memoryview(b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in lines))
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with suppress(OSError):  # not every path is a file
                self._file.truncate(end)  # a full disk takes part of a line; whole lines only
            raise
        self._lines += len(lines)

    def stop(self) -> None:
        """Close the file."""
        self._file.close()
        del self._file

    def results(self) -> dict[str, Any]:
        """Return where the lines are."""
        return {"path": str(Path(self.path).resolve()), "lines": self._lines}
