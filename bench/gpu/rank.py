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
from bench.gpu.sources import resources
from debiaspl import distributed
from debiaspl.config import Science
from debiaspl.distributed import Ranks
from pipelines import Stream, TrainingOrder, TrainingViews, list_images, open_source
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing
from pipelines.sources.feed import Feed

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
    listing = list_images(train, on_bad="keep")
    bad_files = BadFiles(listing, 0.5)
    with closing(_feed(ranks, pipeline, listing, bad_files, science, steps)) as feed:
        batches = iter(feed)
        for number in range(steps):
            metrics = learner.step(list(islice(batches, science.accumulation(ranks.world))), number)
            if number == 0:
                losses = (ranks.sum_(metrics.clone()) / ranks.world).tolist()
            if number + 1 == min(_LOOK, steps) and ranks.device.type == "cuda":
                gpus = seen_on()
    tensors = workload.tensors(learner.state)
    unequal = [
        name for name, value in tensors.items()
        if name != "pseudo_labels" and ranks.any(not torch.equal(ranks.sum_(value.clone()) / ranks.world, value))
        and value.is_floating_point()
    ]  # fmt: skip
    return {"losses": losses, "unequal": unequal, "bad files": [*map(str, bad_files.known)], "gpus": gpus}


def _feed(ranks: Ranks, pipeline: str, listing: Listing, bad_files: BadFiles, science: Science, steps: int) -> Feed:
    """Returns this rank's share of the batches, of the labeled and the unlabeled stream."""

    def order(stream: Stream, images: int, continuous: bool) -> TrainingOrder:
        return TrainingOrder(
            listing.indices,
            seed=0,
            stream=stream,
            batch=images,
            groups=science.groups,
            steps=steps,
            continuous=continuous,
            rank=ranks.rank,
            world=ranks.world,
        )

    given = resources(pipeline, listing, str(ranks.device), bad_files)
    labeled = order(Stream.LABELED, science.labeled_batch, True)
    unlabeled = order(Stream.UNLABELED, science.labeled_batch * science.mu, False)
    return Feed(
        open_source(pipeline, listing, labeled, TrainingViews(size=science.size, weak=1), given),
        open_source(pipeline, listing, unlabeled, TrainingViews(size=science.size, weak=2, strong=2), given),
        prefetch=2,
    )


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
