"""Subspace-constrained variational Bayesian inference on the whole array."""

from beamslot.dsp.sc_vbi import ScVbi
from beamslot.estimators.rf_estimator import RfEstimator
from beamslot.runtime import Live


class ScVbiEstimator(RfEstimator):
    """Infer all paths on the whole array, the posterior of gains on the support; the noise variance is learned."""

    algorithm = ScVbi

    expected_paths: float = Live(10.0, gt=0, description="prior mean of the number of paths")
    max_paths: int = Live(32, ge=1, description="largest number of paths")
    rounds: int = Live(40, ge=1, description="iterations at most")
    guard: float = Live(0.045, ge=0, description="searched beyond the beams' interval on each side, in v")
