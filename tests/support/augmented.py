"""Pictures and draws of RandAugment, and what Pillow and the CPU executor make of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.augment import cpu, ops, pillow
from pipelines.augment.ops import Op

LEVELS = (*range(-ops.LEVELS, 0), *range(1, ops.LEVELS + 1))


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
