"""The options that name a trained network, alike in every command that uses one."""

import argparse
from pathlib import Path


def add_network(parser: argparse.ArgumentParser, model: str = "auto: the better one (the default)") -> None:
    """Adds the run, --which of its checkpoints and --model; ``model`` says what the last one decides."""
    parser.add_argument("run", type=Path, help="a run's folder, or a checkpoint")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="best.pt (the default) or last.pt")
    parser.add_argument("--model", choices=("auto", "student", "teacher"), default="auto", help=model)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Adds --set for all that does not change what the network was trained on."""
    parser.add_argument(
        "--set", metavar="SECTION.FIELD=VALUE", action="append", default=[], help="change any field but science's"
    )
