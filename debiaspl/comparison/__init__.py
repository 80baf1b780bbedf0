"""Several methods with several seeds on the same data: their trainings, what came out, and which differences count."""
