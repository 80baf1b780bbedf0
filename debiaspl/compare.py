"""Compares methods: debiaspl compare --methods supervised,fixmatch,debiaspl --seeds 3 --data pictures.

Trains every method with every seed, each in a folder of its own, and says which differences are more than the spread
of the seeds. Repeating the command goes on where it was stopped.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl import train
from debiaspl.comparison.trainings import LINEAR, METHODS, SEED, Training, run_all, run_alone, trainings
from debiaspl.science import near
from pipelines import NAMES as PIPELINES
from pipelines import console
from pipelines.errors import UserError
from pipelines.names import readable

if TYPE_CHECKING:  # it imports torch: --help need not wait for it
    from debiaspl.comparison.results import Result

METRICS = ("student_balanced", "student_top1", "teacher_balanced", "teacher_top1")
_EPILOG = f"""\
methods
  supervised   the labeled pictures alone, in the same number of steps
  linear       a head on the frozen trunk of --init
  fixmatch     the recipe without debiasing
  debiaspl     the recipe

Each seed pairs the methods: same order of samples, same first weights. With {SEED} in --data or --set, which stands for
the seed, each seed can have data of its own. The last method is the one that the others are compared with.

files in the folder of the comparison
  <method>-<seed>/ (a run's folder, or linear.json)  comparison.html  comparison.png  comparison.csv
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("compare", "python -m debiaspl.compare"),
        description="Trains several methods with several seeds, and says which differences count.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--methods", type=_methods, default=["supervised", "fixmatch", "debiaspl"], metavar="NAME,…",
        help=f"of {', '.join(METHODS)} (default: supervised,fixmatch,debiaspl)")  # fmt: skip
    add("--seeds", type=_seeds, default=3, metavar="N", help="seeds 0 to N − 1 (default: %(default)s)")
    add("--recipe", help="the recipe that the methods derive from (default: as debiaspl train chooses)")
    add("--pipeline", help=f"data pipeline: {', '.join(PIPELINES)} (default: the recipe's)")
    add("--data", help="data folder (default: the recipe's)")
    add("--init", metavar="FILE", help="weights that every method's trunk starts from")
    add("--set", metavar="SECTION.FIELD=VALUE", action="append", default=[], help="change a field; may be repeated")
    add("--metric", choices=METRICS, default=METRICS[0], help="what is compared, after the last epoch (%(default)s)")
    add("--out", type=Path, help="folder of the comparison (default: runs/compare-<recipe>)")
    add("--jobs", type=_seeds, metavar="N", help="trainings at once (default: a thread for each core; on a GPU 1)")
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 2 after a message about what to mend, 130 when interrupted."""
    parsed = build_parser().parse_args(arguments)
    try:
        _compare(parsed)
    except KeyboardInterrupt:
        console.say("Interrupted. Trainings are kept: the same command goes on with them.", error=True)
        return 130
    return 0


def _compare(parsed: argparse.Namespace) -> None:
    flags = [word for name in ("recipe", "pipeline", "data", "init") for word in _flag(name, getattr(parsed, name))]
    sets = [word for each in parsed.set for word in ("--set", each)]
    recipe = train.chosen_recipe(train.build_parser().parse_args([*flags, *sets]))
    out = parsed.out or Path("runs", f"compare-{recipe.name}")
    wanted = trainings(parsed.methods, range(parsed.seeds), out, flags, parsed.set)
    if LINEAR in parsed.methods:
        from debiaspl.comparison.linear import require_weights

        require_weights(recipe)
    results = finish(wanted, parsed.metric, parsed.jobs or _jobs(recipe.engine.device))
    by_method = {name: [results[each] for each in wanted if each.method == name] for name in parsed.methods}
    from debiaspl.comparison.report import report

    report(parsed.metric, wanted, by_method, out)


def finish(wanted: Sequence[Training], metric: str, jobs: int) -> "dict[Training, Result]":
    """Trains what is not finished yet, ``jobs`` at a time; returns what each training came to.

    Raises UserError where a training fails, or where its folder holds another experiment.
    """
    from debiaspl.comparison.results import result_of
    from debiaspl.data import read_data

    splits = {each.seed: read_data(each.recipe)[0].fingerprint for each in {e.seed: e for e in wanted}.values()}
    found = {each: result_of(each, metric, splits[each.seed]) for each in wanted}
    missing = [each for each, result in found.items() if result is None]
    if kept := len(wanted) - len(missing):
        console.say(f"{kept} of {len(wanted)} trainings are finished already")
    for number, each in enumerate(run_all(missing, jobs, run_one), start=1):
        result = found[each] = result_of(each, metric, splits[each.seed])
        if result is None:
            raise UserError(f"{readable(each.folder)} holds another experiment. Name another folder with --out.")
        console.say(f"{number}/{len(missing)}  {each.method}, seed {each.seed}: {result.value:.2f} %")
    return {each: result for each, result in found.items() if result is not None}


def run_one(training: Training, jobs: int) -> None:
    """Runs one training to its end."""
    if training.method == LINEAR:
        from debiaspl.comparison.linear import run_linear

        return run_linear(training)
    return run_alone(training, jobs)


def _flag(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"--{name}", value]


def _jobs(device: str) -> int:
    """Returns how many trainings run at once: one for each core without a GPU, one with it."""
    from debiaspl.device import find_device

    return len(os.sched_getaffinity(0)) if find_device(device) == "cpu" else 1


def _methods(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"There is no method {name!r}{near(name, METHODS)}")
    if not names:
        raise argparse.ArgumentTypeError(f"names at least one of {', '.join(METHODS)}")
    return names


def _seeds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on (got {text!r})")
    return int(text)


if __name__ == "__main__":
    console.run(main)
