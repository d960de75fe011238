"""Pass the first slots of a stream, then end it."""

from typing import Any

from numpy.typing import NDArray
from pydantic import Field

from beamslot.frame import StreamInfo
from beamslot.runtime import Block, End, In, Out


class Head(Block):
    """Pass the first `slots` slots of any stream and tell the producer that no more are wanted."""

    stream = In()
    first = Out()

    slots: int = Field(ge=1, description="how many slots pass")

    def start(self, stream: StreamInfo) -> None:
        """Learn which arrays have an entry a slot."""
        self._by_slot = {name for name, array in stream.arrays.items() if "slot" in array.axes}

    def process(self, stream: dict[str, NDArray[Any]], slots: range) -> Any:
        """Pass these, or what is still wanted of them; nothing where all have passed, as after a restart."""
        left = self.slots - slots.start
        if left > len(slots):
            return dict(stream)
        if left <= 0:
            return End()
        return End({name: array[:left] if name in self._by_slot else array for name, array in stream.items()})
