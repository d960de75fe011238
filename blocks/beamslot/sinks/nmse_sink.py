"""Judge estimates against the truth: NMSE with its confidence interval, the Cramer-Rao bound beside it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.bounds import crb_channel
from beamslot.dsp.metrics import NmseMean, nmse
from beamslot.dsp.quality import names_of
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, TRUTH
from beamslot.runtime import Block, In

MOST_PATHS = 64
"""Beyond so many paths the parameters are more than the observations, and the bound says nothing."""


class NmseSink(Block):
    """Mean over independent channel draws of ||h_hat - h||^2 / ||h||^2, in dB of the mean, per estimator.

    Each estimate is joined with the truth in a pair of its own, so that a slow estimator does not hold up the others.
    `crb` is the Cramer-Rao bound (true number of paths, angles and gains unknown), mean over one slot of every draw.
    """

    truth = In(TRUTH)
    estimate = In({"channel": ESTIMATE["channel"]}, many=True)

    crb: bool = Field(True, description="whether to compute the Cramer-Rao bound; it needs a measurement operator")

    def start(self, truth: StreamInfo, estimate: dict[str, StreamInfo]) -> None:
        """Begin to count, or go on where only a description has changed."""
        names = names_of([*estimate])
        if getattr(self, "_names", None) != names:
            self._names, self._means = names, {name: NmseMean() for name in names.values()}
            self._bound = NmseMean()
            self._unsound: dict[str, list[int]] = {}
            self._bounded: int | None = None
        self._measured = {s: info for s, info in estimate.items() if info.operator is not None and info.geometry}
        self._judge = next(iter(self._measured), None) if self.crb and truth.axes["path"] <= MOST_PATHS else None

    def process(
        self, truth: dict[str, NDArray[Any]], estimate: dict[str, NDArray[Any]], slots: range, source: str
    ) -> None:
        """Judge some slots of one estimator."""
        name, error = self._names[source], nmse(estimate["channel"], truth["channel"])
        sound = np.isfinite(error).reshape(len(slots), -1).all(-1)
        self._means[name].add(truth["draw"][sound], error[sound])
        if not sound.all():
            self._unsound.setdefault(name, [0, slots[int(np.argmin(sound))]])[0] += int((~sound).sum())
        if source == self._judge:
            self._add_bound(truth, self._measured[source])

    def _add_bound(self, truth: dict[str, NDArray[Any]], info: StreamInfo) -> None:
        if info.operator is None or info.geometry is None:
            return
        for row, draw in enumerate(truth["draw"].tolist()):
            if self._bounded is None or draw > self._bounded:
                # One draw a call: in batches the last bit would depend on how the slots are framed.
                one = slice(row, row + 1)
                gain, u, v, mask = (truth[name][one] for name in ("gain", "u", "v", "mask"))
                noise_var_w = info.operator.weights.shape[-1] * truth["antenna_noise_var"][one]
                bound = crb_channel(gain, u, v, mask, info.operator, info.geometry, noise_var_w)
                self._bound.add(draw, bound)
                self._bounded = draw

    def snapshot(self) -> dict[str, Any]:
        """Return what was judged so far; its size does not depend on how much that was."""
        return {
            "means": {name: mean.snapshot() for name, mean in self._means.items()},
            "bound": self._bound.snapshot(),
            "bounded": self._bounded,
            "unsound": {name: list(found) for name, found in self._unsound.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what was judged."""
        self._means = {name: NmseMean.restore(mean) for name, mean in state["means"].items()}
        self._bound, self._bounded = NmseMean.restore(state["bound"]), state["bounded"]
        self._unsound = {name: list(found) for name, found in state["unsound"].items()}

    def results(self) -> dict[str, Any]:
        """Return the judgement of every estimator by its block's name, and the bound.

        Slots whose error is not a finite number are left out of the mean, and said: how many, and the first. So are
        slots of a draw that returns after a later one: how many.
        """
        judged = {name: mean.result() for name, mean in self._means.items()}
        for name, (count, first) in self._unsound.items():
            judged[name] |= {"not_finite": count, "first_not_finite": first}
        return judged if self._judge is None else judged | {"crb": self._bound.result()}
