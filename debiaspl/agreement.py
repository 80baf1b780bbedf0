"""Flags on which all ranks of a run agree without waiting for each other: each step's are read one step later."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from debiaspl.distributed import Ranks


class Agreement:
    """Every rank calls ``exchange`` equally often, and is answered the same. On one rank the answer is its own flags.

    The messages are a few numbers on the CPU, sent while the next step is computed: no device value is read.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._group: Any = dist.new_group(backend="gloo") if ranks.world > 1 else None
        self._sent: tuple[Tensor, Any] | None = None  # with the message's handle

    def exchange(self, *flags: bool) -> tuple[bool, ...]:
        """Sends this rank's flags; returns which of those of the call before any rank had set (none at first)."""
        if self._group is None:
            return flags
        before, count = self._sent, torch.tensor([float(flag) for flag in flags])
        self._sent = count, dist.all_reduce(count, group=self._group, async_op=True)
        if before is None:
            return (False,) * len(flags)
        counts, work = before
        work.wait()
        return tuple(bool(count > 0) for count in counts)
