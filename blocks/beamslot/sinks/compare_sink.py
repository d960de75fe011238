"""Compare estimators with each other on the same slots: paired differences with their confidence intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.metrics import nmse
from beamslot.dsp.quality import Pairs, names_of
from beamslot.errors import BadParam
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, TRUTH
from beamslot.runtime import Block, In
from beamslot.runtime.graph import near


class CompareSink(Block):
    """NMSE of each estimator less that of each other one, in dB, over the draws of the slots that both were given.

    Channels vary more from draw to draw than estimators from each other: on the same draws a difference shows long
    before two NMSE with intervals of their own are apart. Each estimate is joined with the truth in a pair of its own,
    so that a slow estimator does not hold up the others; a difference counts the slots that the slower one has had.
    """

    truth = In({name: TRUTH[name] for name in ("channel", "draw")})
    estimate = In({"channel": ESTIMATE["channel"]}, many=True)

    reference: str = Field("", description="name of the estimator that the others are compared with; empty: all pairs")

    def start(self, truth: StreamInfo, estimate: dict[str, StreamInfo]) -> None:
        """Begin to count, or go on where only a description has changed.

        raises BadParam where there is no such reference
        """
        names = names_of([*estimate])
        if self.reference and self.reference not in names.values():
            unknown = f"there is no estimate {self.reference!r}; {near(self.reference, names.values())}"
            raise BadParam(f"{self.run.name}.reference: {unknown}")
        if getattr(self, "_names", None) != names:
            self._names, self._pairs = names, Pairs([*names.values()])
            self._unsound = dict.fromkeys(names.values(), 0)

    def process(
        self, truth: dict[str, NDArray[Any]], estimate: dict[str, NDArray[Any]], slots: range, source: str
    ) -> None:
        """Compare some slots of one estimator with those of the others that have come."""
        name = self._names[source]
        for row, (slot, draw) in enumerate(zip(slots, truth["draw"].tolist(), strict=True)):
            one = slice(row, row + 1)  # one slot a call: in batches the last bit would depend on the frames
            error = float(np.mean(nmse(estimate["channel"][one], truth["channel"][one])))
            if np.isfinite(error):
                self._pairs.add(name, slot, draw, error)
            else:
                self._unsound[name] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return what was compared so far, and what waits for other estimators."""
        return {"pairs": self._pairs.snapshot(), "unsound": dict(self._unsound)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what was compared."""
        self._pairs, self._unsound = Pairs.restore(state["pairs"]), dict(state["unsound"])

    def results(self) -> dict[str, Any]:
        """Return every pair as "one - other", see `Pairs.result`; slots that each estimator had; those not finite."""
        pairs = self._pairs.result(self.reference)
        unsound = {name: count for name, count in self._unsound.items() if count}
        return pairs | {"slots": dict(self._pairs.slots)} | ({"not_finite": unsound} if unsound else {})
