"""Prints what makes a shell complete ``debiaspl`` commands and options: eval "$(debiaspl completion bash)"."""

import argparse
from collections.abc import Sequence

from debiaspl import startup

_SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
in this shell                eval "$(debiaspl completion bash)"
in every new one             debiaspl completion bash >> ~/.bashrc
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("completion", "debiaspl completion"),
        description="Prints what makes a shell complete debiaspl's commands and options.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=_SHELLS, help="the shell that reads it")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the shell's code; returns 0."""
    from argcomplete.shell_integration import shellcode

    parsed = build_parser().parse_args(arguments)
    print(shellcode(["debiaspl"], shell=parsed.shell))
    return 0
