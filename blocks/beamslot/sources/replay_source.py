"""A recording as a source: what a port of a run said, or samples that other software wrote."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from beamslot.errors import BadParam, BeamslotError
from beamslot.frame import StreamInfo
from beamslot.recording import open_recording
from beamslot.recording.foreign import SUFFIXES, open_foreign
from beamslot.recording.reel import ForeignReel, Reel, open_reel
from beamslot.runtime import Block, Out
from beamslot.runtime.outputs import Replayed


class ReplaySource(Block):
    """Stream what was recorded: a port of a run, or complex samples of other software.

    A recording of a run keeps its frames, gaps with their reasons, tags and operators; paced, it keeps its times too,
    else it goes as fast as it is taken. One source is one port: several ports of a recording, each with a source, stay
    together.

    Samples of other software (.sigmf-meta, .npy, .npz, .mat, Sionna's channel impulse responses) need an `operator`
    file, which says what their channels are; as many slots a frame as `options.parameters.burst` says.
    """

    stream = Out()

    path: str = Field(min_length=1, description="directory of a recording, or a file of samples")
    port: str = Field("", description="which port of a recording, block.port; absent: the only one")
    operator: str = Field("", description="operator file of samples of other software: .npz or .json")
    array: str = Field("", description="which array of the file; absent: the only complex one, or a with tau")
    frequency: float = Field(
        0.0,
        allow_inf_nan=False,
        description="where an impulse response is taken, from the carrier",
        json_schema_extra={"unit": "Hz"},
    )
    first: int = Field(0, ge=0, description="slot of the recording to begin at", json_schema_extra={"unit": "slot"})
    slots: int | None = Field(
        None, ge=1, description="slots to replay; absent: all", json_schema_extra={"unit": "slot"}
    )
    loop: bool = Field(False, description="begin anew behind the last slot; slot indices go on rising")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.is_foreign and not self.operator:
            raise ValueError(f"operator: a file such as {Path(self.path).name} does not say what its channels are")
        strange, whose = ("port",), "recordings of runs"
        if not self.is_foreign:
            strange, whose = ("operator", "array"), "samples of other software"
        for name in strange:
            if getattr(self, name):
                raise ValueError(f"no {name}: it is for {whose}")
        return self

    @property
    def is_foreign(self) -> bool:
        """Whether the path is that of a file of other software, by its name."""
        return Path(self.path).suffix in SUFFIXES

    @property
    def tracks(self) -> Mapping[str, str]:
        """Which port of the recording each output plays."""
        return {"stream": self.port}

    def start(self) -> dict[str, StreamInfo]:
        """Open the recording."""
        try:
            self._reels = {out: self._open(port) for out, port in self.tracks.items()}
        except BeamslotError as error:  # whatever it is, the graph cannot run as written
            raise BadParam(f"{self.run.name}: {error}") from None
        return {out: reel.info for out, reel in self._reels.items()}

    def _open(self, port: str) -> Reel:
        if not self.is_foreign:
            return open_reel(self.path, port, first=self.first, slots=self.slots, loop=self.loop)
        foreign = open_foreign(self.path, self.operator, self.array, self.frequency)
        return ForeignReel(foreign, first=self.first, slots=self.slots, loop=self.loop)

    def upcoming(self, slots: range) -> tuple[range, int]:
        """Return the slots of the next recorded frame or gap, and when it was captured."""
        found = [reel.upcoming(slots) for reel in self._reels.values()]
        if len(found) == 1:
            return found[0]
        at = found[0][0].start
        return range(at, min(one.stop for one, _ in found)), max(since for _, since in found)

    def frame_limit(self) -> int:
        """Return the most slots of a recorded frame; 0 where the recording is not there (yet), or has no frames."""
        try:
            changed = Path(self.path).stat().st_mtime_ns
            return 0 if self.is_foreign else max(_longest(self.path, port, changed) for port in self.tracks.values())
        except (BeamslotError, OSError):
            return 0  # to be told of when it starts, not while the graph is drawn

    def process(self, slots: range) -> Replayed:
        """Return what was recorded of some slots."""
        return Replayed({out: reel.take(slots) for out, reel in self._reels.items()})


@lru_cache(maxsize=64)
def _longest(path: str, port: str, _: int) -> int:
    with open_recording(path) as recording:
        return recording[port or next(iter(recording.ports))].longest
