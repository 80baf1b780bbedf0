"""Asks FFCV's own Loader, in a process of its own, for what is in a file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Loaded = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]
"""All images, labels and indices of a .beton."""
ROOT = Path(__file__).parents[2]


class LoaderProcess:
    """The process of tests/support/ffcv_loader.py, started at the first request and shared by all of them."""

    def __init__(self, folder: Path) -> None:
        self._out = folder / "loaded.npz"
        self._process: subprocess.Popen[str] | None = None

    def load(self, beton: Path, decoder: str, *arguments: object) -> Loaded:
        """Returns what FFCV's Loader yields with the named decoder, which takes the arguments."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.support.ffcv_loader"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
            )
        request = {"beton": str(beton), "decoder": [decoder, *arguments], "out": str(self._out)}
        print(json.dumps(request), file=self._process.stdin)
        assert self._process.stdout.readline() == "done\n", "FFCV's Loader failed: its error is above."
        with np.load(self._out) as found:
            return found["images"], found["labels"], found["indices"]

    def close(self) -> None:
        """Ends the process, if it was started."""
        if self._process is not None:
            self._process.communicate()  # closes the pipe, which ends it
