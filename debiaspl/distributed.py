"""The ranks of a run: torchrun's environment, and the few collectives that training needs (no-ops on one rank)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from debiaspl.cores import Allowance, allowance, share
from debiaspl.device import find_device
from pipelines.errors import UserError

_MOST_COMPILERS = 32
"""Processes that torch compiles with at most, as it has it itself."""


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
    cores: int = field(default_factory=lambda: share(own := allowance(), [own]))
    """How many of the machine's cores this rank may keep busy."""

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

    Raises UserError where a GPU cannot be used that is asked for or just there, and where the launcher's variables do
    not fit.
    """
    launched = _launched(os.environ)
    device = find_device(device)
    if device == "cuda":
        if launched.local_rank >= (gpus := torch.cuda.device_count()):
            raise UserError(f"LOCAL_RANK is {launched.local_rank}, but there are {gpus} GPUs: --nproc_per_node {gpus}")
        torch.cuda.set_device(launched.local_rank)
    on = torch.device(device, launched.local_rank) if device == "cuda" else torch.device("cpu")
    own = allowance()
    everyone = [own] * launched.local_world
    if launched.world > 1 and not dist.is_initialized():
        try:
            everyone = _meet("nccl" if device == "cuda" else "gloo", launched, own)
        except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise UserError(f"The other ranks cannot be met at MASTER_ADDR:MASTER_PORT={place}: {error}") from error
    cores = share(own, everyone)
    # As many as the machine has cores would torch start on each rank. It reads this once, before it first compiles.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(min(cores, _MOST_COMPILERS)))
    return Ranks(launched.rank, launched.world, launched.local_world, on, cores)


def _meet(backend: str, launched: "_Launched", own: Allowance) -> list[Allowance]:
    """Makes the process group in a part of the launcher's store that no earlier attempt has written to.

    torchrun keeps its store when it restarts the ranks, and torch does not: it would meet the addresses of dead ones.
    Returns the allowances of all ranks.
    """
    store, _, _ = next(rendezvous("env://", launched.rank, launched.world))
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    part = PrefixStore(attempt, store)
    dist.init_process_group(backend, store=part, rank=launched.rank, world_size=launched.world)
    return exchanged(own, part, launched.rank, launched.world)


def exchanged(own: Allowance, store: Store, rank: int, world: int) -> list[Allowance]:
    """Tells all ranks of one's own allowance, through a store; returns theirs, as soon as they have told it."""
    store.set(f"allowance {rank}", own.packed())
    return [Allowance.unpacked(store.get(f"allowance {other}")) for other in range(world)]


class _Launched(NamedTuple):
    """What a launcher says of this process."""

    rank: int
    world: int
    local_rank: int
    local_world: int


def _launched(environment: Mapping[str, str]) -> _Launched:
    """Reads torchrun's variables. Raises UserError for values, left over from elsewhere perhaps, that start no run."""
    rank, world = (_whole(environment, name, least) for name, least in (("RANK", 0), ("WORLD_SIZE", 1)))
    local_rank, local_world = (
        _whole(environment, name, least) for name, least in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    if rank >= world:
        stated = f"WORLD_SIZE is {world}" if "WORLD_SIZE" in environment else "WORLD_SIZE is not set"
        raise _misfit("RANK", str(rank), f"but {stated}")
    if world > 1:
        for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
            if not environment.get(name):
                raise _misfit("WORLD_SIZE", str(world), f"but {name} is not set")
        _whole(environment, "MASTER_PORT", 0)
    return _Launched(rank, world, local_rank, local_world)


def _whole(environment: Mapping[str, str], name: str, least: int) -> int:
    """Returns a variable's whole number from ``least`` on, which is also its default."""
    text = environment.get(name, str(least))
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise _misfit(name, repr(text), f"which is no whole number from {least} on")
    return int(text)


def _misfit(name: str, value: str, why: str) -> UserError:
    return UserError(
        f"The environment variable {name} is {value}, {why}. Start several ranks with torchrun --standalone, or unset "
        f"{name} for a single one."
    )


def leave() -> None:
    """Leaves the process group, if one was joined."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
