"""What GPUs that are not here would need from a host: arithmetic, and a simulation that checks it."""
