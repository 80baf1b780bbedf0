"""``python -m bench parity``: how far each pipeline and executor is from Pillow."""
