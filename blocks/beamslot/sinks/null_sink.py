"""A sink that takes everything and keeps nothing."""

from typing import Any

from beamslot.runtime import Block, In


class NullSink(Block):
    """Take any stream and count its slots."""

    stream = In()

    def start(self) -> None:
        """Begin to count."""
        self._slots = self._missed = 0

    def process(self, slots: range) -> None:
        """Count."""
        self._slots += len(slots)

    def missed(self, slots: range, reason: str) -> None:
        """Count what did not come."""
        self._missed += len(slots)

    def snapshot(self) -> dict[str, int]:
        """Return the counts."""
        return {"slots": self._slots, "missed": self._missed}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from these counts."""
        self._slots, self._missed = state["slots"], state["missed"]

    def results(self) -> dict[str, Any]:
        """Return the counts."""
        return {"slots": self._slots, "missed": self._missed}
