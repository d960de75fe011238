"""Turbo-VBI: variational Bayesian inference with the full posterior of all grid points."""

from beamslot.dsp.turbo_vbi import TurboVbi
from beamslot.estimators.sc_vbi import ScVbiEstimator


class TurboVbiEstimator(ScVbiEstimator):
    """Infer all paths on the whole array, the posterior of gains on the whole grid; the noise variance is learned."""

    algorithm = TurboVbi
