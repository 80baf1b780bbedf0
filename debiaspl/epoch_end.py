"""What follows an epoch's last step: accuracies, the bias of its pseudo-labels, undecodable files, a picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debiaspl.best import is_better
from debiaspl.build import Run
from debiaspl.checkpoint import Progress, gathered_phat
from debiaspl.evaluation import bias
from debiaspl.evaluation.accuracy import Accuracy, evaluate
from debiaspl.logbook import Logbook
from pipelines.batch import Batch

PICTURE = "pseudo_labels.png"
REPORT = "report.html"
SHOWN_SAMPLES = 4
"""Unlabeled pictures whose views the report shows."""


class EpochEnd:
    """Evaluates a run's networks and records what came out."""

    def __init__(self, run: Run, folder: Path, logbook: Logbook) -> None:
        self._run, self._folder, self._logbook = run, folder, logbook
        self._picture = folder / PICTURE
        self._views: Tensor | None = None
        self._named = 0  # undecodable files that TensorBoard lists already

    def __call__(self, progress: Progress, rate: float, stop: Callable[[], bool]) -> bool:
        """Evaluates, notes the accuracies in ``progress`` and records them; ``rate``: the epoch's images per second.

        Returns False, with nothing noted, where ``stop``, which is asked after each batch, answered True.
        """
        run, recipe = self._run, self._run.recipe
        epoch, epochs = progress.step // run.training.steps_per_epoch, recipe.science.epochs
        shows = is_shown(epoch, epochs, recipe.engine.reports)
        kept = self._tables() if shows else {}
        results = self._accuracies(stop, kept)
        if not results:
            return False
        _note(progress, epoch, results, recipe.engine.best)
        values = {
            f"val/{model}_{name}": value for model, row in results.items() for name, value in row._asdict().items()
        }
        counts = run.ranks.sum_(run.learner.state.pseudo_labels.clone()).double().cpu().numpy()
        values |= self._bias(counts)
        values["data/bad_files"] = self._count_bad_files(progress.step)
        self._logbook.write(progress.step, values)
        self._logbook.say(
            f"epoch {epoch:>3}/{epochs}"
            + "".join(f"  {model} {accuracy.top1:5.2f} %" for model, accuracy in results.items())
            + f"  p̂ max/min {values['bias/phat_max_over_min']:.1f}"
            + (f"  {rate:,.0f} images/s" if rate else "")
        )
        if shows:
            self._draw(counts, progress.step)
            self._report(counts, kept, max(results, key=lambda model: results[model].balanced))
        return True

    def see(self, batch: Batch) -> None:
        """Keeps a few pictures' views of the epoch's last batch, for the report."""
        if self._run.ranks.is_main:
            self._views = batch.unlabeled.pixels[:, :SHOWN_SAMPLES].to("cpu", copy=True)

    def say_bad_files(self) -> None:
        """Names each undecodable file once, on the rank that was the first to meet it."""
        for name in self._run.training.new_bad_files():
            self._logbook.say(f"cannot be decoded, replaced: {name}", every_rank=True)

    def _tables(self) -> dict[str, Tensor]:
        """Returns what an evaluation keeps of each validation image, [2, N] for each network."""
        images, device = len(self._run.validation.labels), self._run.ranks.device
        return {model: torch.zeros(2, images, device=device) for model in ("student", "teacher")}

    def _accuracies(self, stop: Callable[[], bool], kept: dict[str, Tensor]) -> dict[str, Accuracy]:
        """Returns the accuracy of student and teacher; nothing where the evaluation was stopped."""
        run, state = self._run, self._run.learner.state
        models, classes = {"student": state.student, "teacher": state.teacher}, len(run.training.split.listing.classes)
        source, labels = run.validation.source, run.validation.labels
        return evaluate(models, source, labels, classes, run.ranks, run.learner.dtype, stop, kept)

    def _bias(self, counts: NDArray[np.float64]) -> dict[str, float]:
        """Returns scalars that tell how uneven the epoch's pseudo-labels and p̂ are."""
        before, after = bias.imbalance(counts[0, 0]), bias.imbalance(counts[1, 0])
        phat = gathered_phat(self._run.learner.state, self._run.recipe, self._run.ranks).mean(0)
        return {
            "bias/gini_before": before.gini,
            "bias/gini_after": after.gini,
            "bias/missing_classes_after": float(after.missing),
            "bias/phat_max_over_min": float(phat.max() / phat.min()),
        }

    def _count_bad_files(self, step: int) -> float:
        """Returns how many undecodable files any rank has met so far; all ranks know them from now on."""
        self.say_bad_files()
        names = self._run.training.share_bad_files(self._run.ranks)
        if len(names) > self._named:
            self._named = len(names)
            self._logbook.text("data/bad_files", names, step)
        return float(len(names))

    def _draw(self, counts: NDArray[np.float64], step: int) -> None:
        if not self._run.ranks.is_main:
            return
        split = self._run.training.split
        with self._logbook.accessories.attempt(PICTURE):
            bias.draw_pseudo_labels(self._picture, counts, split.listing.classes, bias.true_counts(split))
            self._logbook.picture("pseudo_labels", self._picture, step)

    def _report(self, counts: NDArray[np.float64], kept: dict[str, Tensor], network: str) -> None:
        """Writes report.html, with what ``network`` took each validation image for. Every rank must call it."""
        run = self._run
        label, confidence = run.ranks.sum_(kept[network]).cpu().numpy()
        if not run.ranks.is_main:
            return
        self._logbook.flush()  # the page shows what is recorded
        with self._logbook.accessories.attempt(REPORT):
            from debiaspl.evaluation.guesses import Guesses
            from debiaspl.report import run_page  # slow to import

            truth = run.validation.labels.cpu().numpy()
            guesses = Guesses(label.astype(np.int64)[:, None], confidence[:, None], np.ones(len(truth), bool))
            snapshot = run_page.Snapshot(
                run.recipe,
                run.training.steps_per_epoch,
                self._logbook.recorded(),
                run.training.split.listing.classes,
                counts,
                bias.true_counts(run.training.split),
                run_page.ValidationGuesses(network, run.validation.listing, truth, guesses),
                self._views,
            )
            run_page.write_report(self._folder / REPORT, snapshot)


def is_shown(epoch: int, epochs: int, reports: int) -> bool:
    """Returns whether the picture and the report are made after ``epoch``, from 1, of ``epochs``."""
    return epoch * reports // epochs > (epoch - 1) * reports // epochs


def _note(progress: Progress, epoch: int, results: dict[str, Accuracy], metric: str) -> None:
    """Enters the accuracies as the last ones and, where they are by the ``metric``, the best ones so far."""
    progress.evaluated = progress.step
    progress.last = {model: {"epoch": float(epoch), **accuracy._asdict()} for model, accuracy in results.items()}
    if is_better(metric, progress.last, progress.best):
        progress.best = progress.last
