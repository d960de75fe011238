"""The heat-map net with the operator of the stream in its fixed decoder, beside `vp_nomp` on the same slots."""

from pydantic import Field

from beamslot.dsp.nets.serve import Engine
from beamslot.dsp.vae_upa import VaeUpa
from beamslot.dsp.vp_nomp import MOST_PATHS
from beamslot.estimators.rf_estimator import RfEstimator
from beamslot.runtime import Live


class VaeUpaEstimator(RfEstimator):
    """Paths from a net, gains and Gauss-Newton steps through F_a A(u, v), missed paths searched for, evidence."""

    algorithm = VaeUpa

    max_paths: int = Live(24, ge=1, le=MOST_PATHS, description="largest number of paths")
    rounds: int = Live(20, ge=0, description="searches at most for paths that the net missed; 0 trusts it alone")
    passes: int = Live(2, ge=1, description="how often the net looks at a slot, each time at what is left")
    checkpoint: str = Field("", description="file of the net; empty for the one that is shipped")
    engine: Engine = Field("auto", description="what runs the net")
    threshold: float = Live(9.0, gt=0, description="power over the noise from which a peak is taken for a path")
    expected_paths: float = Live(10.0, gt=0, description="prior mean of the number of paths")
    guard: float = Live(0.1, ge=0, description="searched beyond the beams' interval on each side, in v")
