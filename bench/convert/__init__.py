"""``python -m bench convert``: images per second of the .beton converter."""
