"""Matching pursuit by variable projection, the estimator that keeps up with the slots."""

from beamslot.dsp.vp_nomp import MOST_PATHS, VpNomp
from beamslot.estimators.rf_estimator import RfEstimator
from beamslot.runtime import Live


class VpNompEstimator(RfEstimator):
    """Find a few paths at a time, move all by Gauss-Newton steps, weigh them by evidence; noise variance learned."""

    algorithm = VpNomp

    max_paths: int = Live(24, ge=1, le=MOST_PATHS, description="largest number of paths")
    max_rounds: int = Live(20, ge=1, description="searches for paths at most, each for a few")
    threshold: float = Live(9.0, gt=0, description="power over the noise from which a peak is taken for a path")
    expected_paths: float = Live(10.0, gt=0, description="prior mean of the number of paths")
    guard: float = Live(0.1, ge=0, description="searched beyond the beams' interval on each side, in v")
