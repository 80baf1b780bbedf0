"""Starts ``debiaspl import`` from a clone, without an install: python tools/import_checkpoint.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl.commands.import_checkpoint import build_parser as build_parser
from debiaspl.commands.import_checkpoint import main
from pipelines import console

if __name__ == "__main__":
    console.run(main)
