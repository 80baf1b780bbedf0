"""One training run in its folder: started or resumed, ended by its last epoch or by a signal, summed up in a table."""

import signal
import time
from pathlib import Path
from types import FrameType

import torch

from debiaspl.build import build_run
from debiaspl.checkpoint import CheckpointError
from debiaspl.config import Recipe
from debiaspl.data import read_data
from debiaspl.distributed import Ranks
from debiaspl.logbook import print_results
from debiaspl.trainer import CHECKPOINT, Trainer


def train(recipe: Recipe, ranks: Ranks, folder: Path, resume: str | None) -> int:
    """Trains in ``folder``, from the checkpoint that --resume means if it is given; returns the exit code."""
    if recipe.engine.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    else:
        torch.backends.cudnn.benchmark = True
    recipe.science.accumulation(ranks.world)  # a batch that does not divide is said before the data is read
    split, validation = read_data(recipe)
    resuming = resume is not None and (resume != "auto" or (folder / CHECKPOINT).exists())
    trainer = Trainer(build_run(recipe, split, validation, ranks, resuming=resuming), folder)
    try:
        _resume(trainer, resume)
        received: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:
            received.append(number)
            trainer.request_stop()
            signal.signal(number, signal.SIG_DFL)  # the second one ends at once

        previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        started = time.perf_counter()
        try:
            finished = trainer.fit()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if finished and ranks.is_main:
            lines = {
                "time": f"{time.perf_counter() - started:.0f} s",
                "checkpoint": str(trainer.checkpoint_path),
                "picture": str(trainer.picture_path),
                "TensorBoard": f"tensorboard --logdir {folder / 'tensorboard'}",
            }
            print_results(trainer.progress, lines)
        return 0 if finished else 128 + (received[0] if received else signal.SIGTERM)
    finally:
        trainer.close()


def _resume(trainer: Trainer, resume: str | None) -> None:
    """Loads the checkpoint that --resume means; raises CheckpointError where one would be overwritten."""
    own = trainer.checkpoint_path
    if resume is None and own.exists():
        raise CheckpointError(f"{own} exists. Go on from it with --resume auto, or start anew with another --out.")
    if resume == "auto" and own.exists():
        trainer.resume(own)
    elif resume not in (None, "auto"):
        trainer.resume(Path(resume))
