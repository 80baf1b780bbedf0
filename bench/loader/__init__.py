"""``python -m bench loader``: source images per second of every pipeline."""
