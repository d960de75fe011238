"""Users of a uniform linear array by the heat-map VAE: a net for a start, steps through the decoder, evidence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.nets.serve import Engine
from beamslot.dsp.vae_ula import VaeUla, channels
from beamslot.errors import PortMismatch
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, FIELD_AXES, as_arrays, describe_estimate
from beamslot.runtime import Block, In, Out


class VaeUlaEstimator(Block):
    """Find the users of a frame at a glance, move them by a few steps through the model, count them by evidence."""

    field = In(FIELD_AXES, np.complex64, unit="sqrt(W)", window="snapshots")
    estimate = Out(ESTIMATE)

    snapshots: int = Field(40, ge=1, description="slots of a frame, which share the angles")
    users: int = Field(0, ge=0, description="users of a frame; 0: counted, at most eight")
    steps: int = Field(4, ge=0, description="Gauss-Newton steps through the decoder at most")
    checkpoint: str = Field("", description="path of a checkpoint of kind vae_ula; empty: the one that is shipped")
    engine: Engine = Field("auto", description="what runs the net; auto: onnxruntime where it is installed, else torch")

    def start(self, field: StreamInfo) -> StreamInfo:
        """Load the net, and take the array from the stream."""
        where = f"{self.run.name}.field"
        if field.geometry is None:
            raise PortMismatch(f"{where}: the stream carries no array geometry; wanted that of a linear array")
        if field.geometry.n_z != 1:
            came = f"{field.geometry.n_y} x {field.geometry.n_z}"
            raise PortMismatch(f"{where}: the array is {came}; wanted a uniform linear array along y, n_z = 1")
        self._geometry = field.geometry
        names = ("users", "steps", "checkpoint", "engine")
        self._estimator = VaeUla(
            antennas=field.geometry.n_y,
            spacing=field.geometry.spacing_y,
            **{name: getattr(self, name) for name in names},
        )
        return describe_estimate(field, field.geometry, self._estimator.most)

    def process(self, field: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Estimate the slots of a frame."""
        found = self._estimator.estimate(np.moveaxis(field[..., 0], 1, 0))
        return as_arrays(channels(found, self._geometry, self.steps))
