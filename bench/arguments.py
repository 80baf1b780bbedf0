"""Types of command-line values that several subcommands take."""

import argparse
from collections.abc import Callable


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on (got {text})")
    return int(text)


def multiple_of(unit: int, what: str) -> Callable[[str], int]:
    """A multiple of ``unit``, which is ``what``."""

    def multiple(text: str) -> int:
        if (number := positive(text)) % unit:
            raise argparse.ArgumentTypeError(f"must be a multiple of {unit}, {what} (got {number})")
        return number

    return multiple
