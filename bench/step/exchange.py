"""Ways to sum gradients over ranks, and the process that tries them: one rank of ``python -m bench ranks``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from debiaspl.models.classifier import Classifier
from debiaspl.step import flat_gradients

_CLASSES = 1000
_BUCKET = 25 * 2**20
"""Bytes of a message, as in DistributedDataParallel."""


class RankSetting(NamedTuple):
    """Says what every rank computes, and where the ranks meet."""

    arch: str
    size: int
    crops: int
    world: int
    threads: int
    meeting: str
    """A file that does not exist yet, in which the ranks find each other."""


class Exchange(Protocol):
    """A network whose gradients are summed over the ranks."""

    model: nn.Module

    def finish(self) -> None:
        """Waits, after the backward pass, until all gradients are sums."""


class Nothing:
    """The yardstick: every rank keeps its own gradients."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.flat = flat_gradients(list(model.parameters()))

    def finish(self) -> None:
        """Returns at once: there is nothing to wait for."""


class OneMessage(Nothing):
    """One flat message after the backward pass, as debiaspl.step sends it."""

    def finish(self) -> None:
        """Sends the message and waits for it."""
        dist.all_reduce(self.flat)


class Buckets(Nothing):
    """A message as soon as all gradients of a bucket are ready; the last parameters' come first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._sent: list[dist.Work] = []
        end = start = self.flat.numel()
        members: list[nn.Parameter] = []
        for number, parameter in enumerate(reversed(parameters := list(model.parameters())), 1):
            members.append(parameter)
            start -= parameter.numel()
            if (end - start) * self.flat.element_size() >= _BUCKET or number == len(parameters):
                self._send_when_ready(members, self.flat[start:end])
                members, end = [], start

    def _send_when_ready(self, members: list[nn.Parameter], bucket: Tensor) -> None:
        ready: list[Tensor] = []

        def note(parameter: Tensor) -> None:
            ready.append(parameter)
            if len(ready) == len(members):
                ready.clear()
                self._sent.append(dist.all_reduce(bucket, async_op=True))

        for parameter in members:
            parameter.register_post_accumulate_grad_hook(note)

    def finish(self) -> None:
        """Waits for the messages that are on their way."""
        for work in self._sent:
            work.wait()
        self._sent.clear()


class Ddp:
    """DistributedDataParallel around the network. Its gradients are means, not sums."""

    def __init__(self, model: nn.Module) -> None:
        # BatchNorm's statistics travel by themselves in our step, so they do not here.
        self.model: nn.Module = DistributedDataParallel(model, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def finish(self) -> None:
        """Returns at once: the backward pass has waited already."""


WAYS: dict[str, Callable[[nn.Module], Exchange]] = {
    "no exchange": Nothing,
    "one message after the backward pass": OneMessage,
    "buckets as gradients become ready": Buckets,
    "DistributedDataParallel": Ddp,
}


def serve(rank: int, setting: RankSetting, orders: Connection) -> None:
    """Does the steps that come in as (way, number) and answers each order when done; an empty way ends the process."""
    torch.set_num_threads(setting.threads)
    with _group(rank, setting):
        exchanges = {name: _build(way, setting) for name, way in WAYS.items()}
        generator = torch.Generator().manual_seed(rank)
        shape = (setting.crops, setting.size, setting.size, 3)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, _CLASSES, (setting.crops,), generator=generator)
        _check(exchanges, pixels, labels)
        orders.send("ready")
        while (order := orders.recv())[0]:
            for _ in range(order[1]):
                _step(exchanges[order[0]], pixels, labels)
            orders.send("done")


@contextmanager
def _group(rank: int, setting: RankSetting) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{setting.meeting}", rank=rank, world_size=setting.world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _build(way: Callable[[nn.Module], Exchange], setting: RankSetting) -> Exchange:
    torch.manual_seed(0)
    return way(Classifier(setting.arch, _CLASSES).to(memory_format=torch.channels_last))


def _step(exchange: Exchange, pixels: Tensor, labels: Tensor) -> None:
    exchange.model.zero_grad(set_to_none=False)
    F.cross_entropy(exchange.model(pixels), labels).backward()
    exchange.finish()


def _check(exchanges: dict[str, Exchange], pixels: Tensor, labels: Tensor) -> None:
    """Raises RuntimeError unless all ways give the same sums."""
    sums = {}
    for name, exchange in exchanges.items():
        _step(exchange, pixels, labels)
        gradients = [p.grad.flatten() for p in exchange.model.parameters() if p.grad is not None]
        sums[name] = torch.cat(gradients) * (dist.get_world_size() if isinstance(exchange, Ddp) else 1)
    own = sums.pop("no exchange")
    dist.all_reduce(own)
    for name, found in sums.items():
        if (error := float((found - own).abs().max() / own.abs().max())) > 1e-4:
            raise RuntimeError(f"{name} is off by {error:.1e}: its time would mean nothing.")
