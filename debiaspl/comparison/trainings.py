"""The trainings of a comparison: each a method with a seed in a folder of its own, made by the trainer's command.

A training that is finished is not repeated; one that was stopped goes on.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from debiaspl import train
from debiaspl.config import Recipe
from debiaspl.recipes.baselines import SUPERVISED, WITHOUT_DEBIASING
from pipelines.errors import UserError
from pipelines.names import readable

LINEAR = "linear"
"""The method that trains no trunk: debiaspl/comparison/linear.py."""
METHODS: dict[str, dict[str, float]] = {
    "supervised": SUPERVISED,
    LINEAR: {},
    "fixmatch": WITHOUT_DEBIASING,
    "debiaspl": {},
}
"""Name → the fields of Science that differ from the recipe's."""
SEED = "{seed}"
"""Stands for the seed in --data and --set, so that each seed can have data of its own."""


@dataclass(frozen=True)
class Training:
    """One method with one seed; ``arguments`` are those of debiaspl.train."""

    method: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]

    @cached_property
    def recipe(self) -> Recipe:
        """Returns what is trained; recipe own has looked at the data."""
        return train.fitted_recipe(train.build_parser().parse_args(self.arguments))


def trainings(
    methods: Sequence[str], seeds: Sequence[int], out: Path, flags: Sequence[str], assignments: Sequence[str]
) -> list[Training]:
    """Returns each method with each seed, in folders below ``out``.

    ``flags`` are further arguments of the trainer, ``assignments`` are for its --set; a method's own come last.
    """
    found = []
    for seed in seeds:
        for method in methods:
            folder = out / f"{method}-{seed}"
            own = [*assignments, f"science.seed={seed}"]
            own += [f"science.{field}={value}" for field, value in METHODS[method].items()]
            words = [*flags, *(word for each in own for word in ("--set", each))]
            words = [word.replace(SEED, str(seed)) for word in words]
            found.append(Training(method, seed, folder, (*words, "--out", str(folder), "--resume", "auto")))
    return found


def run_all(wanted: Sequence[Training], jobs: int, run: Callable[[Training, int], None]) -> Iterator[Training]:
    """Trains by ``run``, ``jobs`` at a time, and yields each training when it is finished.

    Raises UserError where one fails; those under way then come to their end first, and no more begin.
    """
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = {pool.submit(run, training, jobs): training for training in wanted}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            pool.shutdown(cancel_futures=True)


def run_alone(training: Training, jobs: int) -> None:
    """Trains in a process of its own; with several ``jobs`` in one thread, so that they share the cores.

    Raises UserError with the last lines that the process printed where it fails.
    """
    threads = ("--set", "engine.threads=1") if jobs > 1 else ()
    alone = os.environ | ({"OMP_NUM_THREADS": "1"} if jobs > 1 else {})
    # The training's own --set come later and win.
    command = [sys.executable, "-m", "debiaspl.train", *threads, *training.arguments]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
    raise UserError(
        f"{training.method} with seed {training.seed} ended with {done.returncode} in {readable(training.folder)}:\n"
        f"{said}\nMend that and repeat the command: finished trainings are kept."
    )
