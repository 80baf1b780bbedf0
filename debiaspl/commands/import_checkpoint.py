"""Says whether a weights file fits a network, before a run's --init.

debiaspl import FILE --arch resnet50
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from debiaspl import startup
from debiaspl.config import Science
from pipelines import console
from pipelines.names import readable

if TYPE_CHECKING:  # they import torch and rich: --help need not wait for them
    from rich.table import Table

    from debiaspl.import_weights import Account

_DESCRIPTION = "Says whether a weights file fits a network, before a run's --init."


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("import", "python tools/import_checkpoint.py"),
        description=_DESCRIPTION,
        epilog="exit codes: 0 it fits; 2 it does not",
    )
    parser.add_argument("file", type=Path, help="weights: torch.save's or .safetensors; no data is needed")
    parser.add_argument("--arch", default="resnet50", help="the network, as science.arch (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="the images', as science.size (default: %(default)s)")
    parser.add_argument("--names", type=Path, metavar="JSON", help="write the status of every single tensor there")
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what became of the file's tensors; returns the exit status: 0, or 2 where the file does not fit."""
    parsed = build_parser().parse_args(arguments)
    try:
        from debiaspl.import_weights import import_weights
        from debiaspl.models.trunks import build_trunk

        science = Science(arch=parsed.arch, size=parsed.size, eval_resize=parsed.size)
        trunk, _ = build_trunk(science.arch, science.size)
        account = import_weights(trunk, parsed.file)
        if parsed.names:
            account.write(parsed.names, weights=str(parsed.file))
    except OSError as error:
        reason = error.strerror or error
        console.say(f"error: Cannot write {readable(parsed.names)}: {reason}. Name another --names", error=True)
        return 2
    console.say(f"{readable(parsed.file)} fits {parsed.arch}")
    console.show(_table(account))
    return 0


def _table(account: "Account") -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("tensors", justify="right")
    table.add_column("status")
    why = f" ({account.why})" if account.why else ""
    table.add_row(f"{len(account.used)}", readable(f"used, from {account.prefix}*{why}"))
    for group, count in account.left_groups().items():
        table.add_row(f"{count}", readable(f"left: {group}"))
    if account.random:
        table.add_row(f"{len(account.random)}", "not in the file (BatchNorm's counters: they start at 0)")
    return table
