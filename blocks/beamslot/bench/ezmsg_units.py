"""The ezmsg peer: a publisher and a subscriber of AxisArrays, as its users write them (needs the extra `bench`)."""

import json
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import ezmsg.core as ez
import numpy as np
from ezmsg.util.messages.axisarray import AxisArray

from beamslot.bench.frames import Pacer, summary


class PublisherSettings(ez.Settings):
    """Size of a frame [bytes], how many, and how many a second."""

    nbytes: int
    frames: int
    pace: float


class Publisher(ez.Unit):
    """Publishes prepared arrays, each with the header of a frame."""

    SETTINGS = PublisherSettings
    OUTPUT = ez.OutputStream(AxisArray)

    @ez.publisher(OUTPUT)
    async def publish(self) -> AsyncGenerator[Any, None]:
        """Publish all frames."""
        arrays = [np.full((1, self.SETTINGS.nbytes // 8), k, np.complex64) for k in range(8)]
        pacer = Pacer(self.SETTINGS.pace)
        for slot in range(self.SETTINGS.frames):
            captured = pacer.wait(slot)
            axes: dict[str, Any] = {"time": AxisArray.TimeAxis(fs=1000.0, offset=slot * 1e-3)}
            attributes = {"slot": slot, "captured": captured}
            yield self.OUTPUT, AxisArray(arrays[slot % 8], ["time", "ch"], axes, attributes, "source")
        raise ez.Complete


class SubscriberSettings(ez.Settings):
    """How many frames will come, and where to write what was seen."""

    frames: int
    path: str


class Subscriber(ez.Unit):
    """Counts frames and their latency."""

    SETTINGS = SubscriberSettings
    INPUT = ez.InputStream(AxisArray)

    async def initialize(self) -> None:
        """Begin to count."""
        self.first, self.latencies = 0, []

    @ez.subscriber(INPUT)
    async def take(self, message: Any) -> None:
        """Count one frame."""
        now = time.monotonic_ns()
        self.first = self.first or now
        self.latencies.append(now - message.attrs["captured"])
        if len(self.latencies) == self.SETTINGS.frames:
            found = summary(self.first, now, self.SETTINGS.frames, self.latencies)
            Path(self.SETTINGS.path).write_text(json.dumps(found))
            raise ez.NormalTermination


def run(nbytes: int, frames: int, pace: float) -> dict[str, float]:
    """Return the measurement."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/seen.json"
        publisher = Publisher(PublisherSettings(nbytes, frames, pace))
        subscriber = Subscriber(SubscriberSettings(frames, path))
        ez.run(
            components={"PUBLISHER": publisher, "SUBSCRIBER": subscriber},
            connections=((publisher.OUTPUT, subscriber.INPUT),),
            process_components=(publisher, subscriber),
        )
        return json.loads(Path(path).read_text())
