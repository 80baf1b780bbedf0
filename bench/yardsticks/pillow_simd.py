"""Pillow-SIMD's crop and resize, in a process of its own: its module has Pillow's name, so one process has one of them.

``python -m bench.yardsticks.pillow_simd CROPS SIZE`` with Pillow-SIMD's folder first on PYTHONPATH is that process:
for each line that it reads it cuts every crop of the .npz once, and answers. Asked for "pixels", it writes them, too.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.resize.kernels import Crop
from pipelines.errors import DataError
from pipelines.names import readable

_ROOT = Path(__file__).parents[2]


class PillowSimd:
    """The process; ``folder`` is where pip install --target put Pillow-SIMD."""

    def __init__(self, folder: Path, crops: Sequence[Crop], size: int) -> None:
        version(folder)
        self._folder = tempfile.TemporaryDirectory(prefix="debiaspl-")
        self._crops = Path(self._folder.name, "crops.npz")
        images = {id(crop.image): crop.image for crop in crops}
        place = {key: at for at, key in enumerate(images)}
        named: dict[str, Any] = {f"image{at}": image for at, image in enumerate(images.values())}
        np.savez(self._crops, boxes=np.array([(place[id(crop.image)], *crop.box) for crop in crops]), **named)
        path = os.pathsep.join([str(folder.resolve()), str(_ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.yardsticks.pillow_simd", str(self._crops), str(size)],
            env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def every(self) -> int:
        """Cuts every crop once and returns how many there are."""
        return self._ask("again")

    def pixels(self) -> NDArray[np.uint8]:
        """Returns the pictures, uint8 [n, size, size, 3]."""
        self._ask("pixels")
        return np.load(_pictures(self._crops))

    def close(self) -> None:
        """Ends the process and removes its files."""
        self._process.communicate()  # closes its input, which ends it
        self._folder.cleanup()

    def _ask(self, what: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(what, file=self._process.stdin)
            return int(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise DataError("Pillow-SIMD's process ended: its error is above.") from error


def version(folder: Path) -> str:
    """Returns the version of the Pillow-SIMD in ``folder``. Raises DataError where there is none."""
    installed = [path.stem.split("-")[1] for path in folder.glob("*.dist-info") if "simd" in path.name.lower()]
    if not installed or not (folder / "PIL").is_dir():
        raise DataError(
            f"There is no Pillow-SIMD in {readable(folder)}. Run: pip install --no-deps --target "
            f"{readable(folder)} pillow-simd"
        )
    return installed[0]


def _pictures(crops: Path) -> Path:
    return crops.with_name("pictures.npy")


def main() -> None:
    """Serves the requests that come in on standard input, until it ends."""
    from PIL import Image  # Pillow-SIMD's

    crops, size = Path(sys.argv[1]), int(sys.argv[2])
    with np.load(crops) as found:
        boxes: list[list[int]] = found["boxes"].tolist()
        pictures = [Image.fromarray(found[f"image{at}"]) for at in range(len(found) - 1)]

    def cut(at: int, left: int, top: int, right: int, bottom: int) -> Image.Image:
        return pictures[at].crop((left, top, right, bottom)).resize((size, size), Image.Resampling.BILINEAR)

    for line in sys.stdin:
        if line.strip() == "pixels":
            np.save(_pictures(crops), np.stack([np.asarray(cut(*box)) for box in boxes]))
        else:
            for box in boxes:
                cut(*box)
        print(len(boxes), flush=True)


if __name__ == "__main__":
    main()
