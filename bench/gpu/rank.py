"""One rank of T7: python -m torch.distributed.run … -m bench.gpu.rank FOLDER DEVICE PIPELINE TRAIN STEPS GROUPS.

Trains a small net over pictures of which one is truncated. Every rank leaves FOLDER/WORLD-RANK.json: the first step's
loss over all ranks, whether all hold the same state, and the GPUs on which the driver sees this process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from bench.gpu import workload
from bench.gpu.sources import run_data
from debiaspl import distributed
from debiaspl.distributed import Ranks
from pipelines import list_images

_LOOK = 5
"""Batches after which the driver is asked."""
_GROUP, _MU = 4, 2


def main(words: Sequence[str]) -> None:
    """Trains, and writes what was found."""
    folder, device, pipeline, train, steps, groups = words
    ranks = distributed.join(device)
    try:
        found = _train(ranks, pipeline, Path(train), int(steps), int(groups))
        Path(folder, f"{ranks.world}-{ranks.rank}.json").write_text(json.dumps(found), encoding="utf-8")
    finally:
        distributed.leave()


def _train(ranks: Ranks, pipeline: str, train: Path, steps: int, groups: int) -> dict[str, object]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    base = workload.science("resnet8-small", 32, _GROUP, _MU)
    science = replace(base, labeled_batch=groups * _GROUP, compat="paper")
    learner = workload.learner(science, ranks.device.type, "float32", "eager", ranks)
    losses, gpus = list[float](), list[str]()
    data = run_data(pipeline, list_images(train, on_bad="keep"), science, ranks, steps)
    with closing(data.feed) as feed:
        batches = iter(feed)
        for number in range(steps):
            metrics = learner.step(list(islice(batches, science.accumulation(ranks.world))), number)
            if number == 0:
                losses = (ranks.sum_(metrics.clone()) / ranks.world).tolist()
            if number + 1 == min(_LOOK, steps) and ranks.device.type == "cuda":
                gpus = seen_on()
    shared = {name: value for name, value in workload.tensors(learner.state).items() if value.is_floating_point()}
    del shared["pseudo_labels"]  # each rank counts its own
    unequal = [name for name, value in shared.items() if ranks.any(not _agrees(ranks, value))]
    return {"losses": losses, "unequal": unequal, "bad files": data.new_bad_files(), "gpus": gpus}


def _agrees(ranks: Ranks, value: torch.Tensor) -> bool:
    """Says whether this rank holds the bits of the mean over all ranks."""
    return torch.equal(ranks.sum_(value.clone()) / ranks.world, value)


def seen_on() -> list[str]:
    """Returns the numbers of the GPUs on which the driver sees this process; empty where it sees none of its own."""
    # Never run on a GPU so far.
    command = ["nvidia-smi", "--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    uuids = {f"GPU-{torch.cuda.get_device_properties(n).uuid}": str(n) for n in range(torch.cuda.device_count())}
    rows = (row.split(", ") for row in said.splitlines() if ", " in row)
    return [uuids.get(uuid, uuid) for pid, uuid in rows if pid == str(os.getpid())]


if __name__ == "__main__":
    main(sys.argv[1:])
