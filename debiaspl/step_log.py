"""What steps are recorded with: their metrics and speed, read from the device once the next step is queued."""

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from debiaspl.build import Run
from debiaspl.clock import Lap
from debiaspl.config import Recipe
from debiaspl.logbook import Logbook
from debiaspl.optim import learning_rate
from debiaspl.step import METRICS
from pipelines.errors import UserError
from pipelines.names import readable

WAITS = 0.05
"""Share of an epoch's time that steps may wait for batches before a line says so."""
STARTS = 30.0
"""Seconds that they may wait in any epoch: a pipeline that starts and fills its queues is no bottleneck."""


class NotFinite(UserError):
    """The loss or the state became infinite or NaN: what was saved before is what to go on from."""

    def __init__(self, what: str, step: int, log_every: int, checkpoint: Path) -> None:
        """``what``, a sentence's beginning, was found after ``step``; ``checkpoint`` is where the newest one is."""
        last = f"The last good checkpoint is {checkpoint}" if checkpoint.exists() else "There is no checkpoint yet"
        super().__init__(
            f"{what} within steps {max(0, step - log_every)}–{step}. {last}; a lower science.lr or "
            "engine.precision=float32 may help."
        )


class HostCopy:
    """Values of the device, copied to the host behind what is queued so far; reading them waits for no more than that.

    On a GPU (never run on one so far) the copy goes to pinned memory, and an event says when it is there.
    """

    def __init__(self, values: Tensor) -> None:
        self._made: torch.cuda.Event | None = None
        if values.device.type != "cuda":
            self._values = values.clone()
            return
        self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._values.copy_(values, non_blocking=True)
        self._made = torch.cuda.current_stream(values.device).record_event()

    def read(self) -> list[float]:
        """Returns the values, once they are there."""
        if self._made is not None:
            self._made.synchronize()
        return self._values.tolist()


class _Noted(NamedTuple):
    """What was noted after a step: its number, the steps that its lap covers, and values on their way to the host."""

    step: int
    steps: int
    lap: Callable[[], Lap]
    values: HostCopy


class StepLog:
    """Notes steps, and records each when it is settled: after the next step was queued, and before anything is saved.

    The device then computes while the host waits for the step before, and writes.
    """

    def __init__(self, run: Run, logbook: Logbook, checkpoint: Path) -> None:
        """``checkpoint``: where the newest one is, for messages."""
        self._run, self._logbook, self._checkpoint = run, logbook, checkpoint
        self._noted: _Noted | None = None
        self.rate = 0.0
        """Images per second of the epoch so far, as of the last record."""

    def note(self, metrics: Tensor, step: int, steps: int, lap: Callable[[], Lap]) -> None:
        """Asks the device for a step's metrics; ``steps`` were done in the time of ``lap``. Every rank must call it."""
        ranks, scaler = self._run.ranks, self._run.learner.state.scaler
        mean = ranks.sum_(metrics.clone()) / ranks.world
        scale = scaler.scale(torch.ones(1, dtype=mean.dtype, device=mean.device))  # 1 where float16 is not used
        self._noted = _Noted(step, steps, lap, HostCopy(torch.cat([mean, scale.to(mean)])))

    def settle(self) -> None:
        """Records what was noted, if anything is left; raises NotFinite if the loss is not finite."""
        if self._noted is None:
            return
        noted, self._noted = self._noted, None
        science, steps_per_epoch = self._run.recipe.science, self._run.training.steps_per_epoch
        *metrics, scale = noted.values.read()
        values = {f"train/{name}": value for name, value in zip(METRICS, metrics, strict=True)}
        if not math.isfinite(values["train/total"]):
            what = f"The loss became {values['train/total']}"
            raise NotFinite(what, noted.step, self._run.recipe.engine.log_every, self._checkpoint)
        values["train/lr"] = learning_rate(science, noted.step - 1, steps_per_epoch)
        if self._run.learner.state.scaler.is_enabled():  # each halving is a step that was skipped
            values["train/loss_scale"] = scale
        lap = noted.lap()
        values |= self._speed(noted, lap)
        note = f"epoch {(noted.step - 1) // steps_per_epoch + 1}/{science.epochs}"
        self._logbook.write(noted.step, values, note=f"{note} loss {values['train/total']:.3f}")
        if noted.step % steps_per_epoch == 0 and lap.waited > max(STARTS, WAITS * lap.elapsed):
            self._logbook.say(_waiting(values["speed/waiting_share"], self._run.recipe))

    def flush(self) -> int:
        """Settles, and waits until all records are written, or have been refused; returns how many there are."""
        self.settle()
        return self._logbook.flush()

    def _speed(self, noted: _Noted, lap: Lap) -> dict[str, float]:
        """Returns the epoch's speed up to a step, and the share of its time that was spent waiting for batches."""
        science = self._run.recipe.science
        steps_per_s = noted.steps / lap.elapsed
        self.rate = steps_per_s * science.labeled_batch * (1 + science.mu)  # each image counted once
        return {
            "speed/steps_per_s": steps_per_s,
            "speed/images_per_s": self.rate,
            "speed/waiting_share": lap.waited / lap.elapsed,
        }


def _waiting(share: float, recipe: Recipe) -> str:
    """Returns what to say of an epoch whose steps waited for batches, with the command that finds out why."""
    engine = recipe.engine
    words = ["--recipe", recipe.name, "--pipeline", engine.pipeline, "--data", engine.data]
    command = f"python -m bench train {shlex.join(words)}"
    if readable(command) != command:  # a name that a terminal cannot show, and nobody can type
        command = "python -m bench train --help"
    return f"steps waited {share:.0%} of the epoch's time for images; what would help: {command}"
