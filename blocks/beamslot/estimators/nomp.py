"""Newtonized orthogonal matching pursuit, off the grid."""

from beamslot.dsp.nomp import Nomp
from beamslot.estimators.rf_estimator import RfEstimator
from beamslot.runtime import Live


class NompEstimator(RfEstimator):
    """Find paths one by one and refine all by Newton steps after each; the noise variance is learned."""

    algorithm = Nomp

    paths: int = Live(24, ge=1, description="largest number of paths")
    single_steps: int = Live(1, ge=0, description="Newton steps of a new path")
    cyclic_rounds: int = Live(3, ge=0, description="sweeps of a Newton step of every path after each new one")
    guard: float = Live(0.045, ge=0, description="searched beyond the beams' interval on each side, in v")
    false_alarm: float = Live(0.1, gt=0, lt=1, description="probability of a path found in noise alone")
    expected_paths: float = Live(10.0, gt=0, description="prior mean of the number of paths, for error_var alone")
