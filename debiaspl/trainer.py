"""The loop: feed → step → log → evaluate → save; resumes at any step as if it had never stopped."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from debiaspl import checkpoint
from debiaspl.build import Run
from debiaspl.checkpoint import Progress
from debiaspl.evaluation import bias
from debiaspl.evaluation.accuracy import Accuracy, evaluate
from debiaspl.logbook import Logbook
from debiaspl.optim import learning_rate
from debiaspl.step import METRICS
from pipelines.batch import Batch
from pipelines.errors import UserError
from pipelines.files import replacing

CHECKPOINT = "last.pt"
"""Its name in a run's folder."""
PICTURES = 10
"""How often in a run the picture of pseudo-label counts is drawn."""


class Trainer:
    """One run in one folder. ``fit`` trains to the end, or until ``request_stop`` is called from a signal handler."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder = run, folder
        self._recipe, self._science, self._ranks = run.recipe, run.recipe.science, run.ranks
        self._state, self._step = run.learner.state, run.learner.step
        self._split, self._steps = run.training.split, run.training.steps_per_epoch
        self._images = self._science.labeled_batch * (1 + self._science.mu)  # of a step, each counted once
        self._named = 0  # undecodable files that TensorBoard lists already
        self._stop_requested = False
        self._rate = 0.0  # images per second of the epoch so far
        self.progress = Progress()

    @property
    def checkpoint_path(self) -> Path:
        """Where the run's checkpoint is written."""
        return self._folder / CHECKPOINT

    @property
    def picture_path(self) -> Path:
        """Where the picture of pseudo-label counts is written."""
        return self._folder / "pseudo_labels.png"

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint; raises CheckpointError where it is damaged or belongs to another experiment."""
        self.progress = checkpoint.restore(path, self._state, self._recipe, self._split.fingerprint, self._ranks)

    def request_stop(self) -> None:
        """Asks to save and stop after the current step (with several ranks: at the next reading of metrics)."""
        self._stop_requested = True

    def fit(self) -> bool:
        """Trains the remaining steps; returns False where a stop was requested before the end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._ranks.is_main:
            self._write_config()
        total = self._science.epochs * self._steps
        logbook = Logbook(
            self._folder,
            step=self.progress.step,
            evaluated=True,
            total_images=total * self._images,
            done_images=self.progress.step * self._images,
            quiet=not self._ranks.is_main,
        )
        try:
            while self.progress.step < total:
                if not self._train_epoch(logbook):
                    self._save()
                    logbook.say(f"stopped after step {self.progress.step}; go on with --resume auto")
                    return False
                self._finish_epoch(logbook)
            return True
        finally:
            logbook.close()

    def close(self) -> None:
        """Closes the data sources."""
        self._run.close()

    def _train_epoch(self, logbook: Logbook) -> bool:
        """Trains to the end of the epoch; returns False where a stop was requested on the way."""
        epoch, done = divmod(self.progress.step, self._steps)
        if done == 0:  # not at the epoch's end: its counts are saved with the checkpoint
            self._state.pseudo_labels.zero_()
        labeled, feed = done * self._science.labeled_batch, self._run.training.feed
        feed.seek(epoch, labeled, labeled * self._science.mu)
        accumulation = self._science.accumulation(self._ranks.world)
        first, started, waited = self.progress.step, time.perf_counter(), 0.0
        batches = iter(feed)
        try:
            while self.progress.step < (epoch + 1) * self._steps:
                before = time.perf_counter()
                groups = list(islice(batches, accumulation))
                waited += time.perf_counter() - before
                metrics = self._train_step(groups)
                logbook.advance(self._images)
                last = self.progress.step == (epoch + 1) * self._steps
                if self.progress.step % self._recipe.engine.log_every == 0 or last:
                    elapsed = time.perf_counter() - started
                    self._log(logbook, metrics, (self.progress.step - first) / elapsed, waited / elapsed)
                if self._should_stop() and not last:
                    return False
            return True
        finally:
            _close(batches)

    def _log(self, logbook: Logbook, metrics: torch.Tensor, steps_per_s: float, waiting_share: float) -> None:
        """Records a step's metrics and the epoch's speed so far, and names files that were found undecodable."""
        values = self._read(metrics)
        self._rate = steps_per_s * self._images
        values |= {"speed/steps_per_s": steps_per_s, "speed/images_per_s": self._rate}
        values["speed/waiting_share"] = waiting_share
        note = f"epoch {(self.progress.step - 1) // self._steps + 1}/{self._science.epochs}"
        logbook.write(self.progress.step, values, note=f"{note} loss {values['train/total']:.3f}")
        self._say_bad_files(logbook)

    def _train_step(self, groups: list[Batch]) -> torch.Tensor:
        rate = learning_rate(self._science, self.progress.step, self._steps)
        for parameters in self._state.optimizer.param_groups:
            parameters["lr"].fill_(rate)
        metrics = self._step(groups, self.progress.step)
        self.progress.step += 1
        return metrics

    def _should_stop(self) -> bool:
        if self._ranks.world == 1:
            return self._stop_requested
        # Asking the other ranks costs a message and a wait: only where the metrics are read anyway.
        return self.progress.step % self._recipe.engine.log_every == 0 and self._ranks.any(self._stop_requested)

    def _read(self, metrics: torch.Tensor) -> dict[str, float]:
        """Reads a step's metrics, the only reading of the device; raises UserError if the loss is not finite."""
        mean = self._ranks.sum_(metrics.clone()) / self._ranks.world
        values = {f"train/{name}": value for name, value in zip(METRICS, mean.tolist(), strict=True)}
        if not math.isfinite(values["train/total"]):
            raise UserError(self._not_finite(f"The loss became {values['train/total']}"))
        values["train/lr"] = learning_rate(self._science, self.progress.step - 1, self._steps)
        if self._state.scaler.is_enabled():  # each halving is a step that was skipped
            values["train/loss_scale"] = self._state.scaler.get_scale()
        return values

    def _not_finite(self, what: str) -> str:
        first = max(0, self.progress.step - self._recipe.engine.log_every)
        path = self.checkpoint_path
        last = f"The last good checkpoint is {path}" if path.exists() else "There is no checkpoint yet"
        return (
            f"{what} within steps {first}–{self.progress.step}. {last}; a lower science.lr or "
            "engine.precision=float32 may help."
        )

    def _finish_epoch(self, logbook: Logbook) -> None:
        """Evaluates, records and saves."""
        epoch = self.progress.step // self._steps
        results = self._evaluate(epoch)
        values = {
            f"val/{model}_{name}": value for model, row in results.items() for name, value in row._asdict().items()
        }
        counts = self._ranks.sum_(self._state.pseudo_labels.clone()).double().cpu().numpy()
        values |= self._bias(counts)
        values["data/bad_files"] = self._count_bad_files(logbook)
        logbook.write(self.progress.step, values)
        logbook.say(
            f"epoch {epoch:>3}/{self._science.epochs}"
            + "".join(f"  {model} {accuracy.top1:5.2f} %" for model, accuracy in results.items())
            + f"  p̂ max/min {values['bias/phat_max_over_min']:.1f}  {self._rate:,.0f} images/s"
        )
        if epoch % max(1, self._science.epochs // PICTURES) == 0 or epoch == self._science.epochs:
            self._draw(counts, logbook)
        self._save()

    def _evaluate(self, epoch: int) -> dict[str, Accuracy]:
        """Returns the accuracy of student and teacher, noted in ``progress``."""
        validation, classes = self._run.validation, len(self._split.listing.classes)
        models = {"student": self._state.student, "teacher": self._state.teacher}
        results = evaluate(models, validation.source, validation.labels, classes, self._ranks, self._run.learner.dtype)
        for model, accuracy in results.items():
            record = {"epoch": float(epoch), **accuracy._asdict()}
            self.progress.last[model] = record
            if model not in self.progress.best or record["top1"] > self.progress.best[model]["top1"]:
                self.progress.best[model] = record
        return results

    def _bias(self, counts: np.ndarray) -> dict[str, float]:
        """Returns scalars that tell how uneven the epoch's pseudo-labels and p̂ are."""
        before, after = bias.imbalance(counts[0, 0]), bias.imbalance(counts[1, 0])
        phat = checkpoint.gathered_phat(self._state, self._recipe, self._ranks).mean(0)
        return {
            "bias/gini_before": before.gini,
            "bias/gini_after": after.gini,
            "bias/missing_classes_after": float(after.missing),
            "bias/phat_max_over_min": float(phat.max() / phat.min()),
        }

    def _count_bad_files(self, logbook: Logbook) -> float:
        """Returns how many undecodable files any rank has met so far; all ranks know them from now on."""
        self._say_bad_files(logbook)
        names = self._run.training.share_bad_files(self._ranks)
        if len(names) > self._named:
            self._named = len(names)
            logbook.text("data/bad_files", names, self.progress.step)
        return float(len(names))

    def _say_bad_files(self, logbook: Logbook) -> None:
        """Names each file once, on the rank that was the first to meet it."""
        for name in self._run.training.new_bad_files():
            logbook.say(f"cannot be decoded, replaced: {name}", every_rank=True)

    def _draw(self, counts: np.ndarray, logbook: Logbook) -> None:
        if self._ranks.is_main:
            classes, truth = self._split.listing.classes, bias.true_counts(self._split)
            bias.draw_pseudo_labels(self.picture_path, counts, classes, truth)
            logbook.picture("pseudo_labels", self.picture_path, self.progress.step)

    def _save(self) -> None:
        """Replaces the checkpoint; raises UserError, and keeps the last one, where the state is not finite."""
        networks = [*self._state.student.state_dict().values(), *self._state.teacher.state_dict().values()]
        floating = [tensor for tensor in [*networks, self._state.phat] if tensor.is_floating_point()]
        largest = torch.stack(torch._foreach_norm(floating, float("inf")))
        if self._ranks.any(not bool(largest.isfinite().all())):
            raise UserError(self._not_finite("Weights, statistics or p̂ became infinite or NaN"))
        split = self._split.fingerprint
        checkpoint.save(self.checkpoint_path, self._state, self.progress, self._recipe, split, self._ranks)

    def _write_config(self) -> None:
        experiment = self._recipe.experiment(self._split.fingerprint)
        content = {"experiment": experiment, **dataclasses.asdict(self._recipe)}
        with replacing(self._folder / "config.json") as building:
            building.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if self._run.learner.imported is not None:
            self._run.learner.imported.write(self._folder / "init.json", weights=self._science.init)


def _close(batches: Iterator[Batch]) -> None:
    """Ends the feed's thread now rather than when the generator happens to be collected."""
    close = getattr(batches, "close", None)
    if close is not None:
        close()
