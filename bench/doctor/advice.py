"""Which pipeline and settings follow from what was measured, why, and when a faster loader would not help."""

import shlex
from pathlib import Path
from typing import NamedTuple

from bench.arguments import STEP
from bench.doctor.ceilings import Ceilings
from bench.four_views import PLANES
from bench.plan.devices import DEVICES
from bench.report.contents import number
from pipelines import NAMES

STEP_FLOP = 2.79e12
"""Operations of ResNet-50's step on one group at 224 pixels, by a count (docs/gpu.md)."""
_CLEAR = 1.2
"""How many times as fast something must be to be worth a setting."""
_KEEPS_UP = 1.1
"""How many times the step's rate a loader must have for the step to be the limit."""
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "ceph", "9p")


class Advice(NamedTuple):
    """Holds what to run, and why."""

    command: str
    reasons: list[str]
    verdict: str
    """Whether a faster loader would help."""


def advise(recipe: str, data: Path | None, ceilings: Ceilings, gpus: tuple[str, ...], storage: str) -> Advice:
    """Returns the advice for a recipe on ``data``; ``gpus``: their names, ``storage``: the data's file system."""
    rates = ceilings.loaders
    step, known = step_rate(ceilings.flops, gpus)
    pipeline = max((name for name in rates if name in NAMES), key=lambda name: rates[name])
    words = ["python", "-m", "debiaspl.train", "--recipe", recipe, "--pipeline", pipeline]
    words += ["--data", shlex.quote(str(data))] if data else []
    others = "; ".join(f"{name}: {rate:,.0f}" for name, rate in rates.items() if name != pipeline)
    reasons = [f"--pipeline {pipeline}: the fastest here, {rates[pipeline]:,.0f} images/s ({others})."]
    if pipeline == "ffcv" and not (data and (data / "ffcv/train.beton").exists()):
        reasons.append(_convert(data, rates, step))
    wanted = _settings(ceilings.flops, bool(gpus), storage)
    for setting, reason in wanted.items():
        words += ["--set", setting]
        reasons.append(f"--set {setting}: {reason}.")
    if not wanted:
        reasons.append("No --set: threads, precision and prefetch that are chosen by themselves fit this machine.")
    return Advice(" ".join(words), reasons, _verdict(rates[pipeline], step, known, len(gpus)))


def step_rate(flops: dict[str, float], gpus: tuple[str, ...]) -> tuple[float, str]:
    """Returns the images per second that ResNet-50's step takes on all devices, and how that is known.

    NaN where it is not known. On a GPU it is that of the table of devices, on the CPU what follows from the small
    step's operations per second.
    """
    if not gpus:
        return STEP * max(flops.values()) / STEP_FLOP, "estimated from the small step's operations per second"
    found = [device for device in DEVICES.values() if device.name in gpus[0]]
    if not found:
        return float("nan"), ""
    return len(gpus) * STEP / found[-1].step_seconds, f"by {found[-1].source}"


def _convert(data: Path | None, rates: dict[str, float], step: float) -> str:
    mode = ""
    if rates.get(PLANES, 0) > _CLEAR * rates["ffcv"] and not step < rates["ffcv"] / _KEEPS_UP:
        mode = " --mode planes"
    where = shlex.quote(str(data)) if data else "dataset/imagenet"
    why = f" Planes: {rates[PLANES]:,.0f} images/s, for 2.75 times the bytes." if mode else ""
    return f"ffcv reads a converted file: first run python tools/convert_imagenet_to_ffcv.py --data {where}{mode}.{why}"


def _settings(flops: dict[str, float], on_gpu: bool, storage: str) -> dict[str, str]:
    """Returns settings that differ from the defaults, each with its reason."""
    wanted = {}
    gain = flops["bfloat16"] / flops["float32"]
    if not on_gpu and gain > _CLEAR:
        wanted["engine.precision=bfloat16"] = f"the small step is {gain:.1f} times as fast in it as in float32"
    if storage in _NETWORK:
        wanted["engine.prefetch=8"] = f"the data lies on {storage}, whose answers come unevenly"
    return wanted


def _verdict(loader: float, step: float, known: str, gpus: int) -> str:
    if step != step:
        return "How long a step takes on this GPU is not in the table: python -m bench train measures it."
    device = f"{gpus} GPUs" if gpus > 1 else "the GPU" if gpus else "the CPU"
    rates = (
        f"the loader makes {number(loader)} images/s, and ResNet-50's step on {device} takes {number(step)} ({known})"
    )
    if loader > _KEEPS_UP * step:
        return f"A faster loader would not help: {rates}."
    return (
        f"A faster loader would help: {rates}. More cores, or planes, make it faster; python -m bench plan says which."
    )
