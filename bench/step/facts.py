"""What can be counted about a step instead of timed: reads by the host, dispatcher calls, recompilations, addresses."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from debiaspl.build import build_state, compute_dtype
from debiaspl.config import Engine, Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.models.eman import Eman
from debiaspl.step import State, Step, Tables
from pipelines.batch import Batch, Views

_CLASSES = 5


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
    device: Literal["cuda", "cpu"] = "cuda",
    precision: Literal["bfloat16", "float16"] = "bfloat16",
    run: Callable[[Step, Sequence[Batch]], object] = lambda step, batches: step(batches, 0),
) -> list[str]:
    """Returns the operations of an eager step that make the host wait for a value of the device; needs no driver.

    The step runs on fake tensors, which have no values: reading one raises, as does a shape that depends on values
    (``nonzero``, ``unique``). On "cuda" copies to the host are noted, too, but autograd's engine would ask the driver:
    no backward pass. On "cpu" all but the values is real, loss scaling included. ``run``: what to do with step and
    batches.
    """
    ranks = Ranks(device=torch.device(device))
    recipe = Recipe("facts", science, Engine(precision=precision))
    with ExitStack() as patched:
        patch = mock.patch.object
        patches: list[Any] = [
            patch(nn.Module, "to", lambda model, *_, **__: model),  # fake parameters cannot be moved
            patch(torch, "_fused_sgd_"),  # it has no fake version, and is handed whatever it needs as tensors
        ]
        if device == "cuda":
            patches.append(patch(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False))
            patches.append(patch(torch.cuda, "is_bf16_supported", lambda *_, **__: True))
            patches.append(patch(torch.autograd, "grad", lambda loss, inputs, **_: list(map(torch.empty_like, inputs))))
        for each in (*patches, FakeTensorMode(), ranks.device):
            patched.enter_context(each)
        state = build_state(recipe, _CLASSES, ranks)
        labels, confidence = torch.zeros(1, dtype=torch.int64), torch.zeros(1)
        tables = Tables(labels, labels if science.clip else None, confidence if science.clip else None)
        step = Step(state, tables, science, ranks, dtype=compute_dtype(recipe, ranks), compile=False)
        batches = empty_batches(science)
        with Calls() as calls:
            try:
                run(step, batches)
            except (DataDependentOutputException, DynamicOutputShapeException):
                assert calls.to_host
    return calls.to_host


def empty_batches(science: Science) -> list[Batch]:
    """Returns a step's batches with no particular content, on whatever device is the default."""

    def empty(views: int, images: int) -> Views:
        pixels = torch.empty(views, images, science.size, science.size, 3, dtype=torch.uint8)
        return Views(pixels, torch.empty(images, dtype=torch.int64))

    group, views = science.group, science.unlabeled_views.count
    return [Batch(empty(1, group), empty(views, science.mu * group)) for _ in range(science.groups)]


def teacher_update_calls(state: State, science: Science) -> list[str]:
    """Returns the operations that one update of the teacher dispatches. Makes teacher and student equal."""
    eman = Eman(state.teacher, state.student, science.ema)
    with Calls() as calls:
        eman.update()
    return calls.names


def addresses(state: State) -> dict[str, int]:
    """Returns where everything lies that lasts from step to step; BatchNorm's buffers are in the state_dicts."""
    tensors = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    tensors |= {f"teacher.{name}": value for name, value in state.teacher.state_dict().items()}
    for name, parameter in state.student.named_parameters():
        assert parameter.grad is not None, "Step makes the gradients"
        tensors[f"gradient.{name}"] = parameter.grad
        tensors[f"momentum.{name}"] = state.optimizer.state[parameter]["momentum_buffer"]
    tensors |= {"phat": state.phat, "pseudo_labels": state.pseudo_labels, "lr": state.optimizer.param_groups[0]["lr"]}
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


class Compiled(NamedTuple):
    """Counts what the compiler has done in this process so far."""

    graphs: int
    breaks: int

    @classmethod
    def now(cls) -> "Compiled":
        """Returns the counts of this moment."""
        return cls(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
