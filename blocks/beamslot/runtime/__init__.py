"""The core: blocks, what carries slots between them, and what starts and watches them."""

from beamslot.runtime.block import Block, In, Out, RunContext
from beamslot.runtime.core import End, Tagged

__all__ = ["Block", "End", "In", "Out", "RunContext", "Tagged"]
