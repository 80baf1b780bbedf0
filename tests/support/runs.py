"""Small runs of the demo's recipe: their arguments, what they log, and the comparison of two checkpoints."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import torch

from debiaspl.about import About
from debiaspl.checkpoint import Progress, capture
from debiaspl.checkpoint_file import packed, read
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.overrides import override
from debiaspl.recipes import find
from debiaspl.step import State

SMALL = ["science.epochs=2", "science.warmup_epochs=1", "engine.threads=2", "science.dropout=0.3"]
SMALL += ["science.mu=2", "engine.reports=0"]
"""What makes the demo's recipe quick: few epochs of small steps, and no report, which takes as long as an epoch."""


def small_recipe(data: Path, *more: str) -> Recipe:
    return override(find("demo"), [f"engine.data={data}", "engine.pipeline=torchvision", *SMALL, *more])


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    sets = [word for assignment in SMALL for word in ("--set", assignment)]
    return ["--recipe", "demo", "--pipeline", "torchvision", "--data", str(data), "--out", str(out), *sets, *more]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=900)


def assert_same_bits(mine: Path, theirs: Path) -> None:
    """Everything that two checkpoints hold is equal, bit for bit."""
    a, b = read(mine), read(theirs)
    assert a["progress"] == b["progress"]
    for part in ("student", "teacher"):
        for name, value in a[part].items():
            assert torch.equal(value, b[part][name]), name
    for number, slot in a["optimizer"]["state"].items():
        assert torch.equal(slot["momentum_buffer"], b["optimizer"]["state"][number]["momentum_buffer"])
    assert torch.equal(a["phat"], b["phat"])
    assert torch.equal(a["pseudo_labels"], b["pseudo_labels"])


ABOUT = About(list("0123456789"), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 16, 16, [2] * 10)
"""What a checkpoint of the demo's recipe says of itself."""


def save(path: Path, state: State, progress: Progress, recipe: Recipe) -> None:
    """Writes a checkpoint of one rank, on a split called 'split'."""
    path.write_bytes(packed(capture(state, progress, recipe, "split", ABOUT, Ranks())))


def without_speed(metrics: Path) -> list[dict]:
    """The records without what differs between two equal runs: speed, time and the checksum over both."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("speed/") and k not in ("time", "crc32")} for row in rows]


REPORTS = ("--set", "engine.reports=10")
"""Asks for the picture and the report all the same."""
STEPS = 3
"""Of an epoch on the data of ``with_few_steps``."""


def with_few_steps(data: Path, copy: Path, steps: int = STEPS) -> Path:
    """Copies the demo's data with so few unlabeled images that an epoch has ``steps`` steps; returns the copy."""
    shutil.copytree(data, copy)
    csv = copy / "indexes/unlabeled.csv"
    science = small_recipe(data).science
    rows = steps * science.labeled_batch * science.mu
    csv.write_text("\n".join(csv.read_text().splitlines()[: 1 + rows]) + "\n")
    return copy


def quick(data: Path, out: Path, *more: str, epochs: int = 1) -> list[str]:
    """The arguments of a run of few steps, with small batches of its evaluation."""
    sets = (f"science.epochs={epochs}", "science.warmup_epochs=0")
    sets += ("engine.threads=1", "engine.eval_batch=20")
    return arguments(data, out, *(word for assignment in sets for word in ("--set", assignment)), *more)
