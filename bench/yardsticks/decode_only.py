"""The limit no exact loader can pass: every file decoded once by libturbojpeg, and nothing else done."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.turbojpeg import Decoder


class DecodeOnly:
    """``tjDecompress2``, flags 0, on file bytes held in memory, into memory allocated before; one decoder a thread."""

    def __init__(self, paths: Sequence[Path], threads: int) -> None:
        self._jpegs = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]
        with Decoder() as decoder:
            headers = [decoder.header(jpeg) for jpeg in self._jpegs]
        self._shapes = [(header.height, header.width, 3) for header in headers]
        largest = max(int(np.prod(shape)) for shape in self._shapes)
        self._memory = [np.zeros(largest, np.uint8) for _ in range(threads)]
        self._decoders = [Decoder() for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode-only")  # ctypes releases the GIL

    def epoch(self) -> NDArray[np.int64]:
        """Decodes every file once and returns the samples' indices."""
        rest = iter(range(len(self._jpegs)))  # shared: a thread takes the next image when it is done with one
        work = [self._pool.submit(self._decode, rest, *own) for own in zip(self._decoders, self._memory, strict=True)]
        return np.asarray([index for done in work for index in done.result()])

    def _decode(self, indices: Iterator[int], decoder: Decoder, memory: NDArray[np.uint8]) -> list[int]:
        done = []
        for index in indices:
            shape = self._shapes[index]
            decoder.decode(self._jpegs[index], memory[: shape[0] * shape[1] * 3].reshape(shape))
            done.append(index)
        return done

    def close(self) -> None:
        """Ends the threads and frees their decoders."""
        self._pool.shutdown()
        for decoder in self._decoders:
            decoder.close()
