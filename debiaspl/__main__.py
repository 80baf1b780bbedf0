"""``debiaspl COMMAND …`` or ``python -m debiaspl COMMAND …``: every command, imported when it is asked for.

Each command is a module with ``build_parser`` and ``main``; most are also started as ``python -m debiaspl.train``.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from debiaspl import __version__, startup

if __name__ == "__main__":
    startup.answer_interrupts()

from pipelines import console
from pipelines.errors import ConfigError

COMMANDS = {
    "train": ("debiaspl.train", "train on your pictures, or run a recipe"),
    "evaluate": ("debiaspl.evaluate", "measure a trained network"),
    "predict": ("debiaspl.predict", "write the class of each picture in a folder"),
    "export": ("debiaspl.export", "write a trained network as safetensors, a torch.export program or ONNX"),
    "compare": ("debiaspl.compare", "train several methods with several seeds, and say which differences count"),
    "runs": ("debiaspl.runs", "list runs: recipe, data, state, best accuracy, speed"),
    "splits": ("debiaspl.commands.splits", "choose which training pictures are labeled"),
    "convert": ("debiaspl.commands.convert", "convert folders of pictures into .beton files, for --pipeline ffcv"),
    "clip-targets": ("debiaspl.commands.clip_targets", "write CLIP's zero-shot guesses as labels"),
    "import": ("debiaspl.commands.import_checkpoint", "say whether a weights file fits a network"),
    "demo-data": ("debiaspl.commands.demo_data", "write the demo's digits"),
    "doctor": ("bench.doctor.__main__", "say what this machine has and lacks, and which settings follow"),
    "bench": ("bench.__main__", "measure pipelines, steps and conversions on this machine"),
    "completion": ("debiaspl.commands.completion", "print what makes a shell complete these commands"),
}
"""Name → its module, and what it does, for --help."""
_EPILOG = "debiaspl COMMAND --help shows a command's options."


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names; returns its exit code, 2 where there is no such command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    if words and words[0] in COMMANDS:
        module = import_module(COMMANDS[words[0]][0])
        sys.argv[0] = f"{_prog()} {words[0]}"  # for the command's usage line
        return int(module.main(words[1:]))
    if words and not words[0].startswith("-"):
        from debiaspl.science import near

        raise ConfigError(f"There is no command {words[0]!r}{near(words[0], COMMANDS)}")
    parser = _parser()
    parser.parse_args(words)
    parser.print_help()
    return 0


def run() -> NoReturn:
    """Runs the console command ``debiaspl`` and exits."""
    startup.answer_interrupts()
    console.run(main)


def _prog() -> str:
    return "python -m debiaspl" if sys.argv[0].endswith("__main__.py") else "debiaspl"


def _parser(asked: str = "") -> argparse.ArgumentParser:
    """Returns the parser of --help and --version; with the options of the command ``asked`` for."""
    parser = argparse.ArgumentParser(
        prog=_prog(),
        description="Debiased pseudo-labeling: classifiers from few labels and many unlabeled pictures.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"debiaspl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (module, what) in COMMANDS.items():
        parents = [import_module(module).build_parser()] if name == asked else []
        commands.add_parser(name, help=what, parents=parents, add_help=False)
    return parser


def _complete() -> NoReturn:
    """Answers a shell that asks how the line goes on, and exits; argcomplete speaks its language."""
    import argcomplete

    line = os.environ.get("COMP_LINE", "").split()
    asked = next((word for word in line[1:] if word in COMMANDS), "")
    argcomplete.autocomplete(_parser(asked))
    sys.exit(1)  # not reached where a shell asks


if __name__ == "__main__":
    console.run(main)
