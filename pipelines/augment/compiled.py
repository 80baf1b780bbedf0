"""RandAugment on a GPU in few kernels: compiled in the background, while the uncompiled code serves the first batches.

Both give the same bytes, so nobody sees the change. Compiling takes a thread some half a minute the first time; the
result is kept in inductor's cache ($TORCHINDUCTOR_CACHE_DIR or the temporary folder), and takes seconds from then on.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines import console
from pipelines.augment import gpu

UNCOMPILED = 64
"""Batches before compiling begins. The step has compiled its own passes by then, which would have to wait otherwise,
and a run that ends sooner, such as a dry run, compiles nothing."""


OPTIONS = {"realize_reads_threshold": 64, "realize_acc_reads_threshold": 64, "realize_opcount_threshold": 1000}
"""Inductor stores what many reads or operations went into. ``gpu.apply`` says itself what is worth storing: with
inductor's own thresholds, two draws take 15 kernels on a GPU instead of 11 and store 4 times the views instead of 2."""


def in_few_kernels() -> Callable[[Tensor, gpu.Parameters], Tensor]:
    """Returns ``gpu.apply``, to be compiled at its first call and for each new shape."""
    return torch.compile(gpu.apply, fullgraph=True, dynamic=False, options=dict(OPTIONS))


class Augmenter:
    """RandAugment in place for the batches of one source, all of one shape; ``compile`` says whether to compile it."""

    def __init__(self, *, compile: bool) -> None:
        self._compile = compile
        self._batches = 0
        self._compiler: threading.Thread | None = None
        self._compiled: Callable[[Tensor, gpu.Parameters], Tensor] = gpu.apply
        self._shape: torch.Size | None = None  # that ``_compiled`` was compiled for

    def __call__(self, pixels: Tensor, op: NDArray[np.uint8], level: NDArray[np.int8]) -> None:
        """Augments views uint8 [(v,) n, h, w, 3] by op and level [(v,) n, k], on their device's current stream."""
        run = self._compiled if pixels.shape == self._shape else gpu.apply
        pixels.copy_(gpu.augment_batch(pixels, op, level, run))
        self._batches += 1
        if self._compile and self._batches == UNCOMPILED:
            self._compiler = threading.Thread(
                target=self._make, args=(torch.zeros_like(pixels), op, level), name="augment-compiler"
            )
            self._compiler.start()

    def close(self) -> None:
        """Waits for the compiler, which cannot be interrupted: a thread that outlives the interpreter may crash it."""
        if self._compiler is not None:
            self._compiler.join()

    def _make(self, pixels: Tensor, op: NDArray[np.uint8], level: NDArray[np.int8]) -> None:
        """Compiles for views like ``pixels``, runs the result once, and only then lets it serve."""
        first = pixels.device.index in (None, 0)  # one of a machine's processes tells
        if first:
            console.say(f"RandAugment is being compiled for {pixels.device}; training goes on meanwhile.", error=True)
        compiled = in_few_kernels()
        try:
            with ExitStack() as beside:
                if pixels.is_cuda:  # never run on a GPU
                    beside.enter_context(torch.cuda.device(pixels.device))  # CUDA's device is each thread's own
                    beside.enter_context(torch.cuda.stream(torch.cuda.Stream(pixels.device)))
                gpu.augment_batch(pixels, op, level, compiled)  # loads and tunes the kernels, too
                if pixels.is_cuda:
                    torch.cuda.current_stream().synchronize()
        except Exception as error:  # whatever a compiler says: the uncompiled code gives the same bytes
            if first:
                console.say(f"RandAugment stays uncompiled, which is slower: {error}", error=True)
            return
        self._compiled, self._shape = compiled, pixels.shape
