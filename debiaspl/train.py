"""Train: python -m debiaspl.train --recipe demo --pipeline torchvision (see --help).

PyTorch takes seconds to import, so it is imported where a run begins: neither --help nor a misspelt name waits for it.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl import own_data, recipes
from debiaspl.accessories import Accessories
from debiaspl.config import ConfigError, Recipe
from debiaspl.config_file import read_config
from debiaspl.overrides import assigned, assignments, override
from debiaspl.recipes.own import OWN
from pipelines import NAMES as PIPELINES
from pipelines import console
from pipelines.errors import UserError
from pipelines.files import replacing
from pipelines.samples import pillow_warnings
from pipelines.samples.bad_files import NAMED, TooManyBadFiles

DEFAULT = "imagenet-1p"
"""The recipe where none is named."""
_EPILOG = """\
recipes
{recipes}

examples
  python -m debiaspl.train --recipe demo --pipeline torchvision     minutes on a laptop (make demo does it all)
  python -m debiaspl.train --pipeline dali                          imagenet-1p on dataset/imagenet
  torchrun --standalone --nproc_per_node 8 -m debiaspl.train --recipe zero-shot
                                                                    eight GPUs; 4, 2 or 1 run the same experiment
  python -m debiaspl.train --recipe demo --set science.tau=0        change any field that --print-config shows
  python -m debiaspl.train --resume runs/demo                       go on where that run stopped, with its settings
  python -m debiaspl.train --resume runs/demo --set science.epochs=90
                                                                    a finished run goes on with more epochs

files below the data folder
  train/<class>/*.jpg  val/<class>/*.jpg  indexes/*.csv (column Index: place in the sorted listing of train)
  ffcv/train.beton  ffcv/val.beton (pipeline ffcv only; made by debiaspl convert)

files in the run's folder
  last.pt (the newest checkpoint: each epoch, every engine.save_minutes, and on a signal)  step-*.pt (older ones)
  best.pt (the checkpoint of the best epoch, by engine.best)
  report.html  metrics.jsonl  tensorboard/  pseudo_labels.png  config.json
  init.json (what became of each tensor of the --init file)

signals: Ctrl-C, TERM, HUP, USR1, USR2 and XCPU save after the current step and stop; the third one ends at once
exit codes: 0 done; 2 something to mend, said in one message; 128 + n stopped and saved on signal n
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser: at most ten flags beside --help, as a test counts; all else is for --set."""
    rows = "\n".join(f"  {name:<22}{_summary(function)}" for name, function in recipes.RECIPES.items())
    parser = argparse.ArgumentParser(
        prog=startup.prog("train", "python -m debiaspl.train"),
        description="Train debiased pseudo-labeling (DebiasPL, CVPR 2022) or FixMatch on images in folders.",
        epilog=_EPILOG.format(recipes=rows),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", help=f"see below (default: the resumed run's; with --data own, else {DEFAULT})")
    parser.add_argument("--pipeline", help=f"data pipeline: {', '.join(PIPELINES)} (default: the recipe's, dali)")
    parser.add_argument("--data", help="data folder (default: the recipe's, dataset/imagenet or dataset/demo)")
    parser.add_argument("--out", help="folder of this run (default: runs/<recipe>)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|RUN|FILE",
        help="go on from this run's last.pt if there is one (also without a value), from that of the folder RUN, or "
        "FILE; without --recipe the settings are those of the run's config.json",
    )
    parser.add_argument("--init", metavar="FILE", help="weights that the trunk starts from; '' for random ones")
    parser.add_argument(
        "--set", metavar="FIELD=VALUE", action="append", default=[], help="change a field; may be repeated"
    )
    parser.add_argument("--strict", action="store_true", help="let the first undecodable file stop the run")
    parser.add_argument("--print-config", action="store_true", help="print every field with its value, and stop")
    parser.add_argument("--dry-run", action="store_true", help="take one batch through source and step, and stop")
    return parser


def _summary(recipe: Callable[[], Recipe]) -> str:
    return (recipe.__doc__ or "").partition("\n")[0]  # python -OO drops it


def given_fields(arguments: argparse.Namespace) -> list[str]:
    """Returns ``field=value`` of each flag that stands for a field, and then those of --set."""
    flags = {
        "engine.pipeline": arguments.pipeline,
        "engine.data": arguments.data,
        "engine.out": arguments.out,
        "science.init": arguments.init,
        "engine.bad_files": 0 if arguments.strict else None,
    }
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    return given + arguments.set


def chosen_recipe(arguments: argparse.Namespace) -> Recipe:
    """Returns the recipe with the flags and --set applied; --set wins."""
    return override(_base(arguments)[0], given_fields(arguments))


def fitted_recipe(arguments: argparse.Namespace) -> Recipe:
    """Returns the recipe with the flags and --set applied; recipe own, unless it is resumed, has looked at the data."""
    base, resumes = _base(arguments)
    given = assigned(given_fields(arguments))
    recipe = override(base, [f"{name}={value}" for name, value in given.items()])
    return recipe if resumes or _name(arguments) != OWN else own_data.fitted(recipe, given)


def _name(arguments: argparse.Namespace) -> str:
    """Returns the recipe that is named; without a name, data of one's own asks for recipe own."""
    return arguments.recipe or (DEFAULT if arguments.data is None else OWN)


def _base(arguments: argparse.Namespace) -> tuple[Recipe, bool]:
    """Returns what the flags and --set are applied to, and whether it is an earlier run's settings.

    Raises ConfigError where --resume and --out name two folders, or the run's config.json is damaged.
    """
    named = recipes.find(_name(arguments))
    if arguments.resume is None:
        return named, False
    resume, out = Path(arguments.resume), arguments.out
    folder = resume if resume.is_dir() else None
    if folder is not None and out is not None and Path(out) != folder:
        raise ConfigError(f"--resume {folder} goes on in that folder, but --out is {out}. Give one of the two.")
    earlier = None
    if arguments.recipe is None:
        beside = resume.parent if resume.is_file() else Path(out) if out else _folder_of(named)
        earlier = read_config(folder or beside)
    base = earlier or named
    return (base if folder is None else override(base, [f"engine.out={folder}"])), earlier is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, as --help lists them."""
    parsed = build_parser().parse_args(arguments)
    recipe: Recipe | None = None
    try:
        recipe = fitted_recipe(parsed)
        if parsed.print_config:
            _print_config(recipe)
            return 0
        return _run(recipe, parsed)
    except UserError as error:
        console.say(f"error: {error}", error=True)
        if isinstance(error, TooManyBadFiles) and len(error.files) > NAMED and recipe is not None:
            _write_list(error.files, _folder_of(recipe))
        return 2


def _run(recipe: Recipe, parsed: argparse.Namespace) -> int:
    """Trains, or takes the one batch of --dry-run; returns the exit code."""
    from debiaspl import distributed
    from debiaspl.dry_run import dry_run
    from debiaspl.training import train

    ranks = distributed.join(recipe.engine.device)
    try:
        with pillow_warnings.counted():
            if parsed.dry_run:
                dry_run(recipe, ranks)
                return 0
            return train(recipe, ranks, _folder_of(recipe), parsed.resume)
    finally:
        distributed.leave()


def _folder_of(recipe: Recipe) -> Path:
    return Path(recipe.engine.out or f"runs/{recipe.name}")


def _write_list(files: list[str], folder: Path) -> None:
    """Writes the names of all undecodable files, of which the message could name only a few."""
    path = folder / "bad_files.txt"
    with Accessories(lambda line: console.say(line, error=True)).attempt(str(path)):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as building:
            building.write_text("".join(f"{file}\n" for file in files), encoding="utf-8", errors="backslashreplace")
        console.say(f"All {len(files)} by name: {path}", error=True)


def _print_config(recipe: Recipe) -> None:
    """Prints every field as --set takes it."""
    console.say(f"# recipe {recipe.name}")
    for line in assignments(dataclasses.asdict(recipe)):
        console.say(line)


if __name__ == "__main__":
    console.run(main)
