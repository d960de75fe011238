"""Trouble on purpose: processes killed, stopped, cut off, at chosen slots or by a seeded clock.

What a flowgraph is worth is seen when things break. `beamslot run --chaos SEED` breaks them: every process of the run
may be killed (SIGKILL), stopped for a moment (SIGSTOP), or lose its connections, at times that the seed alone decides.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from beamslot.errors import BadParam

Action = Literal["kill", "stop", "cut"]
ACTIONS: tuple[Action, ...] = get_args(Action)

STOPPED = 0.2
"""How long a stopped process stands still [s]."""


@dataclass(frozen=True)
class Strike:
    """One blow: what happens to the process of a block when it comes to a slot.

    life: in which of its lives, 0 for the first    replica: which of its processes
    """

    action: Action
    block: str
    slot: int
    life: int = 0
    replica: int = 0


@dataclass(frozen=True)
class Chaos:
    """Blows by a seeded clock.

    seed: decides when, whom and how    every: mean time between two blows [s]    actions: what may happen
    """

    seed: int
    every: float = 1.0
    actions: tuple[Action, ...] = ACTIONS

    @classmethod
    def parse(cls, text: str) -> "Chaos":
        """Return the chaos that "7" or "7,every=0.5,actions=kill+stop" asks for.

        raises BadParam saying what came and what is wanted
        """
        wanted = f"wanted SEED[,every=SECONDS][,actions={'+'.join(ACTIONS)}]"
        seed, *rest = text.split(",")
        given: dict[str, str] = {key: value for key, _, value in (part.partition("=") for part in rest)}
        try:
            every = float(given.pop("every", "1"))
            actions = tuple(given.pop("actions", "+".join(ACTIONS)).split("+"))
            if given or not 0 < every < float("inf") or not set(actions) <= set(ACTIONS):
                raise ValueError
            return cls(int(seed), every, cast(tuple[Action, ...], actions))
        except ValueError:
            raise BadParam(f"chaos: got {text!r}; {wanted}") from None


class Blows:
    """The blows of a chaos, one after the other."""

    def __init__(self, chaos: Chaos) -> None:
        self._random = random.Random(chaos.seed)  # noqa: S311 (nothing secret)
        self._chaos = chaos
        self.after = self._pause()

    def _pause(self) -> float:
        return self._random.expovariate(1 / self._chaos.every)

    def next(self, targets: Sequence[str]) -> tuple[Action, str]:
        """Return what happens now and to whom; `after` is then the time to the next [s]."""
        self.after = self._pause()
        return self._random.choice(self._chaos.actions), self._random.choice(targets)


def strikes_of(strikes: Iterable[Strike], block: str, life: int, replica: int) -> tuple[Strike, ...]:
    """Return the strikes that hit one life of one process of a block."""
    return tuple(s for s in strikes if (s.block, s.life, s.replica) == (block, life, replica))
