"""Which device a run computes on, and in which precision, where its recipe leaves that open."""

import os
from pathlib import Path
from typing import Literal

import torch

from pipelines.errors import UserError, first_few

_ON_THE_CPU = "--set engine.device=cpu"


def find_device(wanted: str, *, devices: Path = Path("/dev"), processes: Path = Path("/proc")) -> str:
    """Returns 'cpu' or 'cuda' for 'auto', 'cpu' or 'cuda'.

    Raises UserError where a GPU is asked for and cannot be used; under 'auto' also where the machine has one, which
    torch cannot use: a run of days on the CPU is not what its user meant.
    """
    if wanted == "cpu" or torch.cuda.is_available():
        return "cpu" if wanted == "cpu" else "cuda"
    if wanted == "cuda":
        raise UserError(f"engine.device is 'cuda', but torch finds no usable GPU. Use {_ON_THE_CPU}")
    present = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    if present and not _hidden():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise UserError(
            f"This machine has a GPU ({first_few(present, 8)}) that torch cannot use: {_reason()}. The driver is "
            f"{_driver(processes)}; torch {torch.__version__} is built {built}. Install a driver and a torch that fit "
            f"each other, or train on the CPU with {_ON_THE_CPU}"
        )
    return "cpu"


def automatic_precision(device: torch.device) -> Literal["float32", "bfloat16", "float16"]:
    """Returns the precision for a device: bfloat16 on a GPU that computes in it, float16 on an older one, else float32.

    Before compute capability 8.0 bfloat16 is emulated, and cannot be compiled.
    """
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _hidden() -> bool:
    """Whether the user hides all GPUs from CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible is not None and visible.strip() in ("", "-1", "NoDevFiles")


def _reason() -> str:
    """Returns the first sentence of what torch says when CUDA is started."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        return str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    return "it finds none"


def _driver(processes: Path) -> str:
    """Returns the version of NVIDIA's kernel module."""
    try:
        line = (processes / "driver/nvidia/version").read_text().partition("\n")[0]
    except OSError:
        return "not loaded"
    return next((word for word in line.split() if word[0].isdigit() and "." in word), line)
