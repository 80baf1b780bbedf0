"""``python -m bench`` on a machine that has torch, numba, Pillow and DALI alone: python -m tests.support.bare_bench ….

Whatever else is installed cannot be imported. torch.compile traces and runs the graphs as they are: making kernels of
them takes minutes on a busy machine.
"""

import functools
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

ABSENT = {
    *("beartype", "cv2", "faiss", "ffcv", "hypothesis", "jaxtyping", "matplotlib", "open_clip", "pandas", "psutil"),
    *("pydantic", "pydantic_core", "pytest", "rich", "safetensors", "scipy", "sklearn", "tensorboard", "timm"),
    *("torchvision", "tqdm"),
}


class WithoutAbsent:
    """The finder of installed packages, which finds none of ABSENT."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in ABSENT else PathFinder.find_spec(name, path, target)


if __name__ == "__main__":
    assert not ABSENT & sys.modules.keys()
    sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutAbsent

    from bench.__main__ import main

    if "--help" not in sys.argv:
        import torch

        torch.compile = functools.partial(torch.compile, backend="eager")
    sys.exit(main())
