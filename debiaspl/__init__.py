"""Debiased pseudo-labeling: the method and its trainer."""

import os

__version__ = "0.1.0"

# Set before torch loads OpenMP. Its threads would otherwise spin for milliseconds at every barrier, on cores that the
# loader's threads then cannot have; 1000 turns bridge the short gaps within a step. Whoever has chosen keeps that.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
