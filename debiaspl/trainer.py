"""The loop: feed → step → log → save → evaluate; resumes at any step as if it had never stopped."""

import contextlib
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from debiaspl import best_checkpoint, checkpoint, config_file
from debiaspl.about import describe
from debiaspl.agreement import Agreement
from debiaspl.build import Run, compilation
from debiaspl.checkpoint import Progress
from debiaspl.checkpoint_file import Checkpoints, read
from debiaspl.clock import clock
from debiaspl.continuing import extended
from debiaspl.epoch_end import PICTURE, EpochEnd
from debiaspl.logbook import Logbook
from debiaspl.optim import learning_rate
from debiaspl.saving import Saver
from debiaspl.signals import StopRequest
from debiaspl.step_log import NotFinite, StepLog
from debiaspl.tracker import tracker
from pipelines.batch import Batch
from pipelines.errors import UserError


class Trainer:
    """One run in one folder. ``fit`` trains to the end, or until a stop is requested."""

    def __init__(self, run: Run, folder: Path, stop: StopRequest | None = None) -> None:
        """``stop`` is looked at after each step and each batch of an evaluation."""
        self._run, self._folder = run, folder
        self._stop = StopRequest() if stop is None else stop  # one that nobody asked of yet is false
        self._recipe, self._science, self._ranks = run.recipe, run.recipe.science, run.ranks
        self._state, self._steps = run.learner.state, run.training.steps_per_epoch
        self._images = self._science.labeled_batch * (1 + self._science.mu)  # of a step, each counted once
        self._agreement = Agreement(run.ranks)
        self._saved = time.monotonic()
        self._about = describe(run.recipe, run.training.split)
        self._lacks_best = False  # whether the networks as they were loaded are the best ones, and best.pt is not
        self._compiles = compilation(run.recipe, run.ranks) != "off"  # before its next step, for minutes
        self._tracker = tracker(run.recipe, folder) if run.ranks.is_main else None
        self.checkpoints = Checkpoints(folder, run.recipe.engine.keep)
        self.progress = Progress()

    @property
    def checkpoint_path(self) -> Path:
        """Where the run's newest checkpoint is written."""
        return self.checkpoints.last

    @property
    def picture_path(self) -> Path:
        """Where the picture of pseudo-label counts is written."""
        return self._folder / PICTURE

    def resume(self, path: Path, content: dict[str, Any] | None = None) -> None:
        """Goes on from a checkpoint (its ``content``, if that is read already).

        Raises CheckpointError where it is damaged or belongs to another experiment.
        """
        content = read(path) if content is None else content
        content = extended(path, content, self._recipe, self._steps, say=self._ranks.is_main)
        split = self._run.training.split.fingerprint
        self.progress = checkpoint.restore(path, content, self._state, self._recipe, split, self._ranks)
        if self._ranks.is_main:
            self._lacks_best = best_checkpoint.agree(self.checkpoints.best, self.progress, self._recipe, split)

    def bytes_to_write(self) -> int:
        """Returns about how much room the checkpoints take that are still to be written."""
        tensors = [*self._state.student.state_dict().values(), *self._state.teacher.state_dict().values()]
        size = sum(tensor.nbytes for tensor in [*tensors, *self._state.student.parameters()])  # as much momentum
        wanted = self._recipe.engine.keep + 1 + 1  # one is written before another goes, and the best one
        return size * max(1, wanted - len(self.checkpoints.paths()))

    def request_stop(self) -> None:
        """Asks to save and stop after the current step (with several ranks: after the next one)."""
        self._stop.request()

    def fit(self) -> bool:
        """Trains the remaining steps; returns False where a stop was requested before the end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        step, total = self.progress.step, self._science.epochs * self._steps
        logbook = Logbook(
            self._folder,
            self.progress,
            evaluated=not self._lacks_evaluation(),
            total_images=total * self._images,
            done_images=step * self._images,
            quiet=not self._ranks.is_main,
            tracker=self._tracker,
        )
        saver, step_log = Saver(self.checkpoints, logbook.say), StepLog(self._run, logbook, self.checkpoint_path)
        try:
            self._write_config(logbook)
            if self._ranks.any(self._lacks_best):
                self._save(saver, step_log)
            finished = self._train(logbook, step_log, saver, EpochEnd(self._run, self._folder, logbook))
            self.progress.records = step_log.flush()
            content = self._content()
            if self._ranks.is_main:
                saver.save_last(content, self.progress.step, is_best=self.progress.is_at_best)
            if not finished:
                logbook.say(f"stopped after step {self.progress.step}; go on with --resume auto")
            return finished
        except NotFinite:
            raise
        except UserError:  # between two steps, so the state is whole; with other ranks, saving would wait for them
            if self._ranks.world == 1 and self.progress.step > step:
                with contextlib.suppress(UserError):
                    self.progress.records = step_log.flush()
                    saver.save_last(self._content(), self.progress.step)
            raise
        finally:
            saver.close()
            logbook.close()

    def close(self) -> None:
        """Closes the data sources."""
        self._run.close()

    def _train(self, logbook: Logbook, step_log: StepLog, saver: Saver, epoch_end: EpochEnd) -> bool:
        """Trains and evaluates epoch after epoch; returns False where a stop was requested before the end."""
        while True:
            if self._lacks_evaluation():
                if not epoch_end(self.progress, step_log.rate, self._must_stop):
                    return False
                if not self._is_complete():
                    self._save(saver, step_log)
            if self._is_complete():
                return True
            if not self._train_epoch(logbook, step_log, saver, epoch_end):
                return False
            self._save(saver, step_log)  # before anything else is risked

    def _is_complete(self) -> bool:
        return self.progress.step >= self._science.epochs * self._steps

    def _lacks_evaluation(self) -> bool:
        """Whether the networks stand at an epoch's end and are yet to be evaluated."""
        step = self.progress.step
        return step > 0 and step % self._steps == 0 and self.progress.evaluated < step

    def _must_stop(self) -> bool:
        return self._agreement.exchange(bool(self._stop), False)[0]

    def _train_epoch(self, logbook: Logbook, step_log: StepLog, saver: Saver, epoch_end: EpochEnd) -> bool:
        """Trains to the end of the epoch; returns False where a stop was requested on the way."""
        epoch, done = divmod(self.progress.step, self._steps)
        if done == 0:  # not at the epoch's end: its counts are saved with the checkpoint
            self._state.pseudo_labels.zero_()
        labeled, feed = done * self._science.labeled_batch, self._run.training.feed
        feed.seek(epoch, labeled, labeled * self._science.mu)
        accumulation = self._science.accumulation(self._ranks.world)
        first, timed = self.progress.step, clock(self._ranks.device)
        if self._compiles:
            logbook.wait("compiling the first step")
        with contextlib.ExitStack() as at_the_end:
            at_the_end.callback(step_log.settle)
            batches = at_the_end.enter_context(contextlib.closing(feed.batches(give_up=self._stop.is_overdue)))
            while self.progress.step < (epoch + 1) * self._steps:
                timed.asks()
                groups = list(islice(batches, accumulation))
                if len(groups) < accumulation:  # a stop was requested, and the source hangs
                    return False
                if self._stop and self._compiles and self._ranks.world == 1:  # nobody waits for minutes to stop
                    return False
                timed.begins()
                metrics = self._train_step(groups)
                timed.ends()
                if self.progress.step % self._steps == 0:
                    epoch_end.see(groups[0])
                logbook.advance(self._images)
                step_log.settle()  # of the step before, while this one is computed
                if self.progress.step % self._recipe.engine.log_every == 0 or self.progress.step % self._steps == 0:
                    step_log.note(metrics, self.progress.step, self.progress.step - first, timed.lap())
                    epoch_end.say_bad_files()
                stop, save = self._agreement.exchange(bool(self._stop), self._save_is_due())
                if stop:
                    return False
                if save:
                    self._save(saver, step_log)
                saver.tick()
        return True

    def _train_step(self, groups: list[Batch]) -> torch.Tensor:
        rate = learning_rate(self._science, self.progress.step, self._steps)
        for parameters in self._state.optimizer.param_groups:
            parameters["lr"].fill_(rate)
        with self._stop.at_once(when=self._compiles and self._ranks.world == 1):  # others would wait for this one
            metrics = self._run.learner.step(groups, self.progress.step)
        self._compiles = False
        self.progress.step += 1
        return metrics

    def _save_is_due(self) -> bool:
        """Whether the main rank's clock asks for a checkpoint within the epoch."""
        due = self._ranks.is_main and time.monotonic() - self._saved >= 60 * self._recipe.engine.save_minutes
        if due:  # asked once, although several ranks answer a step later
            self._saved = time.monotonic()
        return due

    def _save(self, saver: Saver, step_log: StepLog) -> None:
        """Copies the state to the host and has it written in the background. Every rank must call it.

        Records are written before: a run that goes on from the checkpoint does not write them again.
        """
        self.progress.records = step_log.flush()
        content = self._content()
        self._saved = time.monotonic()
        if self._ranks.is_main:
            saver.save(content, self.progress.step, is_best=self.progress.is_at_best)

    def _content(self) -> dict[str, Any]:
        """Returns a checkpoint's content; raises NotFinite where the state is not finite, which is never saved."""
        networks = [*self._state.student.state_dict().values(), *self._state.teacher.state_dict().values()]
        floating = [tensor for tensor in [*networks, self._state.phat] if tensor.is_floating_point()]
        largest = torch.stack(torch._foreach_norm(floating, float("inf")))
        if self._ranks.any(not bool(largest.isfinite().all())):
            what = "Weights, statistics or p̂ became infinite or NaN"
            raise NotFinite(what, self.progress.step, self._recipe.engine.log_every, self.checkpoint_path)
        split = self._run.training.split.fingerprint
        return checkpoint.capture(self._state, self.progress, self._recipe, split, self._about, self._ranks)

    def _write_config(self, logbook: Logbook) -> None:
        if not self._ranks.is_main:
            return
        experiment = self._recipe.experiment(self._run.training.split.fingerprint)
        with logbook.accessories.attempt(config_file.NAME):
            config_file.write_config(self._folder, self._recipe, experiment)
        if (imported := self._run.learner.imported) is not None:
            with logbook.accessories.attempt("init.json"):
                imported.write(self._folder / "init.json", weights=self._science.init)
