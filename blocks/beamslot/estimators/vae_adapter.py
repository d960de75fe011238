"""Online learning beside a stream: the net of `vae_ula` is trained on it, and handed over when it is better."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.nets import checkpoint as checkpoints
from beamslot.dsp.nets.adaptation import Adapter, Calibrate, Settings, Verdict
from beamslot.dsp.vae_ula import KIND
from beamslot.errors import PortMismatch
from beamslot.frame import Array, StreamInfo
from beamslot.ports import FIELD_AXES, line_of
from beamslot.runtime import Block, In, Out, Tagged

BATCH = 0
"""What the block's generator is for: which frames make a batch."""


class VaeAdapter(Block):
    """Learn from frames that nobody has labelled, judge on others that are held back, publish what is better.

    It publishes into a file, which a `vae_ula` that watches it takes up between two frames; at the start that is the
    net it begins from. It takes what time it needs, so give it a process and a lossy edge (policy: drop_oldest or
    latest) of its own; frames that it misses are frames that it does not learn from. A frame is `snapshots` slots of
    one draw, and begins at a multiple of it; one that lost a slot is passed over.
    """

    field = In(FIELD_AXES, np.complex64, unit="sqrt(W)", window="snapshots")
    figures = Out(
        version=Array.of("slot", np.int32),
        publications=Array.of("slot", np.int32),
        rolled_back=Array.of("slot", np.int32),
        believed=Array.of("slot", np.int32),
        loss=Array.of("slot", np.float32),
        candidate=Array.of("slot", np.float32),
        published=Array.of("slot", np.float32),
        original=Array.of("slot", np.float32),
        phase_rms=Array.of("slot", np.float32, "rad"),
    )

    snapshots: int = Field(40, ge=1, description="slots of a frame, which share the angles")
    publish: str = Field(min_length=1, description="file to write what is published to (.safetensors)")
    checkpoint: str = Field("", description="path of a checkpoint of kind vae_ula to begin from; empty: the shipped")
    calibrate: Calibrate = Field(
        "all",
        description="whose array is corrected by phases learned beside the net: nobody's, the decoder's (the net reads "
        "the field as it is), or all",
    )
    every: int = Field(8, ge=1, description="frames from one round of learning to the next")
    judge_every: int = Field(8, ge=1, description="rounds of learning from one judgement to the next")
    steps: int = Field(4, ge=1, description="of Adam, in a round")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    replay: float = Field(0.125, ge=0, le=1, description="share of a batch that is of the scene of the training")
    margin: float = Field(0.05, ge=0, le=1, description="by which the held back frames must say better, or worse")
    ring: int = Field(256, ge=32, description="newest frames, to learn from")
    held: int = Field(64, ge=16, description="newest frames that were held back, to judge by")
    hold_every: int = Field(4, ge=2, description="of so many frames one is held back")
    memory: int = Field(0, ge=0, description="frames after which phases seen count half; 0: they do not drift")

    def start(self, field: StreamInfo) -> StreamInfo:
        """Begin from a checkpoint, and publish it; go on where only a description has changed."""
        geometry = line_of(field, f"{self.run.name}.field")
        if field.axes["user"] != 1:
            raise PortMismatch(f"{self.run.name}.field: comes with user = {field.axes['user']}; wanted user = 1")
        names = ("steps", "learning_rate", "replay", "margin", "calibrate", "ring", "held", "hold_every", "memory")
        settings = Settings(**{name: getattr(self, name) for name in names}, seed=self.run.seed)
        loaded = checkpoints.load(self.checkpoint or checkpoints.shipped(KIND), KIND)
        made = Adapter(loaded, antennas=geometry.n_y, spacing=geometry.spacing_y, settings=settings)
        if self.replay:
            made.prepare()
        self._adapter, self._loss, self._verdict, self._calls = made, np.nan, Verdict(), 0
        self._hand_over()
        return field

    def _hand_over(self) -> None:
        checkpoints.save(self.publish, self._adapter.published)

    def process(self, field: NDArray[Any], slots: range) -> dict[str, Any] | Tagged:
        """Take in a frame, and every few frames learn, judge and publish."""
        self._calls += 1
        self._adapter.add(field[:, 0, :, 0])
        tags: dict[str, Any] = {}
        if self._calls % self.every == 0:
            self._loss = self._adapter.step(self.rng(slots.start, BATCH))
            if self._calls % (self.every * self.judge_every) == 0:
                tags = self._judged()
        figures = {name: np.full(len(field), value) for name, value in self._figures().items()}
        outputs = {name: figures[name].astype(array.dtype) for name, array in self.outputs["figures"].arrays.items()}
        return Tagged(outputs, tags) if tags else outputs

    def _judged(self) -> dict[str, Any]:
        before = self._adapter.version
        self._verdict = self._adapter.judge()
        if self._adapter.version != before:
            self._hand_over()
        change, version = self._verdict.change, self._adapter.version
        return {"change": change, "version": version} if change else {}

    def _figures(self) -> dict[str, float]:
        adapter, verdict = self._adapter, self._verdict
        return {
            "version": adapter.version,
            "publications": adapter.publications,
            "rolled_back": adapter.rolled_back,
            "believed": adapter.believed,
            "loss": self._loss,
            "candidate": verdict.candidate,
            "published": verdict.published,
            "original": verdict.original,
            "phase_rms": float(np.sqrt(np.mean(adapter.phase**2))),
        }

    def snapshot(self) -> dict[str, Any]:
        """Return what was learned, without the frames, which are gathered anew."""
        return {"adapter": self._adapter.snapshot(), "calls": self._calls}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was learned, and publish it."""
        self._adapter.restore(state["adapter"])
        self._calls = int(state["calls"])
        self._hand_over()
