"""A recording in the place of the blocks that made it, and whether the rest of the graph still says the same."""

from beamslot.replaying.judging import DIFFERENT, IDENTICAL, NOT_COMPARABLE, jitter, judge, text, throughput
from beamslot.replaying.planning import Asked, Planned, as_recorded, plan, recorded_graph, speed_of

__all__ = [
    "DIFFERENT",
    "IDENTICAL",
    "NOT_COMPARABLE",
    "Asked",
    "Planned",
    "as_recorded",
    "jitter",
    "judge",
    "plan",
    "recorded_graph",
    "speed_of",
    "text",
    "throughput",
]
