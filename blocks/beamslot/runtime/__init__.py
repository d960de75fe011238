"""The core: blocks, what carries slots between them, and what starts and watches them."""

from beamslot.runtime.block import Block, In, Live, Out, RunContext
from beamslot.runtime.outputs import Dropped, End, Received, Tagged

__all__ = ["Block", "Dropped", "End", "In", "Live", "Out", "Received", "RunContext", "Tagged"]
