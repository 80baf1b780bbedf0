"""Two ranks under torchrun, as docs/scale.md starts them, of which one is killed; torchrun starts both again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.runs import arguments

LIMIT = 600.0
"""Seconds after which a run counts as hanging."""


def launch(data: Path, out: Path, *, kill_after: int | None = None) -> str:
    """Trains on two ranks until the end and returns what torchrun said.

    ``kill_after``: once metrics of that many steps are written, rank 1 gets SIGKILL.
    """
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["--max-restarts", "2", "-m", "debiaspl.train", *_launched(data, out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (out / "said.txt").open("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        try:
            if kill_after is not None:
                _wait_for_step(out / "metrics.jsonl", kill_after, process)
                os.kill(_child_of_rank(process.pid, 1), signal.SIGKILL)
            status = process.wait(LIMIT)
        finally:
            process.terminate()
            process.wait(60)
        said.seek(0)
        text = said.read()
    assert status == 0, text
    return text


def _launched(data: Path, out: Path) -> list[str]:
    """The arguments of each rank's run."""
    sets = ("engine.device=cpu", "engine.log_every=1", "engine.threads=1")
    return arguments(data, out, "--resume", "auto", *(word for each in sets for word in ("--set", each)))


def _wait_for_step(metrics: Path, step: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + LIMIT
    while not metrics.exists() or _last_step(metrics) < step:
        assert process.poll() is None, "the run ended before the kill"
        assert time.monotonic() < end, "no step was done"
        time.sleep(0.02)


def _last_step(metrics: Path) -> int:
    lines = metrics.read_bytes().split(b"\n")[:-1]  # the last one may be half-written
    return max((json.loads(line)["step"] for line in lines), default=-1)


def _child_of_rank(parent: int, rank: int) -> int:
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if re.search(rb"(^|\0)RANK=%d\0" % rank, Path(f"/proc/{child}/environ").read_bytes()):
            return int(child)
    raise AssertionError(f"torchrun has no child of rank {rank}")
