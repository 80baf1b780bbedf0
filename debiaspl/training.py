"""One training run in its folder: started or resumed, ended by its last epoch or by a signal, summed up in a table."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from debiaspl.build import Run, build_run
from debiaspl.checkpoint_file import CheckpointError, Checkpoints, read
from debiaspl.clock import measured_with
from debiaspl.config import Recipe
from debiaspl.data import read_data, source_threads
from debiaspl.distributed import Ranks
from debiaspl.epoch_end import REPORT
from debiaspl.logbook import print_results
from debiaspl.own_account import account
from debiaspl.recipes.own import OWN
from debiaspl.run_folder import RunFolder
from debiaspl.signals import PATIENCE, PATIENCE_ALONE, StopRequest
from debiaspl.trainer import Trainer
from pipelines import console
from pipelines.names import readable


def train(recipe: Recipe, ranks: Ranks, folder: Path, resume: str | None) -> int:
    """Trains in ``folder``, from the checkpoint that --resume means if it is given; returns the exit code."""
    recipe.science.accumulation(ranks.world)  # a batch that does not divide is said before the data is read
    held = RunFolder(folder) if ranks.is_main else None
    try:
        if recipe.engine.deterministic:
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        else:
            torch.backends.cudnn.benchmark = True
        return _train(recipe, ranks, folder, held, _start(folder, recipe, ranks, resume))
    finally:
        if held is not None:
            held.close()


def _train(
    recipe: Recipe, ranks: Ranks, folder: Path, held: RunFolder | None, start: tuple[Path, dict[str, Any]] | None
) -> int:
    """Trains from ``start``, a checkpoint's path and content, or from the beginning; returns the exit code."""
    stop = StopRequest(PATIENCE_ALONE if ranks.world == 1 else PATIENCE)
    with console.waiting(f"reading {recipe.engine.data}", quiet=not ranks.is_main) as now:
        split, validation = read_data(recipe)
        if ranks.is_main and recipe.name == OWN:
            console.say("\n".join(account(recipe, split, validation)))
        now(f"building {recipe.science.arch}, opening the pictures ({recipe.engine.pipeline})")
        run = build_run(recipe, split, validation, ranks, resuming=start is not None)
    if ranks.is_main:
        console.say(_describe(run))
    trainer = Trainer(run, folder, stop)
    try:
        if start is not None:
            trainer.resume(*start)
        if held is not None:
            held.require_room(trainer.bytes_to_write())
        started = time.perf_counter()
        with stop.listening():
            try:
                finished = trainer.fit()
            except RuntimeError as error:
                if stop.signal is None or not _is_of_the_compiler(error):
                    raise
                console.say("Stopped while the step was compiled: nothing has been trained since the last checkpoint.")
                return 128 + stop.signal
            if finished and ranks.is_main:
                _print_results(trainer, folder, time.perf_counter() - started)
        return 0 if finished else 128 + ranks.max(stop.signal or 0)  # the signal may have reached one rank only
    finally:
        if run.training.feed.hangs:  # nor would it answer to being closed, or to the end of the process
            sys.stdout.flush()
            os._exit(128 + (stop.signal or 0))
        trainer.close()


def _is_of_the_compiler(error: RuntimeError) -> bool:
    """Returns whether torch could not compile. A terminal's Ctrl-C reaches the C++ compiler, too, which gives up."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import CppCompileError

    return isinstance(error, TorchDynamoException | CppCompileError)


def _describe(run: Run) -> str:
    """Returns a line on what a run computes with."""
    ranks, dtype = run.ranks, str(run.learner.dtype).removeprefix("torch.")
    threads = source_threads(run.recipe, ranks)
    return (
        f"on {ranks.device} in {dtype}; {threads} CPU threads for each source; "
        f"speed/waiting_share is measured with {measured_with(ranks.device)}"
    )


def _print_results(trainer: Trainer, folder: Path, seconds: float) -> None:
    lines = {
        "time": f"{seconds:.0f} s",
        "checkpoint": readable(trainer.checkpoint_path),
        "best networks": readable(trainer.checkpoints.best),
        "picture": readable(trainer.picture_path),
        "report": readable(folder / REPORT),
        "TensorBoard": f"tensorboard --logdir {readable(folder / 'tensorboard')}",
    }
    print_results(trainer.progress, lines)


def _start(folder: Path, recipe: Recipe, ranks: Ranks, resume: str | None) -> tuple[Path, dict[str, Any]] | None:
    """Returns the checkpoint that --resume means, and its content; None where the run begins anew.

    Raises CheckpointError where a checkpoint would be overwritten, or the one that is meant is damaged.
    """
    checkpoints = Checkpoints(folder, recipe.engine.keep)
    if resume is None:
        if checkpoints.paths():
            raise CheckpointError(
                f"{checkpoints.paths()[0]} exists. Go on from it with --resume auto, or start anew with another --out."
            )
        return None
    if resume != "auto" and not Path(resume).is_dir():
        return Path(resume), read(Path(resume))
    if not checkpoints.paths():
        return None
    path, content, damaged = checkpoints.newest_whole()
    for error in damaged if ranks.is_main else ():
        console.say(f"{error} It stays where it is; going on from {path}.")
    return path, content
