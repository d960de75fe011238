"""Several processes that train one net, as torchrun starts them: each takes its share of every batch.

Random numbers are drawn for the whole batch by every process, so a net without statistics of its batch learns the same
from one process as from several.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Team:
    """The processes: this one's number and how many there are."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def leads(self) -> bool:
        """Whether it is this process that writes."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Return which frames of a batch are this process's."""
        return slice(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of floating point by their mean over all processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, mean in zip(tensors, (flat / self.size).split([one.numel() for one in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def any(self, wish: bool) -> bool:
        """Return whether any process wishes so."""
        if self.size == 1:
            return wish
        said = torch.tensor(float(wish), device=self.device)
        dist.all_reduce(said, op=dist.ReduceOp.MAX)
        return bool(said)

    def agree(self, net: nn.Module) -> None:
        """Average the statistics that each process has gathered of its own frames."""
        self.average([buffer for buffer in net.buffers() if buffer.is_floating_point()])


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """Join the processes that torchrun started, gloo on CPUs and NCCL on GPUs; alone where it did not."""
    made = Team(device)
    if made.size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield made
    finally:
        if made.size > 1:
            dist.destroy_process_group()


def chosen(device: str) -> torch.device:
    """Return the device that is asked for: "cpu", "cuda", or "auto", CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        made = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(made)
        return made
    return torch.device(device)
