"""``debiaspl doctor`` or ``python -m bench.doctor``: the same as ``python -m bench doctor``."""

import argparse
from collections.abc import Sequence

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from bench.doctor import run
from pipelines import console


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("doctor", "python -m bench.doctor"),
        description="Says what this machine has and lacks, what it can do, and which settings follow.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    run.add_arguments(parser)
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 1 where training would fail, 2 after a message about what to mend."""
    return run.run(build_parser().parse_args(arguments))


if __name__ == "__main__":
    console.run(main)
