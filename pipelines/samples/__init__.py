"""Which images there are, and what training may know of each."""
