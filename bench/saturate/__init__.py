"""Whether this host could keep GPUs busy that it does not have: real loaders, and steps that sleep."""
