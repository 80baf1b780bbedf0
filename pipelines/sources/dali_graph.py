"""What DALI executes: the pipeline of operators that decodes and, where DALI cuts, cuts one group at a time.

The GPU variant (mixed decoding, cutting on the GPU) can be defined and serialized anywhere; it was never run.
"""
# mypy: disable-error-code="attr-defined"
# (DALI makes its operators and type names when it is imported; its stubs know only some of them.)

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline as Pipeline
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from pipelines.sources.options import DaliOptions, Resources
from pipelines.views import EvaluationView, TrainingViews

Inputs = tuple[list[NDArray[np.uint8]] | NDArray[np.generic], ...]
"""One group as ``graph`` takes it: encoded images [bytes], index [n]; where DALI cuts, then v arrays each of crop
corner [n, 2], crop extent [n, 2], resized [n, 2], window [n, 2] and flip [n]."""


def build(
    feed: Callable[[], Inputs],
    views: TrainingViews | EvaluationView,
    largest: int,
    resources: Resources,
    options: DaliOptions,
) -> Pipeline:
    """Returns the pipeline that runs ``graph`` on groups of at most ``largest`` samples.

    It has a GPU where DALI cuts on one. Where none of it runs there, no memory of the GPU's is taken.
    """
    evaluates = isinstance(views, EvaluationView)
    on_gpu = resources.on_gpu and options.dali_cuts(evaluates, on_gpu=True)
    few = options.gpu_decodes(evaluates, resources.on_gpu)  # otherwise these threads decode
    pipeline = Pipeline(
        batch_size=largest,
        num_threads=min(options.threads, resources.threads) if few else resources.threads,
        device_id=_device_id(resources) if on_gpu else None,
        prefetch_queue_depth=options.prefetch if on_gpu else resources.prefetch,
    )
    with pipeline:
        pipeline.set_outputs(*graph(feed, views, resources, options))
    return pipeline


def graph(
    feed: Callable[[], Inputs], views: TrainingViews | EvaluationView, resources: Resources, options: DaliOptions
) -> tuple[DataNode, ...]:
    """Returns v views, each uint8 HWC on the source's device, and the index [n], of the groups that ``feed`` returns.

    Where DALI does not cut: the decoded images and the index.
    """
    evaluates = isinstance(views, EvaluationView)
    mixed = options.gpu_decodes(evaluates, resources.on_gpu)
    if not options.dali_cuts(evaluates, resources.on_gpu):
        encoded, index = fn.external_source(
            feed, num_outputs=2, batch=True, dtype=[types.UINT8, types.INT64], ndim=[1, 0]
        )
        return _decode_on_cpu(encoded), index
    v = views.count
    encoded, index, *cuts = fn.external_source(
        feed,
        num_outputs=2 + 5 * v,
        batch=True,
        dtype=[types.UINT8, types.INT64, *2 * v * [types.INT32], *v * [types.FLOAT], *2 * v * [types.INT32]],
        ndim=[1, 0, *4 * v * [1], *v * [0]],
    )
    image = _decode_on_gpu(encoded, options) if mixed else _decode_on_cpu(encoded)  # once, for all views
    if resources.on_gpu and not mixed:
        image = image.gpu()
    finished = []
    for corner, extent, resized, window, flip in zip(*(cuts[k * v : (k + 1) * v] for k in range(5)), strict=True):
        cut = fn.slice(image, start=corner, shape=extent, axes=(0, 1))
        scaled: Any = fn.resize(cut, size=resized, interp_type=types.INTERP_LINEAR, antialias=True, dtype=types.UINT8)
        upright = fn.slice(scaled, start=window, shape=(views.size, views.size), axes=(0, 1))
        finished.append(fn.flip(upright, horizontal=flip))
    return *finished, index


def _decode_on_cpu(encoded: DataNode) -> DataNode:
    """Returns RGB, byte for byte as Pillow decodes it: the accurate inverse DCT, smooth chroma, no EXIF rotation."""
    return fn.decoders.image(encoded, device="cpu", output_type=types.RGB, adjust_orientation=False)


def _decode_on_gpu(encoded: DataNode, options: DaliOptions) -> DataNode:
    """Returns RGB as nvJPEG decodes it with smooth chroma, near Pillow's but not its bytes."""
    return fn.decoders.image(
        encoded,
        device="mixed",
        output_type=types.RGB,
        adjust_orientation=False,
        jpeg_fancy_upsampling=True,
        hw_decoder_load=options.hw_decoder_load,
        device_memory_padding=options.preallocate_mb << 20,
        host_memory_padding=options.preallocate_mb << 19,  # DALI allocates two of these per thread
    )


def _device_id(resources: Resources) -> int:
    """Returns the number of the GPU that DALI is to work on."""
    number = torch.device(resources.device).index
    return torch.cuda.current_device() if number is None else number
