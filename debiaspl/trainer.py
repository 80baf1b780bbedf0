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
from debiaspl.build import (
    build_state,
    build_tables,
    compiles,
    compute_dtype,
    known_bad_files,
    load_init,
    open_feed,
    open_validation,
)
from debiaspl.checkpoint import Progress
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.evaluation import bias
from debiaspl.evaluation.accuracy import evaluate
from debiaspl.logbook import Logbook
from debiaspl.optim import learning_rate
from debiaspl.step import METRICS, Step
from pipelines.batch import Batch
from pipelines.errors import UserError
from pipelines.files import replacing
from pipelines.samples.listing import Listing
from pipelines.samples.split import Split

CHECKPOINT = "last.pt"
"""Its name in a run's folder."""
PICTURES = 10
"""How often in a run the picture of pseudo-label counts is drawn."""


class Trainer:
    """One run in one folder. ``fit`` trains to the end, or until ``request_stop`` is called from a signal handler."""

    def __init__(
        self, recipe: Recipe, split: Split, validation: Listing, ranks: Ranks, folder: Path, *, resuming: bool = False
    ) -> None:
        """``resuming``: ``resume`` comes next, so weights for the start are not needed."""
        self._recipe, self._split, self._ranks, self._folder = recipe, split, ranks, folder
        self._science, self._classes = recipe.science, split.listing.classes
        self._steps = steps_per_epoch(recipe, split)
        self._accumulation = self._science.accumulation(ranks.world)
        self._state = build_state(recipe, len(self._classes), ranks)
        self._imported = None if resuming else load_init(recipe, self._state.student, ranks)
        tables, self._dtype = build_tables(split, ranks), compute_dtype(recipe, ranks)
        self._step = Step(
            self._state,
            tables,
            self._science,
            ranks,
            dtype=self._dtype,
            compile=compiles(recipe, ranks),
            cuda_graphs=recipe.engine.compile == "cuda-graphs",
        )
        self._bad_files = known_bad_files(recipe, split)
        self._feed = open_feed(recipe, split, self._steps, ranks, self._bad_files)
        if not ranks.is_main:  # what the listing and the .beton tell, they tell every rank
            for bad_files in self._bad_files:
                bad_files.news()
        self._validation = open_validation(recipe, validation, ranks)
        self._validation_labels = torch.from_numpy(validation.labels).to(ranks.device)
        self._fingerprint = split.fingerprint
        self._listings = split.listing, split.unlabeled_listing
        self._named = 0  # undecodable files that TensorBoard lists already
        self._stop_requested = False
        self._rate = 0.0  # images per second of the epoch so far
        self.progress = Progress()

    @property
    def checkpoint_path(self) -> Path:
        return self._folder / CHECKPOINT

    @property
    def picture_path(self) -> Path:
        return self._folder / "pseudo_labels.png"

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint."""
        self.progress = checkpoint.restore(path, self._state, self._recipe, self._fingerprint, self._ranks)

    def request_stop(self) -> None:
        """Save and stop after the step that is being computed (with several ranks: at the next reading of metrics)."""
        self._stop_requested = True

    def fit(self) -> bool:
        """Train the remaining steps; False where a stop was requested before the end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._ranks.is_main:
            self._write_config()
        images = self._science.labeled_batch * (1 + self._science.mu)
        total = self._science.epochs * self._steps
        logbook = Logbook(
            self._folder,
            step=self.progress.step,
            evaluated=True,
            total_images=total * images,
            done_images=self.progress.step * images,
            quiet=not self._ranks.is_main,
        )
        try:
            while self.progress.step < total:
                if not self._train_epoch(logbook, images):
                    self._save()
                    logbook.say(f"stopped after step {self.progress.step}; go on with --resume auto")
                    return False
                self._finish_epoch(logbook)
            return True
        finally:
            logbook.close()

    def close(self) -> None:
        """Close the data sources."""
        self._feed.close()
        self._validation.close()

    def _train_epoch(self, logbook: Logbook, images: int) -> bool:
        """Train to the end of the epoch; False where a stop was requested on the way."""
        epoch, done = divmod(self.progress.step, self._steps)
        if done == 0:  # not at the epoch's end: its counts are saved with the checkpoint
            self._state.pseudo_labels.zero_()
        labeled = done * self._science.labeled_batch
        self._feed.seek(epoch, labeled, labeled * self._science.mu)
        started, waited = time.perf_counter(), 0.0
        first = self.progress.step
        batches = iter(self._feed)
        try:
            while self.progress.step < (epoch + 1) * self._steps:
                before = time.perf_counter()
                groups = list(islice(batches, self._accumulation))
                waited += time.perf_counter() - before
                metrics = self._train_step(groups)
                logbook.advance(images)
                last = self.progress.step == (epoch + 1) * self._steps
                if self.progress.step % self._recipe.engine.log_every == 0 or last:
                    values = self._read(metrics)
                    elapsed = time.perf_counter() - started
                    values["speed/steps_per_s"] = (self.progress.step - first) / elapsed
                    values["speed/images_per_s"] = values["speed/steps_per_s"] * images
                    values["speed/waiting_share"] = waited / elapsed
                    note = f"epoch {epoch + 1}/{self._science.epochs} loss {values['train/total']:.3f}"
                    self._rate = values["speed/images_per_s"]
                    logbook.write(self.progress.step, values, note=note)
                    self._say_bad_files(logbook)
                if self._should_stop() and not last:
                    return False
            return True
        finally:
            _close(batches)

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
        """The one place where training reads from the device. Raises UserError where the loss is not finite."""
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
        """Evaluate, record, save."""
        epoch = self.progress.step // self._steps
        models = {"student": self._state.student, "teacher": self._state.teacher}
        results = evaluate(
            models, self._validation, self._validation_labels, len(self._classes), self._ranks, self._dtype
        )
        values: dict[str, float] = {}
        for model, accuracy in results.items():
            record = {"epoch": float(epoch), **accuracy._asdict()}
            self.progress.last[model] = record
            if model not in self.progress.best or record["top1"] > self.progress.best[model]["top1"]:
                self.progress.best[model] = record
            values |= {f"val/{model}_{name}": value for name, value in accuracy._asdict().items()}
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

    def _bias(self, counts: np.ndarray) -> dict[str, float]:
        """Scalars of the epoch's pseudo-labels and of p̂."""
        before, after = bias.imbalance(counts[0, 0]), bias.imbalance(counts[1, 0])
        phat = checkpoint.gathered_phat(self._state, self._recipe, self._ranks).mean(0)
        return {
            "bias/gini_before": before.gini,
            "bias/gini_after": after.gini,
            "bias/missing_classes_after": float(after.missing),
            "bias/phat_max_over_min": float(phat.max() / phat.min()),
        }

    def _count_bad_files(self, logbook: Logbook) -> float:
        """How many undecodable files any rank has met so far; all ranks know them from now on."""
        self._say_bad_files(logbook)
        names: list[str] = []
        for bad_files, listing in dict(zip(self._bad_files, self._listings, strict=True)).items():
            met = torch.zeros(len(listing), device=self._ranks.device)
            met[list(bad_files.known)] = 1
            bad_files.learn(self._ranks.sum_(met).nonzero().flatten().tolist())
            names += [f"{listing.path(index)}: {reason}" for index, reason in sorted(bad_files.known.items())]
        if len(names) > self._named:
            self._named = len(names)
            logbook.text("data/bad_files", names, self.progress.step)
        return float(len(names))

    def _say_bad_files(self, logbook: Logbook) -> None:
        """A rank says each file that it is the first to meet once."""
        for bad_files in dict.fromkeys(self._bad_files):
            for name in bad_files.news():
                logbook.say(f"cannot be decoded, replaced: {name}", every_rank=True)

    def _draw(self, counts: np.ndarray, logbook: Logbook) -> None:
        if self._ranks.is_main:
            bias.draw_pseudo_labels(self.picture_path, counts, self._classes, bias.true_counts(self._split))
            logbook.picture("pseudo_labels", self.picture_path, self.progress.step)

    def _save(self) -> None:
        """Replace the checkpoint; raises UserError, and keeps the last one, where the state is not finite."""
        networks = [*self._state.student.state_dict().values(), *self._state.teacher.state_dict().values()]
        floating = [tensor for tensor in [*networks, self._state.phat] if tensor.is_floating_point()]
        largest = torch.stack(torch._foreach_norm(floating, float("inf")))
        if self._ranks.any(not bool(largest.isfinite().all())):
            raise UserError(self._not_finite("Weights, statistics or p̂ became infinite or NaN"))
        checkpoint.save(self.checkpoint_path, self._state, self.progress, self._recipe, self._fingerprint, self._ranks)

    def _write_config(self) -> None:
        content = {"experiment": self._recipe.experiment(self._fingerprint), **dataclasses.asdict(self._recipe)}
        with replacing(self._folder / "config.json") as building:
            building.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if self._imported is not None:
            self._imported.write(self._folder / "init.json", weights=self._science.init)


def steps_per_epoch(recipe: Recipe, split: Split) -> int:
    """Whole steps in one pass over the unlabeled set."""
    batch = recipe.science.labeled_batch * recipe.science.mu
    steps = len(split.unlabeled) // batch
    if steps == 0:
        raise UserError(
            f"A step takes {batch} unlabeled images (labeled_batch {recipe.science.labeled_batch} · mu "
            f"{recipe.science.mu}), but there are only {len(split.unlabeled)}. Lower science.labeled_batch."
        )
    return steps


def _close(batches: Iterator[Batch]) -> None:
    """End the feed's thread now rather than when the generator happens to be collected."""
    close = getattr(batches, "close", None)
    if close is not None:
        close()
