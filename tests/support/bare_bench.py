"""``python -m bench`` on a machine that has torch, numba, Pillow and DALI alone: python -m tests.support.bare_bench ….

Whatever else is installed cannot be imported. torch.compile traces and runs the graphs as they are: making kernels of
them takes minutes on a busy machine.
"""

import functools
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

ABSENT = {
    *("beartype", "cv2", "faiss", "ffcv", "hypothesis", "jaxtyping", "matplotlib", "open_clip", "pandas", "psutil"),
    *("pydantic", "pydantic_core", "pytest", "rich", "safetensors", "scipy", "sklearn", "tensorboard", "timm"),
    *("torchvision", "tqdm"),
}


class Absent:
    """A finder that finds none of ABSENT, and keeps others from finding them."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


if __name__ == "__main__":
    assert not ABSENT & sys.modules.keys()
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]

    from bench.__main__ import main

    if "--help" not in sys.argv:
        import torch

        torch.compile = functools.partial(torch.compile, backend="eager")
    sys.exit(main())
