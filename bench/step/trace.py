"""FLOPs and peak memory of a recipe's step, added up over fake tensors: nothing is computed and nothing allocated.

Traced is the eager step, on fake CPU tensors: autocast lowers the same operations to bf16 there as on a GPU, and the
sizes of tensors do not depend on the device. Memory is that of every tensor that is alive at the same time: networks,
gradients, momentum, saved activations, temporaries, the step's images and those prefetched. Compiled, the step fuses
operations and keeps fewer activations, so its peak is lower.

DALI's own memory is arithmetic over what it is told to keep; how much its allocator keeps beside that is not known.
"""

import weakref
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from bench.step.facts import empty_batches
from debiaspl.build import build_state, compute_dtype
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import Step, Tables, teacher_pass
from pipelines.views import TrainingViews

GIB = 2**30
RESERVE = 1 * GIB
"""Added for what is no tensor: CUDA's context with its loaded kernels (about 0.5 GiB) and cuDNN's workspace."""
_BLOCK = 512
"""CUDA's allocator rounds up to so many bytes."""
_CLASSES, _IMAGES = 1000, 1_281_167  # ImageNet's, for head and tables
_DECODED = 500 * 375 * 3
"""Bytes of a usual picture of ImageNet, decoded."""
_IN_WORK = 2
"""Groups that a DALI pipeline decodes or cuts at the same time; those that lie ready come on top."""
CARDS = (8, 11, 16, 24, 40, 80)
"""Usual sizes of GPU memory, GB."""


@dataclass(frozen=True)
class Trace:
    """What a step of one GPU costs. FLOPs count a multiply-add as two, convolutions and matrix products only."""

    groups: int
    labeled: int
    unlabeled: int
    dtype: str
    parameters: int
    teacher_flops: int
    student_flops: int
    resident_bytes: int
    """Networks, gradients, momentum, tables, images: what remains between steps."""
    peak_bytes: int
    dali_bytes: int
    """DALI's decoders and buffers; 0 where the recipe's pipeline has none on the GPU."""

    @property
    def needed_bytes(self) -> int:
        """Peak with DALI's memory and RESERVE."""
        return self.peak_bytes + self.dali_bytes + RESERVE

    @property
    def card(self) -> str:
        """The smallest usual card that holds it. An 11 GB card has 11 GiB, less what the driver keeps."""
        fitting = [size for size in CARDS if self.fits(size)]
        return f"{fitting[0]} GB" if fitting else f"none of up to {CARDS[-1]} GB"

    def fits(self, gigabytes: int) -> bool:
        """Whether a card of that size holds it; 5 % are left free for fragments."""
        return self.needed_bytes <= 0.95 * gigabytes * GIB


class Memory(TorchDispatchMode):
    """Follows the storages of all tensors that operations make, from their birth to their end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = WeakIdKeyDictionary()

    def follow(self, tree: Any) -> None:
        """Counts the tensors in ``tree`` from now on; a storage counts once however many tensors share it."""
        for tensor in tree_leaves(tree):
            if not isinstance(tensor, Tensor) or (storage := tensor.untyped_storage()) in self._seen:
                continue
            size = -(-storage.nbytes() // _BLOCK) * _BLOCK
            self._seen[storage] = size
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._end, size)

    def _end(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.follow(result)
        return result


def trace(recipe: Recipe, groups: int) -> Trace:
    """Traces one step of ``groups`` groups on one GPU, as the recipe's science and precision have it ('auto': bf16)."""
    group = recipe.science.group
    science = replace(recipe.science, init="", labeled_batch=groups * group)
    dtype = torch.bfloat16 if recipe.engine.precision == "auto" else compute_dtype(recipe, Ranks())
    with (
        FakeTensorMode(),
        mock.patch.object(nn.Module, "to", lambda model, *_, **__: model),  # fake parameters cannot be moved
        mock.patch.object(SGD, "step"),  # fused: it needs no memory of its own
        Memory() as memory,
    ):
        state = build_state(Recipe(recipe.name, science), _CLASSES, Ranks())
        tables = _tables(science.clip)
        step = Step(state, tables, science, Ranks(), dtype=dtype, compile=False)
        in_time = groups + recipe.engine.prefetch  # this step's images, and those that lie ready for the next
        batches = empty_batches(replace(science, labeled_batch=in_time * group))
        memory.peak = resident = memory.now
        with FlopCounterMode(display=False) as whole:
            step(batches[:groups], 0)
        peak = memory.peak
        with FlopCounterMode(display=False) as teacher:
            for batch in batches[:groups]:
                weak = batch.unlabeled.pixels[: science.unlabeled_views.weak]
                teacher_pass(state.teacher, weak, state.phat[0], science.objective, dtype)
    return Trace(
        groups=groups,
        labeled=group,
        unlabeled=group * science.mu,
        dtype=str(dtype).removeprefix("torch."),
        parameters=sum(parameter.numel() for parameter in state.student.parameters()),
        teacher_flops=teacher.get_total_flops(),
        student_flops=whole.get_total_flops() - teacher.get_total_flops(),
        resident_bytes=resident,
        peak_bytes=peak,
        dali_bytes=dali_bytes(recipe),
    )


def dali_bytes(recipe: Recipe) -> int:
    """Returns the bytes of a GPU that DALI's two training pipelines take; an evaluation's take none by default.

    Each has its decoder's memory for every thread, pictures and crops in work, and finished views that lie ready.
    """
    science, options = recipe.science, recipe.dali
    if recipe.engine.pipeline != "dali" or not options.dali_cuts(evaluates=False, on_gpu=True):
        return 0
    decoder = options.threads * options.preallocate_mb << 20 if options.gpu_decodes(evaluates=False, on_gpu=True) else 0
    samples = (1, science.labeled_views), (science.mu, science.unlabeled_views)  # of either for each labeled image
    return sum(decoder + many * science.group * _sample_bytes(views, options.prefetch) for many, views in samples)


def _sample_bytes(views: TrainingViews, prefetch: int) -> int:
    """Returns DALI's bytes for one sample: decoded and cut in ``_IN_WORK`` groups, finished in ``prefetch`` more."""
    finished = 3 * views.size**2
    working = _DECODED + views.count * (_DECODED + 2 * finished)  # a crop is at most the picture; resized, mirrored
    return _IN_WORK * working + prefetch * views.count * finished


def _tables(clip: bool) -> Tables:
    labels = torch.empty(_IMAGES, dtype=torch.int64)
    return Tables(labels, torch.empty_like(labels) if clip else None, torch.empty(_IMAGES) if clip else None)


def table(found: Trace) -> list[tuple[str, str]]:
    """Returns the trace as rows for the terminal, an empty heading first."""
    tera = 1e12
    student, teacher = found.student_flops / tera, found.teacher_flops / tera
    return [
        ("", ""),
        ("images", f"{found.groups} × ({found.labeled} labeled + {found.unlabeled} unlabeled)"),
        ("precision", found.dtype),
        ("parameters", f"{found.parameters / 1e6:.2f} M"),
        ("student, forward and backward", f"{student:.2f} TFLOP"),
        ("teacher, forward", f"{teacher:.2f} TFLOP"),
        ("together", f"{student + teacher:.2f} TFLOP"),
        ("memory between steps", f"{found.resident_bytes / GIB:.2f} GiB"),
        ("memory at the peak, all tensors", f"{found.peak_bytes / GIB:.2f} GiB"),
        ("DALI's decoders and buffers", f"{found.dali_bytes / GIB:.2f} GiB"),
        ("with those, CUDA's context and cuDNN's workspace", f"{found.needed_bytes / GIB:.2f} GiB"),
        ("smallest usual card", found.card),
    ]
