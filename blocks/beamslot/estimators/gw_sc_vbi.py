"""Group-wise subspace-constrained variational Bayesian inference, the estimator of the paper."""

from typing import Literal

from pydantic import Field

from beamslot.dsp.gw_sc_vbi import GwScVbi
from beamslot.estimators.rf_estimator import RfEstimator
from beamslot.runtime import Live


class GwScVbiEstimator(RfEstimator):
    """Infer the paths of every group of columns, then all together; the noise variance is learned."""

    algorithm = GwScVbi

    form: Literal["robust", "as_printed"] = Field(
        "robust", description="joint stage re-opened to the whole grid, or kept to what the groups found"
    )
    expected_paths: float = Live(10.0, gt=0, description="prior mean of the number of paths")
    max_paths: int = Live(32, ge=1, description="largest number of paths")
    group_rounds: int | None = Live(None, ge=0, description="iterations at most in the groups; 0 leaves them out")
    joint_rounds: int = Live(40, ge=1, description="iterations at most in the joint stage")
    guard: float = Live(0.045, ge=0, description="searched beyond the beams' interval on each side, in v")
