"""Command-line options that several subcommands share, and the types of their values; nothing heavy is imported."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from pipelines import files

LABELED, UNLABELED = 8, 40
"""Images of each stream in a step, as in recipe imagenet-1p."""
STEP = LABELED + UNLABELED
REPEATED = ("loader", "step", "ranks", "resize", "convert")
"""Subcommands with rates, which --processes repeats for ``compare``."""
_OF_THE_CLONE = Path(__file__).parent / "reports"
REPORTS = _OF_THE_CLONE if _OF_THE_CLONE.is_dir() else Path("bench-reports")
"""Where reports are written unless --out names another folder; an installed package keeps none within itself."""


def positive(text: str) -> int:
    """Returns the whole number from 1 on that ``text`` spells; argparse shows the error of any other."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on (got {text})")
    return int(text)


def multiple_of(unit: int, what: str) -> Callable[[str], int]:
    """Returns a type for whole multiples of ``unit``, which ``what`` names in the error."""

    def multiple(text: str) -> int:
        if (number := positive(text)) % unit:
            raise argparse.ArgumentTypeError(f"must be a multiple of {unit}, {what} (got {number})")
        return number

    return multiple


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def cache_folder() -> Path:
    """Returns the folder that keeps the bench's own images unless --corpus names another one."""
    return (files.cache_folder() or Path("/tmp/debiaspl")) / "bench"


def add_images(parser: argparse.ArgumentParser) -> None:
    """Adds --images, a whole number of steps."""
    whole_steps = multiple_of(STEP, "the images of a step")
    parser.add_argument("--images", type=whole_steps, default=20 * STEP, metavar="N", help=f"a multiple of {STEP}")


def add_rounds(parser: argparse.ArgumentParser, rounds: int = 7) -> None:
    """Adds --rounds."""
    parser.add_argument("--rounds", type=positive, default=rounds, metavar="N", help="measured rounds, after a warm-up")


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds --processes."""
    what = "repeat all of it in so many processes; compare takes processes for its samples, at least 5"
    parser.add_argument("--processes", type=positive, default=1, metavar="N", help=what)


def add_quick(parser: argparse.ArgumentParser) -> None:
    """Adds --quick."""
    parser.add_argument("--quick", action="store_true", help="fewer rounds, at most 90 s; a draft that no gate takes")


def quicken(arguments: argparse.Namespace, **most: int) -> None:
    """With --quick, changes each of the named options to at most so many."""
    for name, number in most.items() if arguments.quick else ():
        setattr(arguments, name, min(getattr(arguments, name), number))


def add_threads(parser: argparse.ArgumentParser, what: str = "threads, or worker processes") -> None:
    """Adds --threads, by default one for each core."""
    parser.add_argument("--threads", type=positive, default=cores(), metavar="N", help=what)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds --out."""
    parser.add_argument("--out", type=Path, default=REPORTS, metavar="FOLDER", help="where the report is written")


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Adds --corpus."""
    parser.add_argument(
        "--corpus",
        type=Path,
        default=cache_folder(),
        metavar="FOLDER",
        help="where the bench keeps the images that it makes, and what it converts from them; not a folder of yours",
    )


def command(subcommand: str, arguments: argparse.Namespace, *names: str) -> str:
    """Returns the command line that repeats a measurement with these options."""
    return " ".join([f"python -m bench {subcommand}", *(f"--{name} {getattr(arguments, name)}" for name in names)])
