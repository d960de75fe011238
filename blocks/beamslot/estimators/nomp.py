"""Newtonized orthogonal matching pursuit, off the grid."""

from pydantic import Field

from beamslot.dsp.nomp import Nomp
from beamslot.estimators.rf_estimator import RfEstimator


class NompEstimator(RfEstimator):
    """Find paths one by one and refine all by Newton steps after each; the noise variance is learned."""

    algorithm = Nomp

    paths: int = Field(24, ge=1, description="largest number of paths")
    single_steps: int = Field(1, ge=0, description="Newton steps of a new path")
    cyclic_rounds: int = Field(3, ge=0, description="sweeps of a Newton step of every path after each new one")
    guard: float = Field(0.045, ge=0, description="searched beyond the beams' interval on each side, in v")
    false_alarm: float = Field(0.1, gt=0, lt=1, description="probability of a path found in noise alone")
    expected_paths: float = Field(10.0, gt=0, description="prior mean of the number of paths, for error_var alone")
