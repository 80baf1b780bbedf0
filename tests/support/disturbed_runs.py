"""Runs that a signal stops or a kill ends, and that must end as if nothing had happened once they are resumed."""

import itertools
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from debiaspl.checkpoint_file import read
from tests.support.forked_runs import ForkedRuns, Moment
from tests.support.runs import STEPS, assert_same_bits, quick, without_speed

EPOCHS = 2
STOPPING = [getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "USR1", "USR2", "HUP", "XCPU")]
"""Signals that save and stop."""


class Stop(NamedTuple):
    """Signals that come at a moment to some of a run's ranks."""

    signals: tuple[int, ...]
    moment: Moment
    world: int = 1
    receivers: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        names = "+".join(signal.Signals(number).name[3:] for number in self.signals)
        ranks = f"-rank{self.receivers[0]}of2" if self.world > 1 else ""
        return f"{names}-{self.moment.place.replace(' ', '')}{self.moment.call}{ranks}"


_MOMENTS = {"training": Moment("step", STEPS + 1), "evaluation": Moment("evaluation", 2), "saving": Moment("save", 1)}


def every_stop() -> list[Stop]:
    """Returns each signal, and the doubled ones, in training, evaluation and saving, on one rank and on two.

    With two ranks the one that evaluates or trains and does not save gets the signal alone where that is possible.
    """
    signals = [(number,) for number in STOPPING] + [(signal.SIGTERM,) * 2, (signal.SIGINT,) * 2]
    return [
        Stop(tuple(map(int, numbers)), moment, world, (0,) if world == 1 or name == "saving" else (1,))
        for world, numbers, (name, moment) in itertools.product((1, 2), signals, _MOMENTS.items())
    ]


def few_stops() -> list[Stop]:
    """Returns a part of ``every_stop`` in which each signal, moment and number of ranks comes up."""
    every = every_stop()
    return every[::7] + every[16:17]  # every seventh leaves out XCPU


def assert_saved_and_resumed(
    runs: ForkedRuns, data: Path, out: Path, undisturbed: Path, stop: Stop, *more: str
) -> float:
    """The run saves, exits with 128 + n and goes on to the same bits; returns the seconds from signal to exit."""
    words = quick(data, out, *more, epochs=EPOCHS)
    ended = runs(words, world=stop.world, moment=stop.moment, signals=stop.signals, receivers=stop.receivers)
    assert {ended.statuses[rank] for rank in stop.receivers} == {128 + stop.signals[0]}, (ended.statuses, ended.said)
    assert ended.statuses == [128 + stop.signals[0]] * stop.world, ended.said
    assert "Traceback" not in ended.said, ended.said
    step = read(out / "last.pt")["progress"]["step"]
    assert ended.said.count(f"stopped after step {step}; go on with --resume auto") == 1, ended.said
    # Flags travel with the steps, so that two ranks stop one or two steps later than one.
    latest = {"step": stop.moment.call, "evaluation": STEPS, "save": STEPS + 1}[stop.moment.place] + 2 * (
        stop.world - 1
    )
    assert step <= latest
    _resume(runs, words, stop.world)
    assert_as_undisturbed(out, undisturbed)
    return ended.seconds


class Kill(NamedTuple):
    """kill -9 of a run, every rank of it, at a moment."""

    moment: Moment
    world: int = 1
    pipeline: str = "torchvision"

    def __str__(self) -> str:
        return f"{self.pipeline}-{self.moment.place.replace(' ', '')}{self.moment.call}-{self.world}"


def assert_killed_and_resumed(runs: ForkedRuns, data: Path, out: Path, undisturbed: Path, kill: Kill) -> int:
    """The run goes on from its newest checkpoint to the same bits; returns how many steps were lost."""
    words = quick(data, out, "--pipeline", kill.pipeline, "--set", "engine.save_minutes=0", epochs=EPOCHS)
    ended = runs(words, world=kill.world, moment=kill.moment, signals=[signal.SIGKILL])
    assert ended.statuses == [-signal.SIGKILL] * kill.world, ended.said
    saved = read(out / "last.pt")["progress"]["step"] if (out / "last.pt").exists() else 0
    _resume(runs, words, kill.world)
    assert_as_undisturbed(out, undisturbed)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".last")]  # what was half-written is gone
    return kill.moment.call - saved if kill.moment.place == "step" else 0


def _resume(runs: ForkedRuns, words: Sequence[str], world: int) -> None:
    ended = runs([*words, "--resume", "auto"], world=world)
    assert ended.statuses == [0] * world, ended.said


def assert_as_undisturbed(out: Path, undisturbed: Path) -> None:
    """The last and the best checkpoint have the same bits, and the records the same values."""
    assert_same_bits(out / "last.pt", undisturbed / "last.pt")
    assert_same_bits(out / "best.pt", undisturbed / "best.pt")
    assert without_speed(out / "metrics.jsonl") == without_speed(undisturbed / "metrics.jsonl")
