"""FFCV's own, unmodified Loader in a process of its own: reads requests line by line, and writes what it loaded.

Its place is not among the tests: it compiles code that makes numba's types immutable (a kernel compiled afterwards may
fail), and it changes torch's number of threads.
"""

import json
import sys

import numpy as np
from ffcv.fields import bytes as bytes_
from ffcv.fields import rgb_image
from ffcv.fields.basics import IntDecoder
from ffcv.loader import Loader, OrderOption


def main() -> None:
    """For each line {beton, decoder: name and arguments, out}: images, labels and indices into ``out``, a .npz."""
    loaders = []  # kept: numba's finalizers fail on what FFCV's Loader compiled, inside whatever collects the garbage
    for line in sys.stdin:
        request = json.loads(line)
        name, *arguments = request["decoder"]
        decoder = getattr(bytes_ if name == "BytesDecoder" else rgb_image, name)(*arguments)
        pipelines = {"image": [decoder], "label": [IntDecoder()], "index": [IntDecoder()]}
        pipelines |= dict.fromkeys(("kind", "width", "height")) if name == "BytesDecoder" else {}
        loader = Loader(
            request["beton"], 5, num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False, pipelines=pipelines
        )
        loaders.append(loader)
        batches = [tuple(np.array(part) for part in batch) for batch in loader]
        images, labels, indices = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        np.savez(request["out"], images=images, labels=labels[:, 0], indices=indices[:, 0])
        print("done", flush=True)


if __name__ == "__main__":
    main()
