"""One optimisation step: uint8 views in; updated student, teacher and p̂ out.

The numerical work is in two functions of tensors, ``teacher_pass`` and ``student_pass``; ``Step`` feeds them group by
group. Nothing here reads a device value on the host.

Between ranks travel, in each step: p̂'s mean (where all groups share one, before the loss that needs it), BatchNorm's
statistics (during the backward pass) and, after it, the gradients as one message: about 2 % of a step on 8 GPUs joined
by NVLink. Buckets sent meanwhile would save nothing of it where the step is compiled, since one graph hands over all
gradients at its end, and gain nothing on CPUs (arithmetic and measurement: ``python -m bench ranks``).

With float16 the loss is scaled. Where the gradients then are not finite, parameters and momentum stay as they are, on
every rank, and the scale is halved; p̂, BatchNorm's statistics and the teacher move on: they follow the forward passes.
These must be sound: activations beyond float16's 65504 spoil the statistics, as the next reading of the loss reports.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD

from debiaspl.config import Science
from debiaspl.distributed import Ranks, SentTensors
from debiaspl.models.eman import Eman
from debiaspl.objectives import (
    ClipTargets,
    Losses,
    Objective,
    TeacherTargets,
    teacher_targets,
    total_loss,
    updated_phat,
)
from pipelines import keyed_random
from pipelines.batch import Batch

METRICS = Losses._fields
"""The names of the values that a step returns, in order."""


class Tables(NamedTuple):
    """What training may know of each of the listing's N samples, on the device, looked up by index."""

    labels: Int64[Tensor, "n"]
    clip_label: Int64[Tensor, "n"] | None
    clip_confidence: Float[Tensor, "n"] | None


class State(NamedTuple):
    """All tensors that a step changes, in place: their addresses never change."""

    student: nn.Module
    teacher: nn.Module
    optimizer: SGD
    phat: Float[Tensor, "g c"]  # one row per group, or one for all
    pseudo_labels: Float[Tensor, "2 2 c"]  # counts since the epoch began: raw or debiased × all or above the threshold
    scaler: GradScaler = GradScaler(enabled=False)  # of the loss; enabled for float16


def teacher_pass(
    teacher: nn.Module,
    weak: UInt8[Tensor, "v u h w 3"],
    phat: Float[Tensor, "c"],
    objective: Objective,
    dtype: torch.dtype,
) -> tuple[TeacherTargets, Float[Tensor, "2 2 c"]]:
    """Returns the teacher's targets for one group, and how many samples each class was given."""
    with torch.no_grad(), _autocast(weak.device, dtype):
        logits = _full_precision(teacher(weak.flatten(0, 1))).unflatten(0, weak.shape[:2])
        targets = teacher_targets(logits, phat, objective.tau, objective.threshold)
        raw_confidence, raw = targets.probability.max(-1)
        counts = [
            _class_counts(raw, torch.ones_like(raw_confidence), len(phat)),
            _class_counts(raw, (raw_confidence >= objective.threshold).to(raw_confidence), len(phat)),
            _class_counts(targets.target[0], torch.ones_like(raw_confidence), len(phat)),
            _class_counts(targets.target[0], targets.mask[0], len(phat)),
        ]
        return targets, torch.stack(counts).unflatten(0, (2, 2))


def student_pass(
    student: nn.Module,
    labeled: UInt8[Tensor, "1 b h w 3"],
    strong: UInt8[Tensor, "v u h w 3"],
    labels: Int64[Tensor, "b"],
    teacher: TeacherTargets,
    phat: Float[Tensor, "c"],
    clip: ClipTargets | None,
    objective: Objective,
    dtype: torch.dtype,
) -> Losses:
    """Returns the loss of one group; labeled and strong views share one forward: BatchNorm sees them together."""
    with _autocast(strong.device, dtype):
        logits = student(torch.cat([labeled.flatten(0, 1), strong.flatten(0, 1)]))
    labeled_logits, strong_logits = _full_precision(logits).split([len(labels), len(logits) - len(labels)])
    strong_logits = strong_logits.unflatten(0, strong.shape[:2])
    return total_loss(objective, labeled_logits, labels, strong_logits, teacher, phat, clip)


class Step:
    """Applies steps to a State. ``compile`` compiles the two passes, each as one graph.

    ``cuda_graphs`` replays them as CUDA graphs (not run on a GPU yet): a pass may then overwrite what it returned last,
    so what outlives the next one is copied. The gradients become views of one tensor, whose address never changes.
    """

    def __init__(
        self,
        state: State,
        tables: Tables,
        science: Science,
        ranks: Ranks,
        *,
        dtype: torch.dtype,
        compile: bool,
        cuda_graphs: bool = False,
    ) -> None:
        self._state, self._tables, self._science, self._ranks, self._dtype = state, tables, science, ranks, dtype
        self._eman = Eman(state.teacher, state.student, science.ema)
        self._cuda_graphs = cuda_graphs
        self._teacher_pass: Callable[..., Any] = teacher_pass
        self._student_pass: Callable[..., Any] = student_pass
        if compile:
            mode = "reduce-overhead" if cuda_graphs else None
            self._teacher_pass = torch.compile(teacher_pass, fullgraph=True, dynamic=False, mode=mode)
            self._student_pass = torch.compile(student_pass, fullgraph=True, dynamic=False, mode=mode)
        accumulation = science.accumulation(ranks.world)
        self._groups = range(ranks.rank * accumulation, (ranks.rank + 1) * accumulation)
        norms = [module for module in state.student.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        # Only group 0 moves the running statistics; where it is the only one, they need no care.
        self._statistics = [buffer for norm in norms for buffer in norm.buffers()] if science.groups > 1 else []
        parameters = list(state.student.parameters())
        self._gradients = flat_gradients(parameters)
        self._trained = [parameter for parameter in parameters if parameter.requires_grad]
        self._parts = [parameter.grad for parameter in self._trained if parameter.grad is not None]  # all of them

    def __call__(self, batches: Sequence[Batch], step: int) -> Float[Tensor, "m"]:
        """Does one step over this rank's groups; returns METRICS averaged over them."""
        state, objective = self._state, self._science.objective
        targets = self._teach(batches)

        state.student.train()
        metrics: list[Tensor] = []
        statistics: list[SentTensors] = []
        for group, batch, target in zip(self._groups, batches, targets, strict=True):
            # Dropout's draws are keyed like all others, so they depend on neither rank nor interruption.
            torch.manual_seed(int(keyed_random.bits(self._science.seed, keyed_random.Stream.DROPOUT, step, group) >> 1))
            self._mark_pass()
            weak = len(batch.unlabeled.pixels) // 2
            losses = self._student_pass(
                state.student,
                batch.labeled.pixels,
                batch.unlabeled.pixels[weak:],
                self._tables.labels[batch.labeled.index],
                target,
                state.phat[group % len(state.phat)],
                self._clip_targets(batch),
                objective,
                self._dtype,
            )
            first = not metrics
            if first:
                statistics = self._ranks.send(self._statistics)
            metrics.append(torch.stack([value.detach() for value in losses]))
            self._differentiate(losses.total, first)
        self._ranks.sum_(self._gradients)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        for sent in statistics:
            sent.write_back()
        self._eman.update()
        return torch.stack(metrics).mean(0)

    def _differentiate(self, loss: Tensor, first: bool) -> None:
        """Adds one group's gradients to the flat ones; those of a step's ``first`` group replace what is there.

        One call for all of them: ``backward`` would add each parameter's in an operation of its own.
        """
        scaled = self._state.scaler.scale(loss / self._science.groups)
        found = torch.autograd.grad(scaled, self._trained, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_(self._parts, found) if first else torch._foreach_add_(self._parts, found)

    def _teach(self, batches: Sequence[Batch]) -> list[TeacherTargets]:
        """Returns the targets of all groups, made with the p̂ of the step before, and moves p̂."""
        state = self._state
        targets, probabilities = [], []
        for group, batch in zip(self._groups, batches, strict=True):
            self._mark_pass()
            weak = len(batch.unlabeled.pixels) // 2
            target, counts = self._teacher_pass(
                state.teacher,
                batch.unlabeled.pixels[:weak],
                state.phat[group % len(state.phat)],
                self._science.objective,
                self._dtype,
            )
            if self._cuda_graphs:
                target = TeacherTargets(*(tensor.clone() for tensor in target))
            targets.append(target)
            probabilities.append(target.probability.mean(0))
            state.pseudo_labels.add_(counts)
        mean = torch.stack(probabilities)
        if len(state.phat) == 1:
            rows = slice(None)
            mean = self._ranks.sum_(mean.sum(0, keepdim=True)) / self._science.groups
        else:
            rows = slice(self._groups.start, self._groups.stop)
        state.phat[rows] = updated_phat(state.phat[rows], mean, self._science.phat_momentum)
        return targets

    def _clip_targets(self, batch: Batch) -> ClipTargets | None:
        if self._tables.clip_label is None or self._tables.clip_confidence is None:
            return None
        index = batch.unlabeled.index
        return ClipTargets(self._tables.clip_label[index], self._tables.clip_confidence[index])

    def _mark_pass(self) -> None:
        """Allows CUDA graphs a new replay: nothing that one returned before is used any more."""
        if self._cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()


def _autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype in (torch.bfloat16, torch.float16))


def flat_gradients(parameters: list[nn.Parameter]) -> Float[Tensor, "n"]:
    """Gives all parameters zero gradients that are views of one tensor, and returns it."""
    sizes = [parameter.numel() for parameter in parameters]
    flat = torch.zeros(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)
    for parameter, part in zip(parameters, flat.split(sizes), strict=True):
        parameter.grad = part.as_strided(parameter.shape, parameter.stride())
    return flat


def _full_precision(logits: Tensor) -> Tensor:
    """Returns the logits in float32, which the objective computes in; float64, which tests use, stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _class_counts(label: Int64[Tensor, "u"], weight: Float[Tensor, "u"], classes: int) -> Float[Tensor, "c"]:
    """Returns how often each class occurs, in fixed shape (bincount's would depend on the data)."""
    member = label[:, None] == torch.arange(classes, device=label.device)
    return (member * weight[:, None]).sum(0)
