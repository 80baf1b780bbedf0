"""What can be counted about a step instead of timed: reads by the host, dispatcher calls, recompilations, addresses."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from debiaspl.build import build_state
from debiaspl.config import Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.models.eman import Eman
from debiaspl.step import State, Step, Tables
from pipelines.batch import Batch, Views


class Calls(TorchDispatchMode):
    """Notes every operation that reaches the dispatcher, and those whose result leaves the device for the host."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.to_host: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(str(func))
        try:
            result = func(*args, **(kwargs or {}))
        except (DataDependentOutputException, DynamicOutputShapeException):
            self.to_host.append(str(func))
            raise
        if "cpu" in _devices(result) and "cuda" in _devices((args, kwargs)):
            self.to_host.append(str(func))
        return result


def _devices(tree: Any) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}


def host_reads(
    science: Science,
    classes: int = 5,
    run: Callable[[Step, Sequence[Batch]], object] = lambda step, batches: step(batches, 0),
) -> list[str]:
    """The operations of an eager step on a GPU that make the host wait for a value; needs no driver.

    The step runs on fake CUDA tensors, which have no values: reading one raises, as does a shape that depends on
    values (``nonzero``, ``unique``), and every copy to the host is noted. ``run``: what to do with step and batches.
    """

    def backward(loss: Tensor) -> None:
        # Autograd's engine would ask the driver. What it computes has no reads of its own.
        for parameter in state.student.parameters():
            parameter.grad = torch.zeros_like(parameter)

    with (
        FakeTensorMode(),
        torch.device("cuda"),
        mock.patch.object(nn.Module, "to", lambda model, *_, **__: model),  # fake parameters cannot be moved
        mock.patch.object(Tensor, "backward", backward),
        mock.patch.object(SGD, "step"),  # the fused kernel has no fake version
    ):
        ranks = Ranks(device=torch.device("cuda"))
        state = build_state(Recipe("facts", science), classes, ranks)
        labels, confidence = torch.zeros(1, dtype=torch.int64), torch.zeros(1)
        tables = Tables(labels, labels if science.clip else None, confidence if science.clip else None)
        step = Step(state, tables, science, ranks, dtype=torch.bfloat16, compile=False)
        batches = empty_batches(science)
        with Calls() as calls:
            try:
                run(step, batches)
            except (DataDependentOutputException, DynamicOutputShapeException):
                assert calls.to_host
    return calls.to_host


def empty_batches(science: Science) -> list[Batch]:
    """A step's batches with no particular content, on whatever device is the default."""

    def empty(views: int, images: int) -> Views:
        pixels = torch.empty(views, images, science.size, science.size, 3, dtype=torch.uint8)
        return Views(pixels, torch.empty(images, dtype=torch.int64))

    group, views = science.group, science.unlabeled_views.count
    return [Batch(empty(1, group), empty(views, science.mu * group)) for _ in range(science.groups)]


def teacher_update_calls(state: State, science: Science) -> list[str]:
    """The operations that one update of the teacher hands to the dispatcher. Makes teacher and student equal."""
    eman = Eman(state.teacher, state.student, science.ema)
    with Calls() as calls:
        eman.update()
    return calls.names


def addresses(state: State) -> list[int]:
    """Where parameters, BatchNorm's statistics, teacher, momentum (once there is any), p̂ and counts lie in memory."""
    momentum = [slot["momentum_buffer"] for slot in state.optimizer.state.values()]
    networks = [*state.student.state_dict().values(), *state.teacher.state_dict().values()]
    return [tensor.data_ptr() for tensor in [*networks, *momentum, state.phat, state.pseudo_labels]]


class Compiled(NamedTuple):
    """What the compiler has done in this process so far."""

    graphs: int
    breaks: int

    @classmethod
    def now(cls) -> "Compiled":
        return cls(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
