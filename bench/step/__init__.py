"""``python -m bench step`` and ``ranks``: optimisation steps per second."""
