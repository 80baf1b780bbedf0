"""Starts ``debiaspl demo-data`` from a clone, without an install: python tools/make_demo_data.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl.commands.demo_data import build_parser as build_parser
from debiaspl.commands.demo_data import main
from pipelines import console

if __name__ == "__main__":
    console.run(main)
