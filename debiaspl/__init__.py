"""Debiased pseudo-labeling: the method and its trainer."""

__version__ = "0.1.0"
