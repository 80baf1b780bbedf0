"""Which devices tests run on: the CPU, and a GPU where one is asked for with -m gpu."""

from collections.abc import Callable

import pytest
import torch

_NO_GPU = "no CUDA device (on a machine with one: python -m pytest -m gpu)"
GPU_MARKS = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=_NO_GPU))
DEVICES = ("cpu", pytest.param("cuda", marks=GPU_MARKS))
"""Parameters of a fixture or test that is to hold on both."""


def needs_gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test as one that runs on a GPU and is skipped elsewhere."""
    for mark in GPU_MARKS:
        test = mark(test)
    return test
