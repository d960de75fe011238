"""Streams on disk: every message of a port as it came, in SigMF and a log beside it; FORMAT.md says the bytes.

>>> import tempfile, numpy as np
>>> from beamslot.frame import Array, Describe, Eos, Frame, StreamInfo
>>> info = StreamInfo({"rf": Array.of("slot chain", np.complex64)}, {"chain": 2})
>>> with tempfile.TemporaryDirectory() as place:
...     with Writer(place, "front.rf", about={"seed": 7}) as writer:
...         writer.write(Describe("front.rf", info))
...         writer.write(Frame(0, 3, {"rf": np.ones((3, 2), np.complex64)}))
...         writer.write(Eos(3))
...     with open_recording(place) as recording:
...         recording.about["seed"], [type(one).__name__ for one in recording.ports["front.rf"].messages()]
(7, ['Describe', 'Frame', 'Eos'])
"""

from beamslot.recording.layout import amend, recorded, remove
from beamslot.recording.ledger import Recordable
from beamslot.recording.reader import Recording, Track, open_recording
from beamslot.recording.repair import Repaired, repair
from beamslot.recording.writer import Writer

__all__ = [
    "Recordable",
    "Recording",
    "Repaired",
    "Track",
    "Writer",
    "amend",
    "open_recording",
    "recorded",
    "remove",
    "repair",
]
