"""Judge estimated angles and gains of users against the truth, frame by frame, the Cramer-Rao bound beside them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.doa_bounds import crb_conditional, crb_gain
from beamslot.dsp.doa_metrics import HALF_BEAM, DoaScore, FrameMean, match, path_errors, root_deg
from beamslot.dsp.quality import names_of
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, TRUTH
from beamslot.runtime import Block, In

Rows = dict[str, NDArray[Any]]

_TRUE = ("gain", "u", "mask", "antenna_noise_var")
_ESTIMATED = ("gain", "u", "mask")


@dataclass
class Judgement:
    """What became of one estimator's frames, and the slots of the frame that is coming in.

    incomplete: frames of which slots did not come    draw: of the held slots    held: these, one after the other
    """

    score: DoaScore
    incomplete: int = 0
    draw: int = -1
    held: list[Rows] = field(default_factory=list[Rows])

    def take(self, draw: int, row: Rows, slots: int) -> Rows | None:
        """Take in a slot; return the slots of a frame, stacked, where it is the last of so many."""
        if draw != self.draw:
            self.incomplete += bool(self.held)
            self.draw, self.held = draw, []
        self.held.append(row)
        if len(self.held) < slots:
            return None
        frame, self.held = _stacked(self.held), []
        return frame


class AngleSink(Block):
    """Angles theta = arcsin(u) of the users in a frame of slots, matched with the true ones, and their gains.

    A frame is `snapshots` slots of one draw. An estimator's angles are those that it gives in the last slot of a frame,
    its gains those of all slots, its users in the same order in each of them. Each estimate is joined with the truth
    in a pair of its own. `crb` is the conditional Cramer-Rao bound, for a linear array.
    """

    truth = In({name: TRUTH[name] for name in (*_TRUE, "draw")})
    estimate = In({name: ESTIMATE[name] for name in _ESTIMATED}, many=True)

    snapshots: int = Field(40, ge=1, description="slots of a frame, as the source has it")
    limit: float = Field(
        HALF_BEAM, gt=0, description="off by more than this is an outlier", json_schema_extra={"unit": "rad"}
    )
    crb: bool = Field(True, description="whether to compute the Cramer-Rao bound; it needs a linear array")

    def start(self, truth: StreamInfo, estimate: dict[str, StreamInfo]) -> None:
        """Begin to count, or go on where only a description has changed."""
        names = names_of([*estimate])
        if getattr(self, "_names", None) != names:
            self._names = names
            self._judged = {name: Judgement(DoaScore(self.limit)) for name in names.values()}
            self._bounds = {"angle": FrameMean(), "gain": FrameMean()}
        line = truth.geometry is not None and truth.geometry.n_z == 1
        self._array = truth.geometry if self.crb and line else None
        self._judge = next(iter(names.values()), None)

    def process(self, truth: Rows, estimate: Rows, slots: range, source: str) -> None:
        """Judge some slots of one estimator."""
        name = self._names[source]
        judged = self._judged[name]
        for at, draw in enumerate(truth["draw"].tolist()):
            row = {key: truth[key][at].copy() for key in _TRUE}
            row |= {f"{key}_hat": estimate[key][at].copy() for key in _ESTIMATED}
            if (frame := judged.take(draw, row, self.snapshots)) is not None:
                _judge(judged.score, frame)
                if name == self._judge:
                    self._add_bound(frame)

    def _add_bound(self, frame: Rows) -> None:
        if self._array is None:
            return
        for user, there in enumerate(frame["mask"][-1]):
            if there.any():
                theta, gain = _angles(frame["u"][-1, user, there]), frame["gain"][:, user, there]
                given = frame["antenna_noise_var"][-1, user], self._array.n_y, self._array.spacing_y
                self._bounds["angle"].add(crb_conditional(theta, gain, *given).mean())
                self._bounds["gain"].add(crb_gain(theta, gain, *given).gain.mean())

    def snapshot(self) -> dict[str, Any]:
        """Return what was judged so far, and the slots of the frames that are coming in."""
        return {
            "judged": {
                name: {
                    "score": one.score.snapshot(),
                    "incomplete": one.incomplete,
                    "draw": one.draw,
                    "held": _stacked(one.held) if one.held else {},
                }
                for name, one in self._judged.items()
            },
            "bounds": {name: mean.snapshot() for name, mean in self._bounds.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what was judged."""
        self._judged = {
            name: Judgement(DoaScore.restore(one["score"]), one["incomplete"], one["draw"], _split(one["held"]))
            for name, one in state["judged"].items()
        }
        self._bounds = {name: FrameMean.restore(mean) for name, mean in state["bounds"].items()}

    def results(self) -> dict[str, Any]:
        """Return the judgement of every estimator by its block's name, see `DoaScore.result`, and the bound.

        Frames of which not all slots came are left out, and said: how many.
        """
        told = {name: one.score.result() for name, one in self._judged.items()}
        for name, one in self._judged.items():
            told[name] |= {"incomplete": one.incomplete} if one.incomplete else {}
        if self._array is None:
            return told
        angle, gain = self._bounds["angle"], self._bounds["gain"]
        return told | {"crb": {"frames": angle.frames, "rmse_deg": root_deg(angle.mean), "path_gain_mse": gain.mean}}


def _judge(score: DoaScore, frame: Rows) -> None:
    """Add a frame of slots (slot, user, path) to a score, each user of the stream a frame of its own."""
    gain, gain_hat = (frame[key].swapaxes(0, 1) for key in ("gain", "gain_hat"))
    sound = frame["mask_hat"][-1] & np.isfinite(gain_hat).all(1)
    matching = match(_angles(frame["u_hat"][-1]), _angles(frame["u"][-1]), sound, frame["mask"][-1])
    score.add(matching, path_errors(gain_hat, gain, matching.which))


def _angles(u: NDArray[Any]) -> NDArray[np.float64]:
    return np.arcsin(np.clip(np.asarray(u, np.float64), -1, 1))


def _stacked(rows: list[Rows]) -> Rows:
    """Return the arrays of some slots as arrays with a slot axis."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _split(held: Rows) -> list[Rows]:
    slots = len(next(iter(held.values()))) if held else 0
    return [{name: array[at] for name, array in held.items()} for at in range(slots)]
