"""Record streams so that they can be looked into, replayed and read by others: SigMF and a log, see FORMAT.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import Field, JsonValue

from beamslot.errors import StorageError
from beamslot.frame import Describe, Eos, Frame, Gap, StreamInfo
from beamslot.recording import Writer, recorded, remove
from beamslot.recording.metadata import validator
from beamslot.runtime import Block, In

Message = Frame | Gap | Eos


class Recorder(Block):
    """Keep every message of any number of streams as it came: frames with their framing, times and tags, gaps, ends.

    The directory is this recorder's own; `beamslot record` puts one into a graph that has none.
    """

    streams = In(many=True)

    path: str = Field(min_length=1, description="directory to write, made where it is not there")
    existing: Literal["replace", "refuse"] = Field(
        "replace", description="what to do with a recording that is in the directory already"
    )
    about: dict[str, JsonValue] = Field(
        default_factory=dict, description="facts to keep beside the streams, by name: who, where, with what"
    )

    def start(self, streams: Mapping[str, StreamInfo]) -> None:
        """Note what the streams are; what is in the directory stays until the first message, snapshot or restore."""
        validator()  # loads what takes longer than a slot
        self._infos = dict(streams)
        if not hasattr(self, "_writers"):
            self._writers: dict[str, Writer] = {}
            self._begun = False
        if self._begun:
            self._describe()

    def _begin(self) -> None:
        """Deal with what was in place, once, as `existing` says."""
        if self._begun:
            return
        directory = Path(self.path)
        if self.existing == "refuse" and recorded(directory):
            raise StorageError(f"{self.run.name}.path: {directory} has a recording, and existing is refuse")
        remove(directory)
        run = {"recorder": self.run.name, "seed": self.run.seed, "slot_period": self.run.slot_period}
        self._writers = {port: Writer(directory, port, about={**run, **self.about}) for port in self._infos}
        self._begun = True
        self._describe()

    def _describe(self) -> None:
        for port, info in self._infos.items():
            self._writers[port].write(Describe(port, info))

    def process(
        self, streams: Mapping[str, NDArray[Any]], source: str, slots: range, message: Message | None = None
    ) -> None:
        """Append what a stream said; it is in the files when this returns.

        message: as it came; where none is given, the arrays of these slots as a frame
        """
        self._begin()
        if message is None:
            operator = self._infos[source].operator
            message = Frame(slots.start, len(slots), streams, operator=operator and operator.hash)
        self._writers[source].write(message)

    def snapshot(self) -> dict[str, Any]:
        """Return how far each log goes [bytes]; a recording that is to be replaced is gone by then."""
        self._begin()
        return {"logs": {port: writer.at for port, writer in self._writers.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Cut off what was written after the snapshot and go on there.

        raises StorageError where a log has lost what it had then
        """
        self._writers = {port: Writer.resume(self.path, port, at) for port, at in state["logs"].items()}
        self._begun = True
        self._describe()

    def stop(self) -> None:
        """Write captures and hashes, and close the files; what was in place is gone even where nothing came."""
        if hasattr(self, "_writers"):
            self._begin()
            self._account = self._counted()
            for writer in self._writers.values():
                writer.close()
            del self._writers

    def _counted(self) -> dict[str, int]:
        accounts = [writer.account for writer in getattr(self, "_writers", {}).values()]
        return {key: sum(account[key] for account in accounts) for key in ("slots", "missing")}

    def results(self) -> dict[str, Any]:
        """Return where the recording is, and how many slots of all streams it has and misses."""
        counted = self._counted() if hasattr(self, "_writers") else getattr(self, "_account", self._counted())
        return {"path": str(Path(self.path).resolve()), **counted}
