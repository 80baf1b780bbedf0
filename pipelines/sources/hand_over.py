"""Hands what one thread makes for a GPU to another, or one stream to another, so that neither of them waits in vain.

Batches are made on streams beside the training's. An event says when one is made, and the stream that takes it waits
for that event, at the moment it is taken. So training never waits for a later batch, and the host for none at all.

Never run on a GPU so far; what is called, and on which stream, is tested with a recording in torch.cuda's place.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_BEFORE_TRAINING = -1
"""The priority of the streams that make batches: their many small kernels would else slot in behind training's."""


def side_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Returns a stream to make batches on, whose kernels go before training's; None where the device is no GPU."""
    return torch.cuda.Stream(device, priority=_BEFORE_TRAINING) if device.type == "cuda" else None


@contextmanager
def making_thread(device: torch.device) -> Iterator[torch.cuda.Stream | None]:
    """Makes the block's thread, a fresh one, work on ``device``, on a stream of its own, which is yielded.

    CUDA's current device belongs to a thread and begins as the first one: without this, every rank's thread would open
    a context on GPU 0. On a CPU there is nothing to do.
    """
    if device.type != "cuda":
        yield None
        return
    torch.cuda.set_device(device)
    stream = side_stream(device)
    assert stream is not None
    stream.synchronize()  # a runtime call: setting the device alone can leave the thread without the context
    with torch.cuda.stream(stream):
        yield stream


def take(tensors: Sequence[Tensor], made: torch.cuda.Event) -> None:
    """Makes the current stream wait for what another one has made, and keeps the tensors' memory until it used them."""
    using = torch.cuda.current_stream(tensors[0].device)
    using.wait_event(made)
    for tensor in tensors:
        tensor.record_stream(using)  # else its memory might be given to the next batch while it is read
