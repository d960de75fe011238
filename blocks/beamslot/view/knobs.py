"""What a live parameter looks like as a control, derived from what the run tells of it and nothing else."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from beamslot.flowgraph.values import value_of

NONE = "none"
"""How no value is written."""

DECIBELS_AROUND = 20.0
"""A slider of a level without limits goes so far to either side of the value that it begins with [dB]."""

TIMES = 4.0
"""Any other slider without limits ends at so many times its value."""

STEPS = 100
"""A slider has about so many steps."""

MOST_RATIO = 1e3
"""Limits further apart than by this factor are not for a slider."""

Kind = Literal["slider", "spinner", "choice", "switch", "text"]


@dataclass(frozen=True)
class Knob:
    """A control of a parameter: what kind, between which limits, in which steps.

    low, high: None where a spinner has no limit    options: of a choice    whole: whether it is a whole number
    """

    kind: Kind
    low: float | None = None
    high: float | None = None
    step: float = 1.0
    options: tuple[Any, ...] = ()
    whole: bool = False

    def value(self, raw: Any) -> Any:
        """Return the value of the parameter for what a control has; raises FlowgraphError where a text is no YAML."""
        if self.kind == "choice":
            return next((option for option in self.options if str(option) == raw), raw)
        if self.kind == "text":
            text = str(raw).strip()
            return None if text in ("", NONE) else value_of(text, "the value")
        return int(raw) if self.whole and raw is not None and float(raw).is_integer() else raw

    def raw(self, value: Any) -> Any:
        """Return what a control has for a value of the parameter."""
        if self.kind == "choice":
            return str(value)
        if self.kind == "text":
            return told(value)
        return value

    def holds(self, value: Any) -> bool:
        """Whether a value lies within the limits of a slider; one set elsewhere may not."""
        return self.kind != "slider" or (
            self.low is not None and self.high is not None and self.low <= value <= self.high
        )


def knob_of(declared: Mapping[str, Any]) -> Knob:
    """Return the control of a parameter, from what `AttachedRun.parameters` tells of it: value, type, limits, unit.

    A number with limits on both sides, or without a sensible one, is a slider over what makes sense; a whole number is
    a spinner; what may be none, a list, or a number that is 0 and has no limit above, is a text.
    """
    value, kind = declared.get("value"), declared.get("type")
    if "enum" in declared:
        return Knob("choice", options=tuple(declared["enum"]))
    if kind == "boolean":
        return Knob("switch")
    if kind not in ("integer", "number") or not isinstance(value, int | float) or not math.isfinite(value):
        return Knob("text")
    low = declared.get("minimum", declared.get("exclusiveMinimum"))
    high = declared.get("maximum", declared.get("exclusiveMaximum"))
    if kind == "integer":
        below, above = ("exclusiveMinimum" in declared), ("exclusiveMaximum" in declared)
        return Knob("spinner", low if low is None else low + below, high if high is None else high - above, whole=True)
    return _slider(declared, float(value), low, high)


def _slider(declared: Mapping[str, Any], value: float, low: float | None, high: float | None) -> Knob:
    if declared.get("unit") == "dB" and (low is None or high is None):
        ends = value - DECIBELS_AROUND, value + DECIBELS_AROUND
    elif (value == 0 and high is None) or _spans_decades(low, high):
        return Knob("text")
    else:
        ends = min(TIMES * value, 0.0), max(TIMES * value, 0.0)
    low, high = ends[0] if low is None else low, ends[1] if high is None else high
    low, high = min(low, value), max(high, value)
    step = round_step((high - low) / STEPS)
    outside = 1e-9 * step  # a limit that is a multiple of the step stays
    first, last = math.ceil(low / step - outside) * step, math.floor(high / step + outside) * step
    for key, end in (("exclusiveMinimum", first), ("exclusiveMaximum", last)):
        if key in declared and math.isclose(end, float(declared[key]), abs_tol=1e-9 * step):
            first, last = (first + step, last) if key == "exclusiveMinimum" else (first, last - step)
    return Knob("slider", min(_tidy(first), value), max(_tidy(last), value), step)


def _spans_decades(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low > 0 and high / low > MOST_RATIO


def round_step(step: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten.

    >>> round_step(0.4), round_step(0.016), round_step(1.0)
    (0.5, 0.02, 1.0)
    """
    if not step > 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(step))
    return _tidy(next((m * decade for m in (1, 2, 5) if m * decade >= step * (1 - 1e-9)), 10 * decade))


def _tidy(value: float) -> float:
    return float(f"{value:.12g}")


def told(value: Any) -> str:
    """Return a value as people read it."""
    if isinstance(value, float):
        return "max" if math.isinf(value) else f"{value:.6g}"
    return NONE if value is None else value if isinstance(value, str) else json.dumps(value)
