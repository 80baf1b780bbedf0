"""The device executor gives Pillow's bytes: every operation, whole plans, compiled with and without fused rounding."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch._inductor import config as inductor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from pipelines.augment import cpu, gpu, ops, pillow
from pipelines.augment.ops import Op

GOLDEN = Path(__file__).parents[2] / "golden" / "randaugment_ops.npz"
LEVELS = (*range(-ops.LEVELS, 0), *range(1, ops.LEVELS + 1))
SIDES = ((20, 24), (32, 32), (33, 17), (97, 97), (2, 5), (3, 3), (1, 1))


def pictures(rng: np.random.Generator, n: int, height: int, width: int) -> NDArray[np.uint8]:
    """Noise, pictures that are smooth and use some of the values only, flat ones, in turn."""
    made = rng.integers(0, 256, (n, height, width, 3)).astype(np.uint8)
    for image in made[1::3]:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        image[:] = np.clip(smooth * rng.uniform(0.1, 0.8) + rng.normal(rng.uniform(0, 150), 3, image.shape), 0, 255)
    made[2::3] = made[2::3, :1, :1]
    return made


def every_draw(copies: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """op and level [copies · 16 · 18, 2]: every operation at every signed level, then Identity."""
    op, level = (grid.reshape(-1) for grid in np.meshgrid(np.arange(len(Op)), LEVELS, indexing="ij"))
    then = np.full_like(op, Op.Identity), np.ones_like(level)
    pairs = np.stack([op, then[0]], axis=-1), np.stack([level, then[1]], axis=-1)
    return np.repeat(pairs[0], copies, axis=0).astype(np.uint8), np.repeat(pairs[1], copies, axis=0).astype(np.int8)


def random_draws(rng: np.random.Generator, *shape: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    op = rng.integers(0, len(Op), (*shape, ops.DRAWS_PER_VIEW)).astype(np.uint8)
    return op, rng.choice(np.array(LEVELS, np.int8), op.shape)


def by_pillow(images: NDArray[np.uint8], op: NDArray[np.uint8], level: NDArray[np.int8]) -> NDArray[np.uint8]:
    done = []
    for image, these, by in zip(images, op.tolist(), level.tolist(), strict=True):
        view = Image.fromarray(image)
        for one, at in zip(these, by, strict=True):
            view = pillow.apply(Op(one), at, view)
        done.append(np.asarray(view))
    return np.stack(done)


def by_cpu(images: NDArray[np.uint8], op: NDArray[np.uint8], level: NDArray[np.int8]) -> NDArray[np.uint8]:
    done = images.copy()
    views = (1,) * (5 - done.ndim)
    cpu.augment_batch(done.reshape(*views, *done.shape), op.reshape(*views, *op.shape), level, threads=2)
    return done


def assert_equal(actual: Tensor, expected: NDArray[np.uint8], op: NDArray[np.uint8], level: NDArray[np.int8]) -> None:
    assert actual.dtype == torch.uint8
    differs = (actual.cpu().numpy() != expected).any(axis=(-3, -2, -1))
    names = [[Op(one).name for one in these] for these in op[differs].tolist()]
    assert not differs.any(), list(zip(names, level[differs].tolist(), strict=True))


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_operations_equal_pillow(sides: tuple[int, int]) -> None:
    op, level = every_draw(copies=3)
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


def test_autocontrast_equals_pillow_for_every_lowest_and_highest_value() -> None:
    """Which byte a whole number becomes is up to float64's last bit, and that up to the pair."""
    pairs = np.stack(np.triu_indices(256))
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


@pytest.fixture
def _compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("contract", ["off", "fast"])
def test_compiled_equals_pillow(contract: str) -> None:
    """One graph; "fast" lets the compiler fuse a product and a sum into one rounding, as compilers for GPUs do."""
    op, level = every_draw(copies=3)
    images = pictures(np.random.default_rng(4), len(op), 33, 40)
    with inductor.patch({"cpp.enable_floating_point_contract_flag": contract}):
        compiled = torch.compile(gpu.apply, fullgraph=True, dynamic=False)
        actual = compiled(torch.from_numpy(images), gpu.parameters(op, level, 33, 40))
    assert_equal(actual, by_pillow(images, op, level), op, level)


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_cuda_equals_the_cpu_executor(compiled: bool) -> None:
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
