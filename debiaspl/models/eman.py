"""The teacher: an exponential moving average of the student that covers BatchNorm's statistics too (EMAN)."""

import torch
from torch import Tensor, nn


class Eman:
    """Keeps ``teacher`` the moving average of ``student``: e ← m·e + (1 − m)·student, in place, float32.

    Parameters and BatchNorm running statistics alike; integer buffers (num_batches_tracked) are copied. The teacher
    is in eval mode for good and takes no gradient.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, momentum: float) -> None:
        teacher.load_state_dict(student.state_dict())
        teacher.eval().requires_grad_(False)
        self._momentum = momentum
        pairs = list(zip(teacher.state_dict().values(), student.state_dict().values(), strict=True))
        # state_dict shares memory with the modules, so these lists stay valid as long as updates are in place.
        self._averaged: list[Tensor] = [mine for mine, _ in pairs if mine.is_floating_point()]
        self._sources: list[Tensor] = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        self._counters: list[Tensor] = [mine for mine, _ in pairs if not mine.is_floating_point()]
        self._counted: list[Tensor] = [theirs for mine, theirs in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average by one step, in two calls for all tensors together."""
        torch._foreach_lerp_(self._averaged, self._sources, 1 - self._momentum)
        if self._counters:  # a network without BatchNorm has none, and an empty list is refused
            torch._foreach_copy_(self._counters, self._counted)
