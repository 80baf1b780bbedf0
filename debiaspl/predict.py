"""Predict: python -m debiaspl.predict runs/demo pictures --out labels.csv (a class and a confidence per picture)."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl.using.options import add_network, add_set
from pipelines import NAMES as PIPELINES
from pipelines import console
from pipelines.samples import pillow_warnings

_EPILOG = """\
OUT has a row per picture that could be decoded, in the order of the folder: file, label, confidence, and the five
likeliest classes with their probabilities. Pictures lie at any depth; they may be GIF, AVIF or JPEG 2000, too.
Those that cannot be decoded are counted, named, and listed with their reasons in OUT.skipped.csv.

Nothing of the data that the run was trained on is needed. --pipeline ffcv reads ffcv/<folder>.beton beside the folder.

exit codes: 0 done; 2 something to mend, said in one message
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("predict", "python -m debiaspl.predict"),
        description="Tells the class of each picture in a folder, and how sure the network is.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network(parser)
    parser.add_argument("folder", type=Path, help="pictures, at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="where the labels are written")
    parser.add_argument("--html", type=Path, help="a contact sheet: each class's surest and least sure pictures")
    parser.add_argument("--pipeline", choices=PIPELINES, help="data pipeline (default: the run's, where it can be)")
    add_set(parser)
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 where something is to be mended."""
    parsed = build_parser().parse_args(arguments)
    from debiaspl.using.prediction import predict  # imports torch, which --help need not wait for

    with pillow_warnings.counted():
        predict(parsed.run, parsed.folder, parsed)
    return 0


if __name__ == "__main__":
    console.run(main)
