"""Training runs in forked processes, which meet a signal or a kill at a moment that is hit on purpose.

A process that has imported everything forks each rank of each run, so that a run takes a second or two, not ten:
``with ForkedRuns() as runs: runs(arguments, world=2, moment=Moment("save", 1), signals=[signal.SIGTERM])``.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

_ON_THE_WAY = ("torch._dynamo", "matplotlib.backends.backend_agg", "matplotlib.figure", "PIL.JpegImagePlugin")
_ON_THE_WAY += ("debiaspl.train", "debiaspl.training", "debiaspl.board", "debiaspl.dry_run", "tensorboard.compat.proto")
"""What a run imports sooner or later, which takes longer than the run."""
PLACES = ("step", "evaluation", "save", "half saved", "unreplaced", "replaced", "best half saved", "best replaced")
"""Within a step, within an evaluation, and moments of a save: before it, with half the bytes written, with all bytes
written under the temporary name, and with the new file in place but old ones not yet removed; two of best.pt's."""


class Moment(NamedTuple):
    """The ``call``-th time, from 1, that a run comes to a place of PLACES."""

    place: str
    call: int


class Ended(NamedTuple):
    """How a run ended: each rank's exit status (-n for one that signal n killed) and what all of them printed."""

    statuses: list[int]
    said: str
    seconds: float  # from the first signal to the end; 0 without one


class ForkedRuns:
    """Starts runs one after the other; ``close`` ends the process that forks them."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_runs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        world: int = 1,
        moment: Moment | None = None,
        signals: Sequence[int] = (),
        receivers: Sequence[int] = (0,),
    ) -> Ended:
        """Trains with ``arguments`` on ``world`` ranks; those of ``receivers`` get ``signals`` at the moment."""
        asked = {
            "arguments": list(arguments),
            "world": world,
            "moment": moment,
            "signals": [int(number) for number in signals],
            "receivers": list(receivers),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the process that forks the runs has died"
        return Ended(**json.loads(answer))

    def close(self) -> None:
        """Ends the process, which has no run under way."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)


def _serve() -> None:
    """Answers each line of standard input, a run, with a line that says how it ended."""
    import tempfile

    for name in _ON_THE_WAY:
        importlib.import_module(name)

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may answer
    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            answers.write(json.dumps(_run(asked, Path(folder))) + "\n")
        answers.flush()


def _run(asked: dict, folder: Path) -> dict:
    """Forks the ranks of one run and waits for them; a kill of one ends the others, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_forked(asked, rank, port, folder) for rank in range(asked["world"])]
    statuses: dict[int, int] = {}
    while len(statuses) < len(children):
        child, status = os.waitpid(-1, 0)
        statuses[child] = os.waitstatus_to_exitcode(status)
        if statuses[child] == -signal.SIGKILL:
            for other in set(children) - statuses.keys():
                os.kill(other, signal.SIGKILL)
    ended, hit = time.time(), folder / "hit"
    return {
        "statuses": [statuses[child] for child in children],
        "said": "".join((folder / f"{rank}.txt").read_text(errors="replace") for rank in range(asked["world"])),
        "seconds": ended - float(hit.read_text()) if hit.exists() else 0.0,
    }


def _forked(asked: dict, rank: int, port: int, folder: Path) -> int:
    """Forks one rank; returns its process id."""
    if child := os.fork():
        return child
    status = 99
    try:
        with open(folder / f"{rank}.txt", "wb", buffering=0) as said:  # noqa: PTH123
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        world = asked["world"]
        if world > 1:
            os.environ |= {
                **dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
                **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(world)),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        if asked["moment"] is not None and rank in asked["receivers"]:
            _lie_in_wait(Moment(*asked["moment"]), asked["signals"], folder / "hit")
        from debiaspl.train import main

        status = main(asked["arguments"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _lie_in_wait(moment: Moment, signals: list[int], hit: Path) -> None:
    """Sends this process ``signals`` when it comes to the moment."""
    left = [moment.call]

    def come() -> None:
        left[0] -= 1
        if left[0] == 0:
            hit.write_text(str(time.time()))
            for number in signals:
                os.kill(os.getpid(), number)
                time.sleep(0.1)  # the main thread sees each of them

    from debiaspl import checkpoint_file
    from debiaspl.checkpoint_file import Checkpoints
    from debiaspl.evaluation import accuracy
    from pipelines import files

    def before(really: Callable) -> Callable:
        def call(*words: object, **more: object) -> object:
            come()
            return really(*words, **more)

        return call

    match moment.place:
        case "step":
            from torch.optim.optimizer import register_optimizer_step_post_hook

            register_optimizer_step_post_hook(lambda *_: come())  # weights are changed, teacher and p̂ are not
        case "evaluation":
            accuracy._count = before(accuracy._count)
        case "save":
            Checkpoints.write = before(Checkpoints.write)
        case "half saved" | "best half saved":
            name = "best.pt" if moment.place.startswith("best") else "last.pt"
            write = Path.write_bytes

            def half(path: Path, data: bytes) -> int:
                if name in path.name:
                    write(path, data[: len(data) // 2])
                    come()
                return write(path, data)

            Path.write_bytes = half
        case "unreplaced":
            Path.replace = _for_checkpoints(Path.replace, come, first=True)
        case "replaced":
            Path.replace = _for_checkpoints(Path.replace, come, first=False)
        case "best replaced":
            Path.replace = _for_checkpoints(Path.replace, come, first=False, name="best.pt")
    assert checkpoint_file.replacing is files.replacing


def _for_checkpoints(really: Callable, come: Callable[[], None], *, first: bool, name: str = "last.pt") -> Callable:
    """``Path.replace`` that comes to the moment before or after it gives a checkpoint its name."""

    def replace(path: Path, target: Path) -> Path:
        checkpoint = Path(target).name == name
        if checkpoint and first:
            come()
        done = really(path, target)
        if checkpoint and not first:
            come()
        return done

    return replace


if __name__ == "__main__":
    _serve()
