"""FFCV's own Loader, which all tests of the converter share."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Loaded = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Loaded]]:
    """(beton, decoder's name, its arguments) → all images, labels and indices as FFCV's own Loader yields them."""
    out = tmp_path_factory.mktemp("loaded") / "loaded.npz"
    with ExitStack() as started:
        processes: list[subprocess.Popen[str]] = []

        def loaded(beton: Path, decoder: str, *arguments: object) -> Loaded:
            if not processes:  # at the first call, once for all
                command = [sys.executable, "-m", "tests.tools.ffcv_loader"]
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
                )
                processes.append(started.enter_context(process))  # its end closes the pipe, which ends the process
            request = {"beton": str(beton), "decoder": [decoder, *arguments], "out": str(out)}
            print(json.dumps(request), file=processes[0].stdin)
            assert processes[0].stdout.readline() == "done\n", "FFCV's Loader failed: its error is above."
            with np.load(out) as found:
                return found["images"], found["labels"], found["indices"]

        yield loaded
