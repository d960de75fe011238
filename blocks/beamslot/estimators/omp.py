"""Orthogonal matching pursuit on the separable dictionary of a grouped front end."""

from beamslot.dsp.omp import Omp
from beamslot.estimators.rf_estimator import RfEstimator
from beamslot.runtime import Live


class OmpEstimator(RfEstimator):
    """Find paths one by one by their correlation with the residual; noise variance learned."""

    algorithm = Omp

    paths: int = Live(16, ge=1, description="largest number of paths")
    grid: tuple[int, int] = Live((128, 36), description="points over u and over the searched interval of v")
    guard: float = Live(1 / 24, ge=0, description="searched beyond the beams' interval on each side, in v")
    zoom: int = Live(3, ge=0, description="times that a peak is located anew, four times finer; 0 keeps to the grid")
    false_alarm: float = Live(0.1, gt=0, lt=1, description="probability of a path found in noise alone")
