"""The device executor, compiled or on a GPU, gives the reference's bytes: run as a process of its own by test_gpu.py.

python -m tests.support.compiled_augment counted|swept|cuda-eager|cuda-compiled

``counted`` compiles one draw and prints, as JSON, what is stored and launched; ``swept`` compiles two for three sizes.
"""

import json
import sys
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._inductor import config as inductor
from torch._inductor.utils import run_and_get_code

from pipelines.augment import compiled, gpu
from tests.support.augmented import assert_equal, by_cpu, by_pillow, every_draw, pictures, random_draws
from tests.support.cuda_kernels import generated, launches, stored_bytes

CONTRACT = "cpp.enable_floating_point_contract_flag"
"""'fast' lets the compiler fuse a product and a sum into one rounding, as compilers for GPUs do; 'off' does not."""


def counted() -> None:
    """Compares a draw that was compiled in the background with Pillow; prints its kernels and stored bytes."""
    op, level = every_draw(copies=1)
    images = pictures(np.random.default_rng(4), len(op), 33, 40)
    pixels, parameters = torch.from_numpy(images), gpu.parameters(op[:, :1], level[:, :1], 33, 40)
    augmenter = compiled.Augmenter(compile=True)

    def compile_beside() -> None:
        augmenter(pixels.clone(), op[:, :1], level[:, :1])
        augmenter.close()  # waits for the compiler's thread

    with inductor.patch({CONTRACT: "fast", "force_disable_caches": True}), mock.patch.object(compiled, "UNCOMPILED", 1):
        _, (code,) = run_and_get_code(compile_beside)
    actual = pixels.clone()
    with torch.compiler.set_stance("fail_on_recompile"):  # on this thread, what the other one compiled
        augmenter(actual, op[:, :1], level[:, :1])
    assert augmenter._compiled is not gpu.apply
    assert_equal(actual, by_pillow(images, op, level), op, level)

    def apply(views: Tensor, *parts: Tensor) -> Tensor:
        return gpu.apply(views, gpu.Parameters(*parts))

    for_gpu = generated(apply, [pixels, *parameters], compiled.OPTIONS)
    found = {
        name: {"launches": launches(text), "stored": stored_bytes(text) / pixels.nbytes}
        for name, text in (("cpu", code), ("cuda", for_gpu))
    }
    print(json.dumps(found))


def swept() -> None:
    """Compares two compiled draws with Pillow, with and without fused roundings, for three sizes."""
    op, level = every_draw(copies=1)
    more_op, more_level = random_draws(np.random.default_rng(7), 100)
    op, level = np.concatenate([op, op[:, ::-1], more_op]), np.concatenate([level, level[:, ::-1], more_level])
    for side in (32, 96, 224):
        images = pictures(np.random.default_rng(8), len(op), side, side)
        expected = by_pillow(images, op, level)
        for contract in ("off", "fast"):
            with inductor.patch({CONTRACT: contract}):
                torch.compiler.reset()
                actual = compiled.in_few_kernels()(torch.from_numpy(images), gpu.parameters(op, level, side, side))
            assert_equal(actual, expected, op, level)


def on_cuda(compile: bool) -> None:
    """Compares a GPU's bytes with the CPU executor's, and raises where the host waits for the device."""
    op, level = every_draw(copies=3)
    more_op, more_level = random_draws(np.random.default_rng(7), 200)
    op, level = np.concatenate([op, more_op]), np.concatenate([level, more_level])
    images = pictures(np.random.default_rng(8), len(op), 64, 72)
    device = torch.device("cuda")
    run = compiled.in_few_kernels() if compile else gpu.apply
    pixels = torch.from_numpy(images).to(device)
    run(pixels, gpu.upload(gpu.parameters(op, level, 64, 72), device))  # compiling may wait for the device
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = run(pixels, gpu.upload(gpu.parameters(op, level, 64, 72), device))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_equal(actual, by_cpu(images, op, level), op, level)


if __name__ == "__main__":
    match sys.argv[1]:
        case "counted":
            counted()
        case "swept":
            swept()
        case which:
            on_cuda(which == "cuda-compiled")
