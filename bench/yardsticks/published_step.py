"""The step with the published habits: float32 NCHW, eager, a loop for everything. Yardstick and oracle of our own step.

Written from the method's equations and for reading; nothing of debiaspl.objectives is used, so that an error there
cannot hide here. One process; several groups are accumulated one after the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from debiaspl.config import Science
from debiaspl.step import METRICS, State, Tables
from pipelines import keyed_random
from pipelines.batch import Batch

READINGS = (*METRICS, "accuracy")
"""The seven values that are read on the host at every step; accuracy is that of the labeled images."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Images(NamedTuple):
    """One group as a published loader hands it over: a float NCHW tensor for each view, normalised."""

    labeled: Float[Tensor, "b 3 h w"]
    weak: list[Float[Tensor, "u 3 h w"]]
    strong: list[Float[Tensor, "u 3 h w"]]
    labeled_index: Int64[Tensor, "b"]
    unlabeled_index: Int64[Tensor, "u"]


class Teaching(NamedTuple):
    """What the teacher says of one group: per target set the labels and their masks, and softmax of the mean logits."""

    targets: list[Int64[Tensor, "u"]]
    masks: list[Float[Tensor, "u"]]
    probability: Float[Tensor, "u c"]


class PublishedStep:
    """Applies steps to a State, in place, as ``debiaspl.step.Step`` does, and gives the same numbers up to rounding.

    The state's networks become NCHW contiguous, its optimizer a plain SGD whose learning rate is a Python float. In
    float64 (build the state under ``torch.set_default_dtype``) the two steps agree to rounding.

    ``reads=False`` leaves out the host's seven readings, ``ema=False`` the teacher's update.
    """

    def __init__(self, state: State, tables: Tables, science: Science, *, reads: bool = True, ema: bool = True) -> None:
        self._state, self._tables, self._science, self._reads, self._ema = state, tables, science, reads, ema
        for model in (state.student, state.teacher):
            model.to(memory_format=torch.contiguous_format)
        for group in state.optimizer.param_groups:
            group.update(lr=float(group["lr"]), fused=None)
        state.optimizer.state.clear()  # momentum in the networks' old layout; SGD begins it anew, with the gradient
        state.teacher.load_state_dict(state.student.state_dict())
        state.teacher.eval().requires_grad_(False)

    def __call__(self, batches: Sequence[Batch], step: int) -> dict[str, float] | Float[Tensor, "m"]:
        """Does one step. Returns READINGS, or without reads METRICS as a tensor: means over the groups."""
        return self.on_images([normalised(batch, self._dtype) for batch in batches], step)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self._state.student.parameters()).dtype

    def on_images(self, groups: Sequence[Images], step: int) -> dict[str, float] | Float[Tensor, "m"]:
        """Does the same for normalised images: what remains of the step where the loader has normalised them."""
        state, science = self._state, self._science
        teachings = [self._teach(images, group) for group, images in enumerate(groups)]
        self._move_phat([teaching.probability.mean(0) for teaching in teachings])

        state.student.train()
        state.optimizer.zero_grad()
        readings: list[dict[str, Tensor]] = []
        after_first: dict[str, Tensor] = {}
        for group, (images, teaching) in enumerate(zip(groups, teachings, strict=True)):
            # The draws of debiaspl.step, so that the two can be compared.
            torch.manual_seed(int(keyed_random.bits(science.seed, keyed_random.Stream.DROPOUT, step, group) >> 1))
            values = self._losses(images, teaching, state.phat[group % len(state.phat)])
            (values["total"] / len(groups)).backward()
            readings.append(values)
            if group == 0 and len(groups) > 1:
                after_first = {name: buffer.clone() for name, buffer in state.student.named_buffers()}
        for name, buffer in state.student.named_buffers():  # only the first group moves BatchNorm's statistics
            if name in after_first:
                buffer.copy_(after_first[name])
        state.optimizer.step()
        if self._ema:
            self._average()
        if self._reads:
            return {name: sum(values[name].item() for values in readings) / len(readings) for name in READINGS}
        return torch.stack([torch.stack([values[name].detach() for name in METRICS]) for values in readings]).mean(0)

    @torch.no_grad()
    def _teach(self, images: Images, group: int) -> Teaching:
        """Steps 1: the target sets, made with the p̂ of the step before."""
        science, phat = self._science, self._state.phat[group % len(self._state.phat)]
        views = _logits(self._state.teacher, torch.cat(images.weak)).chunk(len(images.weak))
        mean = torch.stack(list(views)).mean(0)
        sets = [mean] if len(views) == 1 else [mean, *views]
        targets, masks = [], []
        for logits in sets:
            confidence, target = torch.softmax(logits - science.tau * _log(phat), dim=1).max(dim=1)
            targets.append(target)
            masks.append((confidence >= science.threshold).to(logits.dtype))
        probability = torch.softmax(mean, dim=1)
        self._count(probability, targets[0], masks[0])
        return Teaching(targets, masks, probability)

    def _count(self, probability: Float[Tensor, "u c"], target: Int64[Tensor, "u"], mask: Float[Tensor, "u"]) -> None:
        """Counts how often each class is chosen: raw or debiased × all or above the threshold."""
        counts, classes = self._state.pseudo_labels, probability.shape[1]
        confidence, raw = probability.max(dim=1)
        chosen = (raw, raw[confidence >= self._science.threshold]), (target, target[mask == 1])
        for row, pair in enumerate(chosen):
            for column, labels in enumerate(pair):
                counts[row, column] += torch.bincount(labels, minlength=classes)

    def _move_phat(self, means: list[Float[Tensor, "c"]]) -> None:
        """Moves p̂ (step 2) by raw probabilities; every group's own p̂, or one p̂ from the mean over the groups."""
        phat, momentum = self._state.phat, self._science.phat_momentum
        if len(phat) == 1:
            means = [torch.stack(means).mean(0)]
        for row, mean in zip(phat, means, strict=True):
            row.copy_(momentum * row + (1 - momentum) * mean)

    def _losses(self, images: Images, teaching: Teaching, phat: Float[Tensor, "c"]) -> dict[str, Tensor]:
        """Steps 3 to 8 for one group, with the new p̂."""
        science = self._science
        logits = _logits(self._state.student, torch.cat([images.labeled, *images.strong]))
        labeled, labels = logits[: len(images.labeled)], self._tables.labels[images.labeled_index]
        strong = logits[len(images.labeled) :].chunk(len(images.strong))
        margined = [view + science.tau * _log(phat) for view in strong]

        supervised = F.cross_entropy(labeled, labels)
        terms = [
            (F.cross_entropy(view, target, reduction="none") * mask).mean()
            for target, mask in zip(teaching.targets, teaching.masks, strict=True)
            for view in margined
        ]
        unsupervised = torch.stack(terms).mean()
        clip_rate = torch.zeros_like(supervised)
        if self._tables.clip_label is not None:
            clip, clip_rate = self._clip(images, teaching, margined)
            unsupervised = (unsupervised + clip) / 2
        cld = torch.zeros_like(supervised)
        if science.lambda_cld:
            student = torch.stack(list(strong)).mean(0) if len(strong) > 1 else margined[0]
            cld = _cld(student, teaching.probability, science)
        return {
            "total": supervised + science.lambda_u * unsupervised + science.lambda_cld * cld,
            "supervised": supervised,
            "unsupervised": unsupervised,
            "cld": cld,
            "mask_rate": teaching.masks[0].mean(),
            "clip_rate": clip_rate,
            "accuracy": (labeled.argmax(dim=1) == labels).to(labeled.dtype).mean(),
        }

    def _clip(self, images: Images, teaching: Teaching, margined: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns step 5: the loss on CLIP's labels where it is sure and no mask fired, and the share of these."""
        assert self._tables.clip_label is not None
        assert self._tables.clip_confidence is not None
        label = self._tables.clip_label[images.unlabeled_index].clamp(min=0)  # -1: none, and its confidence is 0
        gate = self._tables.clip_confidence[images.unlabeled_index] >= self._science.clip_gate
        for mask in teaching.masks:
            gate = gate & (mask == 0)
        weight = gate.to(margined[0].dtype)
        terms = [(F.cross_entropy(view, label, reduction="none") * weight).mean() for view in margined]
        return torch.stack(terms).mean(), weight.mean()

    @torch.no_grad()
    def _average(self) -> None:
        """Moves the teacher (step 9): e ← m·e + (1 − m)·student, a tensor at a time."""
        momentum, average = self._science.ema, self._state.teacher.state_dict()
        for name, value in self._state.student.state_dict().items():
            if value.is_floating_point():
                average[name].copy_(momentum * average[name] + (1 - momentum) * value)
            else:
                average[name].copy_(value)


def normalised(batch: Batch, dtype: torch.dtype = torch.float32) -> Images:
    """Returns a batch of uint8 NHWC views as published loaders give it."""

    def images(pixels: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
        mean, std = (torch.tensor(of, dtype=dtype, device=pixels.device).view(1, 3, 1, 1) for of in (_MEAN, _STD))
        return (pixels.permute(0, 3, 1, 2).contiguous().to(dtype) / 255 - mean) / std

    views = [images(view) for view in batch.unlabeled.pixels]
    weak = len(views) // 2
    return Images(
        labeled=images(batch.labeled.pixels[0]),
        weak=views[:weak],
        strong=views[weak:],
        labeled_index=batch.labeled.index,
        unlabeled_index=batch.unlabeled.index,
    )


def _logits(model: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
    """Returns the logits by the classifier's parts one by one, for images that are normalised already."""
    trunk, dropout, head = (model.get_submodule(name) for name in ("trunk", "dropout", "head"))
    return head(dropout(trunk(images)))


def _log(phat: Float[Tensor, "c"]) -> Float[Tensor, "c"]:
    return torch.log(torch.clamp(phat, min=torch.finfo(torch.float32).tiny))


def _cld(student: Float[Tensor, "u c"], teacher: Float[Tensor, "u c"], science: Science) -> Float[Tensor, ""]:
    """Returns step 7, by class: the student's probabilities against the mean teacher probability of every group."""
    least = science.objective.cld_assignment == "argmin"
    assigned = teacher.argmin(dim=1) if least else teacher.argmax(dim=1)
    centroids = torch.zeros(teacher.shape[1], teacher.shape[1], dtype=teacher.dtype, device=teacher.device)
    for label in assigned.unique():
        centroids[label] = teacher[assigned == label].mean(0)
    return F.cross_entropy(torch.softmax(student, dim=1) @ centroids.T / science.cld_temperature, assigned)
