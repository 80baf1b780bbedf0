"""The device executor, compiled or on a GPU, gives the reference's bytes: run as a process of its own by test_gpu.py.

python -m tests.support.compiled_augment off|fast|cuda-eager|cuda-compiled
"""

import sys

import numpy as np
import torch
from torch._inductor import config as inductor

from pipelines.augment import gpu
from tests.support.augmented import assert_equal, by_cpu, by_pillow, every_draw, pictures, random_draws


def on_cpu(contract: str) -> None:
    """Compares compiled code, with or without fused roundings, with Pillow."""
    op, level = every_draw(copies=3)
    images = pictures(np.random.default_rng(4), len(op), 33, 40)
    with inductor.patch({"cpp.enable_floating_point_contract_flag": contract}):
        compiled = torch.compile(gpu.apply, fullgraph=True, dynamic=False)
        actual = compiled(torch.from_numpy(images), gpu.parameters(op, level, 33, 40))
    assert_equal(actual, by_pillow(images, op, level), op, level)


def on_cuda(compiled: bool) -> None:
    """Compares a GPU's bytes with the CPU executor's, and raises where the host waits for the device."""
    op, level = every_draw(copies=3)
    more_op, more_level = random_draws(np.random.default_rng(7), 200)
    op, level = np.concatenate([op, more_op]), np.concatenate([level, more_level])
    images = pictures(np.random.default_rng(8), len(op), 64, 72)
    device = torch.device("cuda")
    run = torch.compile(gpu.apply, fullgraph=True, dynamic=False) if compiled else gpu.apply
    pixels = torch.from_numpy(images).to(device)
    run(pixels, gpu.upload(gpu.parameters(op, level, 64, 72), device))  # compiling may wait for the device
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = run(pixels, gpu.upload(gpu.parameters(op, level, 64, 72), device))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_equal(actual, by_cpu(images, op, level), op, level)


if __name__ == "__main__":
    which = sys.argv[1]
    if which.startswith("cuda"):
        on_cuda(which == "cuda-compiled")
    else:
        on_cpu(which)
