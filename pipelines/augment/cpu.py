"""The fast executor of a plan on CPU cores: from decoded pixels to finished views, byte for byte what Pillow makes.

Shapes: image uint8 [H, W, 3] in C order; plan arrays [v, n, ...]; out uint8 [v, n, size, size, 3] in C order;
scratch uint8 [bytes], one per thread.

Every view is a function of its image and its plan alone: how many threads share the work cannot change a byte.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.augment.kernel import kernel
from pipelines.augment.operation_tables import OperationTables, operation_tables
from pipelines.augment.policy import Plan
from pipelines.augment.randaugment import augment
from pipelines.augment.resize import resize_into, scratch_bytes


def compiled(plan: Plan) -> Plan:
    """Returns ``plan`` with C-ordered arrays, the one layout for which the functions here get compiled."""
    arrays: dict[str, Any] = {
        name: np.ascontiguousarray(part) for name, part in plan._asdict().items() if name != "size"
    }
    return plan._replace(**arrays)


@kernel
def scratch_size(plan: Plan) -> int:
    """Returns the bytes of scratch that images of ``plan`` need: a picture between two passes, a finished view."""
    return scratch_bytes(plan.crop, plan.size) + 3 * plan.size * plan.size


@kernel
def execute_view(
    image: NDArray[np.uint8],
    plan: Plan,
    view: int,
    sample: int,
    tables: OperationTables,
    scratch: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """Writes one view of the plan's ``sample``-th image into out [size, size, 3]; its crop lies within the image."""
    crop, resized, window = plan.crop[view, sample], plan.resized[view, sample], plan.window[view, sample]
    finished = 3 * plan.size * plan.size
    resize_into(image, crop, resized, window, plan.flip[view, sample], scratch[finished:], out)
    spare = scratch[:finished].reshape(out.shape)
    augment(out, plan.op[view, sample], plan.level[view, sample], tables, spare)


@kernel
def execute_image(
    image: NDArray[np.uint8],
    plan: Plan,
    sample: int,
    tables: OperationTables,
    scratch: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """Writes all views of the plan's ``sample``-th image into out[:, sample]."""
    for view in range(plan.crop.shape[0]):
        execute_view(image, plan, view, sample, tables, scratch, out[view, sample])


@kernel
def _augment_every(
    pixels: NDArray[np.uint8],
    op: NDArray[np.uint8],
    level: NDArray[np.int8],
    tables: OperationTables,
    first: int,
    stride: int,
) -> None:
    """Does one thread's share of ``augment_batch``, over views first, first + stride, … of pixels [views, h, w, 3]."""
    spare = np.empty(pixels.shape[1:], np.uint8)
    for view in range(first, pixels.shape[0], stride):
        augment(pixels[view], op[view], level[view], tables, spare)


def execute(image: NDArray[np.uint8], plan: Plan, sample: int) -> NDArray[np.uint8]:
    """Returns the views [v, size, size, 3] of the ``sample``-th image [H, W, 3] of ``plan``, as ``pillow.execute``."""
    image, plan = np.array(image, order="C"), compiled(plan)  # writable and in C order, whatever it was
    out = np.empty((len(plan.crop), plan.size, plan.size, 3), np.uint8)
    scratch = np.empty(scratch_size(plan), np.uint8)
    for view, pixels in enumerate(out):
        execute_view(image, plan, view, sample, operation_tables(plan.size, plan.size), scratch, pixels)
    return out


def execute_each(images: Sequence[NDArray[np.uint8]], plan: Plan, threads: int, out: NDArray[np.uint8]) -> None:
    """Writes all views of n images, each [H, W, 3] in C order, into out [v, n, size, size, 3]."""
    plan, table = compiled(plan), operation_tables(plan.size, plan.size)

    def share(first: int) -> None:
        scratch = np.empty(scratch_size(plan), np.uint8)
        for sample in range(first, len(images), threads):
            execute_image(images[sample], plan, sample, table, scratch, out)

    _share_out(share, threads)


def augment_batch(pixels: NDArray[np.uint8], op: NDArray[np.uint8], level: NDArray[np.int8], threads: int) -> None:
    """Applies RandAugment op and level [v, n, k] to views [v, n, h, w, 3], cut and mirrored already, in place."""
    height, width = pixels.shape[2:4]
    if not pixels.flags.c_contiguous:
        raise ValueError(f"Views are changed in place and must be C-contiguous (got strides {pixels.strides}).")
    views = pixels.reshape(-1, height, width, 3)
    ops, levels = (np.ascontiguousarray(part).reshape(len(views), -1) for part in (op, level))
    table = operation_tables(height, width)
    _share_out(lambda first: _augment_every(views, ops, levels, table, first, threads), threads)


def _share_out(work: Callable[[int], None], threads: int) -> None:
    """Runs work(0) … work(threads - 1), each on a thread of its own.

    Plain threads and kernels that release the lock, not numba's parallel loops: their number is global state, and one
    of numba's thread pools ends the process when two Python threads (two sources) start loops at the same time.
    Starting the threads costs some 50 µs each, nothing against a batch.
    """
    if threads == 1:
        work(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
