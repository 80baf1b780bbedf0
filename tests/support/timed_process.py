"""A small measurement in a process of its own: python -m tests.support.timed_process; prints its rates."""

import io
import json
import subprocess
import sys

import numpy as np
from PIL import Image

from bench.measure import Contestant, measure

TIMES, ROUNDS = 20, 5


def main() -> None:
    """Measures and prints the rates of all rounds, images per second."""
    jpeg = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(jpeg, "JPEG")

    def work() -> int:
        for _ in range(TIMES):
            Image.open(io.BytesIO(jpeg.getvalue())).convert("RGB").resize((224, 224))
        return TIMES

    print(json.dumps(measure([Contestant("decode", work)], unit="images/s", rounds=ROUNDS).series[0].rates))


def rates_of_a_process() -> list[float]:
    """Returns the rates that a new process measured."""
    command = [sys.executable, "-m", "tests.support.timed_process"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rates: list[float] = json.loads(done.stdout)
    return rates


if __name__ == "__main__":
    main()
