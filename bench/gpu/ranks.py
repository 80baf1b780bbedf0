"""T7: two ranks under torchrun: no context on a neighbour's GPU, one state, damage and signals that hang nobody.

On GPUs through NCCL; without them two gloo ranks on the CPU.
"""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from bench.gpu import pictures, sources
from bench.gpu.findings import NEEDS_GPU, Findings, Settings
from pipelines import list_images

CONTEXT, SAME, LOSS, BAD, SIGNAL = (
    "rank 1 opens no context on GPU 0",
    "all ranks hold the same parameters, teacher and p̂",
    "step 1's loss is that of one rank",
    "a bad file on one rank hangs nobody",
    "SIGINT leaves a loadable checkpoint",
)
WORLD = 2
_APART = 1e-4
"""Relative difference of step 1's loss: ranks and one process sum the groups in another order."""
_PATIENCE = 90.0
"""Seconds for one start of torchrun."""
_TRAINER_NEEDS = ("pydantic", "rich", "tensorboard", "tqdm", "matplotlib")


def run(findings: Findings, settings: Settings) -> None:
    """Trains on two ranks and on one, compares them, then interrupts a run of the trainer."""
    device = settings.device
    if device == "cuda" and torch.cuda.device_count() < WORLD:
        findings.not_run("needs two GPUs", (CONTEXT, SAME, LOSS, BAD, SIGNAL))
        return
    if settings.quick and device == "cpu":
        findings.not_run("left out of a quick run", (CONTEXT, SAME, LOSS, BAD, SIGNAL))
        return
    _compare(findings, settings, device)
    _interrupt(findings, settings, device)


def _compare(findings: Findings, settings: Settings, device: str) -> None:
    pipeline = "torchvision" if sources.why_absent("dali") else "dali"
    steps = settings.count(30, 5)
    train = pictures.of_every_kind(settings.folder, settings.count(80, 16), truncated=1)
    words = ["-m", "bench.gpu.rank", str(settings.folder), device, pipeline, str(train), str(steps), str(WORLD)]
    begin = time.monotonic()
    failed = _torchrun(words, WORLD)
    took = f"{pipeline}, {device}, {steps} steps of {WORLD} ranks in {time.monotonic() - begin:.0f} s"
    findings.check(BAD, not failed, failed or took)
    if failed:
        return
    ranks: list[dict[str, Any]] = [
        json.loads((settings.folder / f"{WORLD}-{rank}.json").read_text(encoding="utf-8")) for rank in range(WORLD)
    ]
    bad = [len(rank["bad files"]) for rank in ranks]
    findings.number("bad files that each rank met", ", ".join(map(str, bad)))
    unequal = [name for rank in ranks for name in rank["unequal"]]
    findings.check(SAME, not unequal, f"unequal: {', '.join(unequal[:3]) or 'none'}; {took}")
    if device == "cpu":
        findings.not_run(NEEDS_GPU, [CONTEXT])
    elif not ranks[1]["gpus"]:
        findings.not_run("nvidia-smi does not show this process (another pid namespace)", [CONTEXT])
    else:
        findings.check(CONTEXT, "0" not in ranks[1]["gpus"], f"rank 1 is on GPU {', '.join(ranks[1]['gpus'])}")
    if failed := _torchrun(words, 1):
        findings.check(LOSS, False, f"one rank: {failed}")
        return
    alone = json.loads((settings.folder / "1-0.json").read_text(encoding="utf-8"))["losses"][0]
    together = ranks[0]["losses"][0]
    apart = abs(together - alone) / abs(alone)
    findings.check(LOSS, apart <= _APART, f"{together:.6f} and {alone:.6f}, apart by {apart:.1e}")


def _torchrun(words: list[str], ranks: int) -> str:
    """Starts so many ranks; returns why they failed, empty if they did not."""
    process = _start(words, ranks)
    try:
        said, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"not done after {_PATIENCE:.0f} s"
    return "" if process.returncode == 0 else " | ".join(said.strip().splitlines()[-6:])


def _start(words: list[str], ranks: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), *words]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _interrupt(findings: Findings, settings: Settings, device: str) -> None:
    """Interrupts a run of the trainer after its first steps, and loads what it left."""
    if missing := [name for name in _TRAINER_NEEDS if find_spec(name) is None]:
        findings.not_run(f"the trainer needs {', '.join(missing)}", [SIGNAL])
        return
    from debiaspl.checkpoint_file import CheckpointError, read

    out = settings.folder / "interrupted"
    process = _start(_trainer(settings, device, out), WORLD)
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline and not _has_trained(out):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        said, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        findings.check(SIGNAL, False, f"not ended {_PATIENCE:.0f} s after the signal")
        return
    try:
        step = read(out / "last.pt")["progress"]["step"]
    except (CheckpointError, OSError) as error:
        findings.check(SIGNAL, False, f"{error} | {' | '.join(said.strip().splitlines()[-4:])}")
        return
    findings.check(SIGNAL, step > 0, f"last.pt is of step {step}")


def _has_trained(out: Path) -> bool:
    return (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 0


def _trainer(settings: Settings, device: str, out: Path) -> list[str]:
    """Returns the words that train for long on the pictures; they stand for the validation images, too."""
    train = pictures.corpus(settings.folder, 160)
    data = train.parent
    if not (data / "val").exists():
        (data / "val").symlink_to(train)
    indices = list_images(train).indices.tolist()
    for name, chosen in (("labeled", indices[::10]), ("unlabeled", indices)):
        (data / f"{name}.csv").write_text("".join(f"{line}\n" for line in ("Index", *chosen)), encoding="utf-8")
    changed = {
        "science.arch": "resnet8-small",
        "science.size": 32,
        "science.eval_resize": 32,
        "science.labeled_batch": 8,
        "science.group": 4,
        "science.epochs": 5000,
        "engine.labeled_csv": "labeled.csv",
        "engine.unlabeled_csv": "unlabeled.csv",
        "engine.log_every": 1,
        "engine.device": device,
        "engine.compile": "off",
    }
    sets = [word for name, value in changed.items() for word in ("--set", f"{name}={value}")]
    run = ["--recipe", "imagenet-1p", "--pipeline", "torchvision", "--init", "", "--data", str(data), "--out", str(out)]
    return ["-m", "debiaspl.train", *run, *sets]
