"""The device executor gives Pillow's bytes: every operation, whole plans, compiled with and without fused rounding."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from pipelines.augment import gpu, ops
from pipelines.augment.ops import Op
from tests.support.augmented import LEVELS, assert_equal, by_cpu, by_pillow, every_draw, pictures, random_draws
from tests.support.devices import needs_gpu

GOLDEN = Path(__file__).parents[2] / "golden" / "randaugment_ops.npz"
SIDES = ((20, 24), (32, 32), (33, 17), (97, 97), (2, 5), (3, 3), (1, 1))


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_operations_equal_pillow(sides: tuple[int, int]) -> None:
    op, level = every_draw(copies=3 if max(sides) < 64 else 1)
    images = pictures(np.random.default_rng(0), len(op), *sides)
    for order in (slice(None), slice(None, None, -1)):  # as the first draw and as the second
        actual = gpu.augment_batch(torch.from_numpy(images), op[:, order], level[:, order])
        assert_equal(actual, by_pillow(images, op, level), op, level)


def test_operations_equal_golden() -> None:
    golden = np.load(GOLDEN)
    op, level = every_draw(copies=1)
    drawn = zip(op[:, 0].tolist(), level[:, 0].tolist(), strict=True)
    expected = np.stack([golden[f"{Op(one).name}.v{abs(by)}.{'pos' if by > 0 else 'neg'}"][0] for one, by in drawn])
    images = torch.from_numpy(golden["images"]).expand(len(op), -1, -1, -1)
    assert_equal(gpu.augment_batch(images, op, level), expected, op, level)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_autocontrast_equals_pillow_for_lowest_and_highest_values(every: int) -> None:
    """Which byte a whole number becomes is up to float64's last bit, and that up to the pair."""
    pairs = np.stack(np.triu_indices(256))[:, ::every]
    pairs = pairs[:, np.arange(-(-pairs.shape[1] // 3) * 3) % pairs.shape[1]].reshape(2, -1, 1, 1, 3)
    ramps = np.clip(np.arange(256, dtype=np.uint8)[:, None, None], *pairs.astype(np.uint8))  # [n, 256, 1, 3]
    op, level = np.full((len(ramps), 1), Op.AutoContrast, np.uint8), np.ones((len(ramps), 1), np.int8)
    assert_equal(gpu.augment_batch(torch.from_numpy(ramps), op, level), by_pillow(ramps, op, level), op, level)


@pytest.mark.parametrize("shape", [(50,), (2, 25)])
def test_plans_equal_the_cpu_executor(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    for sides in ((64, 64), (31, 45), (97, 60)):
        images = pictures(rng, 50, *sides).reshape(*shape, *sides, 3)
        op, level = random_draws(rng, *shape)
        before = images.copy()
        actual = gpu.augment_batch(torch.from_numpy(images), op, level)
        np.testing.assert_array_equal(images, before, "its argument changed")
        assert_equal(actual, by_cpu(images, op, level), op, level)


def test_full_size_equals_the_cpu_executor() -> None:
    rng = np.random.default_rng(3)
    images, (op, level) = pictures(rng, 20, 224, 224), random_draws(rng, 20)
    assert_equal(gpu.augment_batch(torch.from_numpy(images), op, level), by_cpu(images, op, level), op, level)


def test_halves_multiply_without_rounding() -> None:
    """Each product, exact in wider arithmetic, survives being stored; so only their sum rounds."""
    value = np.arange(-255, 256)
    for x in (np.float32([ops.value(Op.Color, level) for level in LEVELS]), 255.0 / np.arange(1, 256)):
        halves = gpu._halves(x)
        assert halves.dtype == x.dtype
        np.testing.assert_array_equal(halves.sum(-1), x)
        for product in (half * v for half in halves.reshape(-1).tolist() for v in (255, 254, 127, 3)):
            assert float(x.dtype.type(product)) == product
        np.testing.assert_array_equal(
            (halves[..., None] * value.astype(x.dtype)).sum(-2), x[:, None] * value.astype(x.dtype)
        )


def test_host_reads_nothing_of_the_device() -> None:
    """On pretended CUDA tensors there are no values to read: whatever reads one, or has a shape of its own, raises."""
    op, level = random_draws(np.random.default_rng(5), 8)
    host = gpu.parameters(op, level, 32, 32)
    with FakeTensorMode():
        pixels = torch.empty((8, 32, 32, 3), dtype=torch.uint8, device="cuda")
        there = gpu.Parameters(*(torch.empty(part.shape, dtype=part.dtype, device="cuda") for part in host))
        done = gpu.apply(pixels, there)
        assert (done.shape, done.dtype, done.device.type) == (pixels.shape, torch.uint8, "cuda")
        with pytest.raises(DataDependentOutputException):
            done.sum().item()


def test_sides_that_leave_int32_are_refused() -> None:
    op, level = random_draws(np.random.default_rng(6), 1)
    with pytest.raises(ValueError, match="at most 8192 pixels"):
        gpu.parameters(op, level, 32, 8193)


def run_compiled(which: str) -> str:
    """Runs tests/support/compiled_augment.py, whose output it returns: the tests' shape checks cannot be compiled."""
    command = [sys.executable, "-m", "tests.support.compiled_augment", which]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.soak
def test_a_compiled_draw_is_few_kernels_that_store_little_and_equals_pillow() -> None:
    """One graph, compiled for the CPU and run; for a GPU, its code is generated and counted."""
    found = json.loads(run_compiled("counted"))
    on_cpu, on_gpu = found["cpu"], found["cuda"]
    assert [name.split("_")[0] for name in on_cpu["launches"]] == ["cpp", "torch.ops.aten.cumsum", "cpp"]
    assert [name.split("_")[1] for name in on_gpu["launches"]] == ["poi", "poi", "per", "red", "per", "poi"]
    # The result, and for each view of 33 × 40 pixels three histograms and tables, and sums.
    small = 3 * 256 * (4 + 1) / (33 * 40 * 3)
    for where in (on_cpu, on_gpu):
        assert 1 + small < where["stored"] < 1 + small + 0.1


@pytest.mark.soak
def test_compiled_equals_pillow_for_all_sizes() -> None:
    run_compiled("swept")


@needs_gpu
@pytest.mark.parametrize("compiled", ["cuda-eager", "cuda-compiled"])
def test_cuda_equals_the_cpu_executor(compiled: str) -> None:
    run_compiled(compiled)
