"""What this machine has, what it can do, what is missing, and which settings follow."""
