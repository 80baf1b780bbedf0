"""``python -m bench resize``: every way to cut and resize a crop."""
