"""``python -m bench SUBCOMMAND``: measures one thing and writes a report of it.

Each subcommand is a module with ``add_arguments`` and ``run``. It is imported when it is asked for, and imports what it
measures (torch, numba, DALI) only when it runs, so that --help answers at once.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from bench.arguments import REPEATED, add_processes
from pipelines import console

SUBCOMMANDS = {
    "loader": (
        "bench.loader.run",
        "source images per second of every pipeline, beside the published-style loader and the decode-only limit",
    ),
    "step": (
        "bench.step.run",
        "steps per second on the CPU, from the published habits to ours; with a loader; memory of a recipe's step",
    ),
    "ranks": (
        "bench.step.ranks",
        "steps per second of two processes, by how they sum their gradients",
    ),
    "parity": (
        "bench.parity.run",
        "how far each pipeline and executor is from Pillow, and a picture to look at",
    ),
    "resize": (
        "bench.resize.run",
        "crops per second of every way to resize, and how far each is from Pillow; RandAugment operations",
    ),
    "convert": (
        "bench.convert.run",
        "images per second of the .beton converter, beside reading and writing alone and FFCV's own writer",
    ),
    "demo": (
        "bench.demo",
        "accuracy of the demo over seeds: supervised, FixMatch, DebiasPL, and DebiasPL on each pipeline",
    ),
    "accuracy": (
        "bench.accuracy.run",
        "seconds that the demo takes to an accuracy, with our loader and step and with the published habits",
    ),
    "gpu": (
        "bench.gpu.run",
        "what a GPU still has to prove, in ten minutes: equal bytes, damage, compilation, speed, memory, ranks",
    ),
    "train": (
        "bench.verdict.run",
        "whether training waits for its images or for its step, and the one change that would help most",
    ),
    "doctor": (
        "bench.doctor.run",
        "what this machine has and can do, what is missing, and which pipeline and settings follow",
    ),
    "saturate": (
        "bench.saturate.run",
        "how many GPUs of a kind this host could keep busy, by real loaders and steps that sleep",
    ),
    "plan": (
        "bench.plan.run",
        "what 1 to 64 GPUs would need from their hosts, what gives out first, and hours of each recipe",
    ),
    "pages": (
        "bench.pages.run",
        "reports as HTML pages, and an index of them",
    ),
    "compare": (
        "bench.compare.run",
        "what differs between two reports or two commits, row by row, with a test and a gate",
    ),
}
"""Name → its module, and what it shows, for --help."""
_DESCRIPTION = "Measures one thing on this machine, prints tables, and writes a report to bench/reports."


def build_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Returns the parser; of the subcommand that ``words`` begin with it knows the options."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("bench", "python -m bench"),
        description=_DESCRIPTION,
        epilog="SUBCOMMAND --help shows a subcommand's options.",
    )
    commands = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND")
    for name, (module_name, what) in SUBCOMMANDS.items():
        command = commands.add_parser(
            name, help=what, description=f"Shows {what}.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        if list(words[:1]) == [name]:
            module = import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
            if name in REPEATED:
                add_processes(command)
    return parser


@console.tells_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit status.

    That is 0, or what the subcommand returns; 2 after a message about what to mend; 130 when interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(words)
    arguments = parser.parse_args(words)
    if not words:
        parser.print_help()
        return 0
    try:
        if words[0] in REPEATED and arguments.processes > 1:
            from bench.compare.processes import repeated

            return repeated(words, arguments.processes, arguments.out)
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        console.say("Interrupted; no report was written.", error=True)
        return 130


def _end_in_order(*names: str) -> None:
    """Lets these signals end the process as an error would, so that checkouts, folders and processes go with it."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for name in names:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, end)


if __name__ == "__main__":
    _end_in_order("SIGTERM", "SIGHUP")
    console.run(main)
