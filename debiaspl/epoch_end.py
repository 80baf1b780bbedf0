"""What follows an epoch's last step: accuracies, the bias of its pseudo-labels, undecodable files, a picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from debiaspl.best import is_better
from debiaspl.build import Run
from debiaspl.checkpoint import Progress, gathered_phat
from debiaspl.evaluation import bias
from debiaspl.evaluation.accuracy import Accuracy, evaluate
from debiaspl.logbook import Logbook

PICTURE = "pseudo_labels.png"
PICTURES = 10
"""How often in a run the picture of pseudo-label counts is drawn."""


class EpochEnd:
    """Evaluates a run's networks and records what came out."""

    def __init__(self, run: Run, folder: Path, logbook: Logbook) -> None:
        self._run, self._logbook = run, logbook
        self._picture = folder / PICTURE
        self._named = 0  # undecodable files that TensorBoard lists already

    def __call__(self, progress: Progress, rate: float, stop: Callable[[], bool]) -> bool:
        """Evaluates, notes the accuracies in ``progress`` and records them; ``rate``: the epoch's images per second.

        Returns False, with nothing noted, where ``stop``, which is asked after each batch, answered True.
        """
        run, epochs = self._run, self._run.recipe.science.epochs
        epoch = progress.step // run.training.steps_per_epoch
        results = self._accuracies(stop)
        if not results:
            return False
        _note(progress, epoch, results, run.recipe.engine.best)
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
        if epoch % max(1, epochs // PICTURES) == 0 or epoch == epochs:
            self._draw(counts, progress.step)
        return True

    def say_bad_files(self) -> None:
        """Names each undecodable file once, on the rank that was the first to meet it."""
        for name in self._run.training.new_bad_files():
            self._logbook.say(f"cannot be decoded, replaced: {name}", every_rank=True)

    def _accuracies(self, stop: Callable[[], bool]) -> dict[str, Accuracy]:
        """Returns the accuracy of student and teacher; nothing where the evaluation was stopped."""
        run, state = self._run, self._run.learner.state
        models, classes = {"student": state.student, "teacher": state.teacher}, len(run.training.split.listing.classes)
        source, labels = run.validation.source, run.validation.labels
        return evaluate(models, source, labels, classes, run.ranks, run.learner.dtype, stop)

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


def _note(progress: Progress, epoch: int, results: dict[str, Accuracy], metric: str) -> None:
    """Enters the accuracies as the last ones and, where they are by the ``metric``, the best ones so far."""
    progress.evaluated = progress.step
    progress.last = {model: {"epoch": float(epoch), **accuracy._asdict()} for model, accuracy in results.items()}
    if is_better(metric, progress.last, progress.best):
        progress.best = progress.last
