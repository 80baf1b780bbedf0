"""Evaluate: python -m debiaspl.evaluate runs/demo (accuracy per class, calibration, confusion, bias, --knn)."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl.using.options import add_network, add_set
from pipelines import console
from pipelines.samples import pillow_warnings

_DESCRIPTION = "Evaluates a run's networks: accuracy over all and per class, calibration, bias of pseudo-labels, kNN."
_EPILOG = """\
Without --val the run's own validation images are taken. A folder of --val needs no training images beside it. Its
class folders are found among the network's by name, or, if they are numbers and the network's are not (ImageNetV2), by
place. Where it has only some of the classes, only those come into question, as is usual for ImageNet-R and -A.

--out FOLDER writes accuracy.csv, and for each evaluated folder per_class.csv, confusion.csv and confusion.png.
--mistakes wrong.csv lists the images that are taken for another class, the surest first, and writes the same as a
contact sheet, wrong.html.

exit codes: 0 done; 2 something to mend, said in one message
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("evaluate", "python -m debiaspl.evaluate"),
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network(parser, model="whose classes are shown in detail")
    parser.add_argument("--data", help="data folder (default: the run's)")
    parser.add_argument("--val", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders with class folders")
    parser.add_argument("--pipeline", help="data pipeline (default: the run's, where it can be)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write tables and confusion matrices there")
    parser.add_argument("--mistakes", type=Path, metavar="CSV", help="list the wrongly classified images there")
    parser.add_argument("--knn", action="store_true", help="kNN accuracy too: labeled images as the bank")
    add_set(parser)
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 where something is to be mended."""
    parsed = build_parser().parse_args(arguments)
    from debiaspl.using.evaluation import report  # imports torch, which --help need not wait for

    with pillow_warnings.counted():
        report(parsed)
    return 0


if __name__ == "__main__":
    console.run(main)
