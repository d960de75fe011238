"""Users of a uniform linear array by the heat-map VAE: a net for a start, steps through the decoder, evidence."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.nets.serve import Engine
from beamslot.dsp.vae_ula import VaeUla, channels
from beamslot.errors import BadParam
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, FIELD_AXES, as_arrays, describe_estimate, line_of
from beamslot.runtime import Block, In, Live, Out, Tagged


class VaeUlaEstimator(Block):
    """Find the users of a frame at a glance, move them by a few steps through the model, count them by evidence."""

    field = In(FIELD_AXES, np.complex64, unit="sqrt(W)", window="snapshots")
    estimate = Out(ESTIMATE)

    snapshots: int = Field(40, ge=1, description="slots of a frame, which share the angles")
    users: int = Live(0, ge=0, description="users of a frame; 0: counted, at most eight")
    steps: int = Live(4, ge=0, description="Gauss-Newton steps through the decoder at most")
    checkpoint: str = Field("", description="path of a checkpoint of kind vae_ula; empty: the one that is shipped")
    watch: str = Field("", description="file to follow: whenever it changes, its net replaces the one at hand")
    engine: Engine = Field("auto", description="what runs the net; auto: onnxruntime where it is installed, else torch")

    def start(self, field: StreamInfo) -> StreamInfo:
        """Load the net, and take the array from the stream."""
        self._geometry = line_of(field, f"{self.run.name}.field")
        self._estimator, self._mark, self._refused = self._load(self.checkpoint), (0, 0), 0
        return describe_estimate(field, self._geometry, self._estimator.most)

    def _load(self, checkpoint: str) -> VaeUla:
        return VaeUla(
            antennas=self._geometry.n_y,
            spacing=self._geometry.spacing_y,
            checkpoint=checkpoint,
            **{name: getattr(self, name) for name in ("users", "steps", "engine")},
        )

    def _follow(self) -> None:
        """Take up the file that is watched where it is another than before; a bad one is counted and passed over."""
        try:
            found = Path(self.watch).stat()
        except OSError:
            return  # nobody has published yet
        mark = (found.st_ino, found.st_mtime_ns)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._estimator = self._load(self.watch)
        except BadParam:
            self._refused += 1

    def process(self, field: NDArray[Any]) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate the slots of a frame; where a file is watched, tag them with the version of the net."""
        if self.watch:
            self._follow()
        used = self._estimator
        found = used.estimate(np.moveaxis(field[..., 0], 1, 0))
        arrays = as_arrays(channels(found, self._geometry, self.steps))
        if used.turn is not None:
            arrays["channel"] = arrays["channel"] * used.turn[:, None]
        return Tagged(arrays, {"model": used.version, "refused": self._refused}) if self.watch else arrays
