"""Whether training waits for its images or for its step, on the user's own machine, data and recipe."""
