"""The peak memory of the whole conversion command, Python and libraries included."""

import io
import subprocess
import sys
from pathlib import Path

from PIL import Image

from pipelines.errors import DataError
from pipelines.names import readable

_TOOL = Path(__file__).parents[2] / "tools" / "convert_imagenet_to_ffcv.py"
_OWN_PEAK = """
import pathlib, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    if ended.code:
        raise
print(next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
"""Runs a script and prints its peak. Not the kernel's ru_maxrss, which begins with that of the process that forked."""


def peak_memory(folder: Path, count: int) -> str:
    """Converts ``count`` small files below ``folder`` and returns the command's peak memory, such as '123 MiB'.

    Raises DataError where the command fails.
    """
    root = folder / f"small-{count}"
    image = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((48, 48)).save(image, "JPEG")
    for part in range(0, count, 1000):
        (root / "train" / f"{part:08}").mkdir(parents=True)
        for number in range(part, min(part + 1000, count)):
            (root / "train" / f"{part:08}" / f"{number:08}.JPEG").write_bytes(image.getvalue())
    arguments = ["--data", str(root), "--split", "train"]
    command = [sys.executable, "-c", _OWN_PEAK, str(_TOOL), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"{_TOOL.name} failed on {count} small files in {readable(root)}: {done.stderr[-300:]}")
    return f"{int(done.stdout.split()[-2]) / 1024:.0f} MiB"
