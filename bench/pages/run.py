"""Writes an HTML page for each JSON report in a folder, and an index of them; each page holds all that it shows."""

import argparse

from bench.arguments import add_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench pages``."""
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the pages, prints their paths, and returns 0."""
    from bench.report.web import write_pages
    from pipelines import console

    for path in write_pages(arguments.out):
        console.say(str(path))
    return 0
