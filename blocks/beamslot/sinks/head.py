"""Pass the first slots of a stream, then end it."""

from typing import Any

from numpy.typing import NDArray
from pydantic import Field

from beamslot.runtime import Block, End, In, Out


class Head(Block):
    """Pass the first `slots` slots of any stream and tell the producer that no more are wanted."""

    stream = In()
    first = Out()

    slots: int = Field(ge=1, description="how many slots pass")

    def process(self, stream: dict[str, NDArray[Any]], slots: range) -> Any:
        """Pass these, or what is still wanted of them."""
        left = self.slots - slots.start
        if left > len(slots):
            return dict(stream)
        return End({name: array[:left] if len(array) == len(slots) else array for name, array in stream.items()})
