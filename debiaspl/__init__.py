"""Debiased pseudo-labeling: the method and its trainer."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"

# Set before torch loads OpenMP. Its threads would otherwise spin for milliseconds at every barrier, on cores that the
# loader's threads then cannot have; 1000 turns bridge the short gaps within a step. Whoever has chosen keeps that.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# `python -m` looks into the current folder first: somebody's own folder called pipelines there would be taken for ours.
_pipelines = Path(__file__).parents[1] / "pipelines/__init__.py"
if "pipelines" not in sys.modules and _pipelines.exists():
    _found = find_spec("pipelines")
    if _found is None or _found.origin != str(_pipelines):
        sys.path.insert(0, str(_pipelines.parents[1]))
