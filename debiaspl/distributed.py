"""The ranks of a run: torchrun's environment, and the few collectives that training needs (no-ops on one rank)."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pipelines.errors import UserError


@dataclass(frozen=True)
class SentTensors:
    """Values that were sent, and the tensors they were taken from."""

    tensors: list[Tensor]
    flat: Tensor
    work: dist.Work | None

    def write_back(self) -> None:
        """Waits for the message (on a GPU only its stream waits) and puts it into the tensors."""
        if self.work is not None:
            self.work.wait()
        parts = self.flat.split([tensor.numel() for tensor in self.tensors])
        pairs = zip(parts, self.tensors, strict=True)
        torch._foreach_copy_(self.tensors, [part.view_as(tensor) for part, tensor in pairs])


@dataclass(frozen=True)
class Ranks:
    """Who we are among how many, and on which device."""

    rank: int = 0
    world: int = 1
    local_world: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which prints, logs and saves."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sums over all ranks, in place; returns the tensor."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def send(self, tensors: list[Tensor]) -> list[SentTensors]:
        """Sends rank 0's present values to all ranks, as one message per dtype; on one rank they are only copied."""
        sent = []
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            sent.append(SentTensors(alike, flat, dist.broadcast(flat, 0, async_op=True) if self.world > 1 else None))
        return sent

    def max(self, number: int) -> int:
        """Returns the largest ``number`` of all ranks; with several, this reads a device value on the host."""
        if self.world == 1:
            return number
        largest = torch.tensor(number, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def any(self, flag: bool) -> bool:
        """Returns whether ``flag`` holds on any rank; with several, this reads a device value on the host."""
        if self.world == 1:
            return flag
        return bool(self.sum_(torch.tensor(float(flag), device=self.device)) > 0)

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.world > 1:
            dist.barrier()


def join(device: str) -> Ranks:
    """Joins the run that torchrun started, or stands alone; ``device`` is 'auto', 'cpu' or 'cuda'.

    Raises UserError where a GPU is asked for and there is none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device is 'cuda', but torch finds no usable GPU. Use --set engine.device=cpu")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    on = torch.device(device, local_rank) if device == "cuda" else torch.device("cpu")
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Ranks(rank, world, int(os.environ.get("LOCAL_WORLD_SIZE", 1)), on)


def leave() -> None:
    """Leaves the process group, if one was joined."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
