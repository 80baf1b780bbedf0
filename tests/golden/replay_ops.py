"""Replays files of augmented pictures through the executors: python tests/golden/replay_ops.py FILE…

Prints for each file, executor and operation how many bytes differ, and exits with 1 if any do. The format is that of
randaugment_ops.npz, described in tests/golden/README.md; a file may hold some of the operations, levels and signs.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.augment import pillow
from pipelines.augment.ops import LEVELS, Op

Executor = Callable[[Op, int, NDArray[np.uint8]], NDArray[np.uint8]]
"""(operation, signed level, pictures uint8 [n, h, w, 3]) → pictures of the same shape."""


def by_pillow(op: Op, level: int, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(pillow.apply(op, level, Image.fromarray(image))) for image in images])


def executors() -> dict[str, Executor]:
    """By name, those that can be imported here."""
    found: dict[str, Executor] = {"pillow": by_pillow}
    try:
        from pipelines.augment.cpu import augment_batch
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "pipelines.augment.cpu"):
            raise
        print(f"The executor cpu is left out: {error}")
        return found

    def by_cpu(op: Op, level: int, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        views, each = images[None].copy(), (1, len(images), 1)
        augment_batch(views, np.full(each, op, np.uint8), np.full(each, level, np.int8), threads=1)
        return views[0]

    return {**found, "cpu": by_cpu}


def parsed(key: str) -> tuple[Op, int]:
    """ "Rotate.v3.neg" → (Op.Rotate, -3)."""
    name, level, sign = key.split(".")
    number = int(level.removeprefix("v"))
    if name not in Op.__members__ or not 1 <= number <= LEVELS or sign not in ("pos", "neg"):
        raise ValueError(f"{key!r} is no <Operation>.v<1..{LEVELS}>.<pos|neg>.")
    return Op[name], number if sign == "pos" else -number


def replay(path: Path, executor: Executor) -> Counter[Op]:
    """Differing bytes of each operation in the file; a picture of another shape or type differs in all of them."""
    with np.load(path) as file:
        published = {key: file[key] for key in file.files}
    images = published.pop("images")
    if not published:
        raise ValueError(f"{path} holds no augmented pictures.")
    wrong: Counter[Op] = Counter()
    for key, expected in published.items():
        op, level = parsed(key)
        actual = executor(op, level, images)
        alike = actual.shape == expected.shape and actual.dtype == expected.dtype
        wrong[op] += int((actual != expected).sum()) if alike else max(actual.size, expected.size)
    return wrong


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    total = 0
    found = executors()
    for path in parser.parse_args(arguments).files:
        for name, executor in found.items():
            wrong = replay(path, executor)
            for op in sorted(wrong):
                print(f"{path.name}: {name}: {op.name}: {wrong[op]} bytes differ")
            total += wrong.total()
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
