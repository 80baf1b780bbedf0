"""The CPU executor gives Pillow's bytes: every operation, random resizes, whole plans, any number of threads."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.augment import cpu, ops, pillow, policy, randaugment, resize
from pipelines.augment.operation_tables import operation_tables
from pipelines.augment.ops import Op
from pipelines.order import Draws, Stream
from pipelines.views import EvaluationView, TrainingViews

GOLDEN = Path(__file__).parents[2] / "golden" / "randaugment_ops.npz"
LEVELS = (*range(-ops.LEVELS, 0), *range(1, ops.LEVELS + 1))
SIDES = ((20, 24), (32, 32), (33, 17), (64, 64), (97, 97), (3, 2), (1, 1))


def noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def photograph(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth, with a little noise, not using all values: what AutoContrast and Equalize are for."""
    smooth = Image.fromarray(noise(rng, 6, 6)).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(smooth) * 0.6 + rng.normal(30, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def flat(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    return np.broadcast_to(noise(rng, 1, 1), (height, width, 3)).copy()


def augmented(image: NDArray[np.uint8], op: Op, level: int) -> NDArray[np.uint8]:
    view = image.copy()
    table = operation_tables(*image.shape[:2])
    randaugment.augment(view, np.array([op], np.uint8), np.array([level], np.int8), table, np.empty_like(view))
    return view


def random_plan(
    views: TrainingViews | EvaluationView, images: list[NDArray[np.uint8]], stream: Stream = Stream.UNLABELED
) -> policy.Plan:
    n = len(images)
    heights, widths = np.array([image.shape[:2] for image in images], np.int32).T
    draws = Draws(np.arange(n), np.zeros(n, np.int64), seed=3, stream=stream)
    return policy.plan(views, draws, heights, widths)


@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_operations_equal_pillow(op: Op) -> None:
    rng = np.random.default_rng(int(op))
    for sides in SIDES:
        for picture in (noise, photograph, flat):
            image = picture(rng, *sides)
            for level in LEVELS:
                expected = np.asarray(pillow.apply(op, level, Image.fromarray(image)))
                actual = augmented(image, op, level)
                np.testing.assert_array_equal(actual, expected, f"{op.name} {level=} {sides=} {picture.__name__}")


@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_operations_equal_golden(op: Op) -> None:
    golden = np.load(GOLDEN)
    for level in LEVELS:
        expected = golden[f"{op.name}.v{abs(level)}.{'pos' if level > 0 else 'neg'}"]
        for image, wanted in zip(golden["images"], expected, strict=True):
            np.testing.assert_array_equal(augmented(image, op, level), wanted, f"{op.name} {level=}")


def test_operations_at_full_size_change_pixels() -> None:
    """Equality above could hold for a kernel that does nothing only if Pillow did nothing: check that it does."""
    image = photograph(np.random.default_rng(0), 224, 224)
    for op in Op:
        actual = augmented(image, op, 9)
        np.testing.assert_array_equal(actual, np.asarray(pillow.apply(op, 9, Image.fromarray(image))), op.name)
        assert (actual == image).all() == (op == Op.Identity), op.name


def test_sharpness_rounds_every_sum() -> None:
    """The product in place of the division by 26, over all sums of 13 values."""
    total = np.arange(13 * 255 + 1)
    np.testing.assert_array_equal((2 * total + 13) * 10083 >> 18, (2 * total + 13) // 26)


def test_affine_span_equals_its_definition() -> None:
    """Where a row of the source begins and ends, to the pixel: one more would be read outside the picture."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        limit, count = (int(side) for side in rng.integers(1, 40, 2))
        step = int(rng.choice([0, 1 << 14, 1 << 16, -(1 << 15), rng.integers(-80_000, 80_000)]))
        start = int(rng.integers(-limit, 2 * limit)) << 16
        inside = [x for x in range(count) if 0 <= start + step * x < limit << 16]
        begin, end = randaugment._inside(start, step, limit, count)
        assert list(range(begin, end)) == inside, (start, step, limit, count)


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_order_of_passes_turns_where_pillows_does(excess: int) -> None:
    """height - resized height at, just below and just above twice width - resized width, square or not."""
    rng = np.random.default_rng(6)
    for _ in range(40):
        resized_h, resized_w = (int(side) for side in rng.integers(8, 80, 2))
        width = resized_w + int(rng.integers(1, 60))
        height = resized_h + 2 * (width - resized_w) + excess
        size = min(resized_h, resized_w)
        image, out = noise(rng, height, width), np.empty((size, size, 3), np.uint8)
        crop, sides, window = (
            np.array(part, np.int32) for part in ((0, 0, height, width), (resized_h, resized_w), (0, 0))
        )
        scratch = np.empty(resize.scratch_bytes(crop, size), np.uint8)
        resize.resize_into(image, crop, sides, window, False, scratch, out)
        wanted = Image.fromarray(image).resize((resized_w, resized_h), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(out, np.asarray(wanted)[:size, :size], f"{height=} {width=} {sides=}")


def random_resize(
    rng: np.random.Generator, number: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """(image sides), (crop top, left, height, width), (resized height, width), size: up, down, along borders."""
    height, width = rng.integers(1, 400, 2)
    size = int(rng.integers(8, 225))
    crop_h, crop_w = rng.integers(1, height + 1), rng.integers(1, width + 1)
    if number % 4 == 0:
        crop_h, crop_w = height, width
    if number % 5 == 0:  # one pass, or both, with nothing to do
        height, crop_h = max(height, size), size
        crop_w, width = (size, max(width, size)) if number % 2 else (crop_w, width)
    top, left = rng.integers(0, height - crop_h + 1), rng.integers(0, width - crop_w + 1)
    if number % 3 == 0:  # touch the image's end: nothing may be read behind it
        top, left = height - crop_h, width - crop_w
    resized_h, resized_w = size + rng.integers(0, 60, 2) * (number % 2)
    box = (int(top), int(left), int(crop_h), int(crop_w))
    return (int(height), int(width)), box, (int(resized_h), int(resized_w)), size


@pytest.mark.parametrize("seed", range(4))
def test_resize_equals_pillow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number in range(100):
        sides, box, resized, size = random_resize(rng, number)
        image, mirror = noise(rng, *sides), bool(rng.integers(2))
        window = tuple(int(rng.integers(0, side - size + 1)) for side in resized)
        crop = np.array(box, np.int32)
        out, scratch = np.empty((size, size, 3), np.uint8), np.empty(resize.scratch_bytes(crop, size), np.uint8)
        resize.resize_into(image, crop, np.array(resized, np.int32), np.array(window, np.int32), mirror, scratch, out)

        (top, left, height, width), (down, right) = box, window
        wanted = Image.fromarray(image).crop((left, top, left + width, top + height))
        wanted = wanted.resize(resized[::-1], Image.Resampling.BILINEAR)
        wanted = wanted.crop((right, down, right + size, down + size))
        wanted = wanted.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else wanted
        np.testing.assert_array_equal(out, np.asarray(wanted), f"{sides=} {box=} {resized=} {window=} {mirror=}")


def test_resize_stays_within_its_memory() -> None:
    """Guard bytes around image, scratch and output survive, and do not show in the result."""
    rng = np.random.default_rng(5)
    for number in range(60):
        (height, width), box, resized, size = random_resize(rng, number)
        crop, sides, window = np.array(box, np.int32), np.array(resized, np.int32), np.zeros(2, np.int32)
        need, inside = resize.scratch_bytes(crop, size), slice(64, -64)
        pixels = noise(rng, height, width)
        results = []
        for guard in (0, 255):
            memory = [np.full(n + 128, guard, np.uint8) for n in (pixels.size, need, 3 * size * size)]
            memory[0][inside] = pixels.reshape(-1)
            image, out = memory[0][inside].reshape(height, width, 3), memory[2][inside].reshape(size, size, 3)
            resize.resize_into(image, crop, sides, window, False, memory[1][inside], out)
            for block in memory:
                assert (np.delete(block, np.arange(64, block.size - 64)) == guard).all(), (box, resized, size)
            results.append(out)
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "views",
    [
        TrainingViews(size=224, weak=2, strong=2),
        TrainingViews(size=33, weak=0, strong=4, scale=(0.01, 1.0)),
        TrainingViews(size=96, weak=1, flip=False),
        EvaluationView(),
        EvaluationView(size=32, resize=37),
    ],
    ids=repr,
)
def test_plans_equal_pillow(views: TrainingViews | EvaluationView) -> None:
    rng = np.random.default_rng(11)
    images = [photograph(rng, *sides) for sides in ((375, 500), (500, 333), (224, 224), (60, 301), (31, 40))] * 4
    plan = random_plan(views, images)
    for sample, image in enumerate(images):
        actual = cpu.execute(image, plan, sample)
        np.testing.assert_array_equal(actual, pillow.execute(Image.fromarray(image), plan, sample), f"{sample=}")


def test_many_images_equal_single_ones_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(12)
    images = [photograph(rng, *rng.integers(20, 200, 2)) for _ in range(9)]
    plan = random_plan(TrainingViews(size=48, weak=1, strong=2), images)
    expected = np.stack([cpu.execute(image, plan, sample) for sample, image in enumerate(images)], axis=1)
    for threads in (1, 2, 3, 16):
        out = np.zeros((3, len(images), 48, 48, 3), np.uint8)
        cpu.execute_each(images, plan, threads, out)
        np.testing.assert_array_equal(out, expected, f"{threads=}")


def test_batches_equal_pillow_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(13)
    v, n, side = 2, 20, 40
    pixels = np.stack([photograph(rng, side, side) for _ in range(v * n)]).reshape(v, n, side, side, 3)
    op = rng.integers(0, len(Op), (v, n, 2)).astype(np.uint8)
    level = (rng.integers(1, 10, (v, n, 2)) * rng.choice([-1, 1], (v, n, 2))).astype(np.int8)
    expected = np.empty_like(pixels)
    for at in np.ndindex(v, n):
        view = Image.fromarray(pixels[at])
        for one, by in zip(op[at].tolist(), level[at].tolist(), strict=True):
            view = pillow.apply(Op(one), by, view)
        expected[at] = np.asarray(view)
    for threads in (1, 2, 5):
        actual = pixels.copy()
        cpu.augment_batch(actual, op, level, threads)
        np.testing.assert_array_equal(actual, expected, f"{threads=}")


def test_batches_must_be_contiguous() -> None:
    every_other = np.zeros((1, 4, 8, 8, 3), np.uint8)[:, ::2]
    with pytest.raises(ValueError, match="C-contiguous"):
        cpu.augment_batch(every_other, np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2), np.int8), threads=1)
