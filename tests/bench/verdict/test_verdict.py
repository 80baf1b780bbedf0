"""The verdict in ten constructed cases: a simulated device and loader, whose time is virtual, hence without noise."""

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from bench.verdict import part, run
from bench.verdict.judge import Measured, Setting, judge
from bench.verdict.timing import WARM_UP, Timed, epochs, no_step, replayed, timed
from pipelines.batch import Batch, Views
from tests.support.images import photo

SETTING = Setting(pipeline="ffcv", threads=2, cores=2)
PREFETCH = 2
PARTS_TIMED = ("loader", "again", "step", "both")
_VIEWS = Views(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
BATCH = Batch(_VIEWS, _VIEWS)


class Machine:
    """A clock, a loader that works ahead of it as the feed does, and a device that takes its time for a step."""

    def __init__(self, loader: float, step: float, busy: float, first: float = 0.0) -> None:
        """``loader`` and ``step``: ms a batch; ``first``: ms a batch of the first epoch, where its files are cold."""
        self.now, self._loader, self._step, self._busy, self._first = 0.0, loader, step, busy, first or loader
        self._epoch = 0

    def __iter__(self) -> Iterator[Batch]:
        """One epoch: a batch is begun when the one before is done and there is room for it."""
        each, self._epoch = (self._loader if self._epoch else self._first), self._epoch + 1
        begun, done, taken = self.now, self.now, [self.now] * (PREFETCH + 1)
        for _ in range(1000):
            begun = max(done, taken[-PREFETCH - 1])
            done = begun + each
            self.now = max(self.now, done)
            taken.append(self.now)
            yield BATCH

    def step(self, batch: Batch, number: int) -> None:
        self.now += self._step

    def clock(self) -> float:
        return self.now / 1000

    def cpu(self) -> float:
        return self._busy * self.now / 1000


def measure(
    loader: float, step: float, *, busy: float = 2.0, first: float = 0.0, shared: float = 0.0, rounds: int = 3
) -> Measured:
    """The parts as they run: ms of a batch and of a step; ``shared``: ms that both lose when they run together."""
    found = Measured([], [], [], [])
    for _ in range(rounds):
        machine = Machine(loader, step, busy, first)
        for times in (found.loader, found.again):
            with closing(epochs(machine)) as batches:
                times.append(timed(batches, no_step, 0.5, machine.clock, machine.cpu))
        found.step.append(timed(replayed(machine), machine.step, 0.5, machine.clock, machine.cpu))
        machine = Machine(loader + shared, step + shared, busy, first)
        with closing(epochs(machine)) as batches:
            found.both.append(timed(batches, machine.step, 0.5, machine.clock, machine.cpu))
    return found


def test_the_time_of_a_step_is_the_slower_ones() -> None:
    found = measure(10, 4)
    assert [each.seconds for each in (found.loader[0], found.step[0], found.both[0])] == pytest.approx(
        [0.01, 0.004, 0.01]
    )
    assert measure(4, 10).both[0].seconds == pytest.approx(0.010)
    assert found.loader[0].busy == pytest.approx(2.0)


def test_steps_are_counted_after_the_warm_up_and_three_at_least() -> None:
    machine, seen = Machine(1, 1, 1), list[int]()
    found = timed(epochs(machine), lambda batch, number: seen.append(number), 0.0, machine.clock, machine.cpu)
    assert found.steps == 3
    assert seen == list(range(WARM_UP + 3))


def test_1_a_slow_loader_is_input_bound() -> None:
    found = judge(measure(24, 6), SETTING)
    assert found.word == "INPUT-BOUND"
    assert "decoding and cutting" in found.stage
    assert "--mode planes" in found.change


def test_2_a_loader_a_little_too_slow_leans_on_input() -> None:
    assert judge(measure(26, 20), SETTING).word == "LEANING ON INPUT"


def test_3_a_slow_step_is_step_bound() -> None:
    found = judge(measure(4, 24), SETTING)
    assert found.word == "STEP-BOUND"
    assert "faster loader would not help" in found.change


def test_4_a_throttled_disk_is_named_by_threads_that_wait() -> None:
    found = judge(measure(24, 6, busy=0.1), SETTING)
    assert found.word == "INPUT-BOUND"
    assert found.stage.startswith("reading: of 2 threads 0.1 compute")


def test_5_a_cold_cache_is_named_by_the_second_reading() -> None:
    """With loader and step together the files are cold again, as where they do not fit into memory."""
    found = judge(measure(3, 6, first=24), SETTING)
    assert found.word == "INPUT-BOUND"
    assert found.stage.startswith("reading: the first time takes")


def test_6_a_warm_cache_is_not_blamed() -> None:
    assert "reading" not in judge(measure(24, 6), SETTING).stage


def test_7_one_thread_of_many_cores_is_told_to_take_more() -> None:
    found = judge(measure(24, 6, busy=1.0), SETTING._replace(threads=1, cores=8))
    assert "engine.threads=8" in found.change


def test_8_loader_and_step_that_share_cores_are_told_apart() -> None:
    """Each alone takes 10 ms, both together 24."""
    found = judge(measure(10, 10, shared=14), SETTING)
    assert found.word == "INPUT-BOUND"
    assert "take each other's cores" in found.stage


def test_9_noise_is_inconclusive() -> None:
    """As where a busy loop runs beside some of the rounds: they disagree about the class."""
    found = measure(4, 12)
    loud = found.both[0]._replace(seconds=3 * found.both[0].seconds)
    assert judge(found._replace(both=[loud, *found.both[1:]]), SETTING).word == "INCONCLUSIVE"


def test_10_one_slow_rank_of_two_is_named() -> None:
    found = judge(measure(4, 24)._replace(ranks=(0.024, 0.048)), SETTING)
    assert found.word == "STEP-BOUND"
    assert found.stage.startswith("rank 1's step takes 1.33 times the median")
    even = judge(measure(4, 24)._replace(ranks=(0.024, 0.0241)), SETTING)
    assert "rank" not in even.stage


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pipeline": "torchvision"}, "--pipeline ffcv"),
        ({"planes": True}, "More cores"),
        ({"planes": False}, "--mode planes"),
    ],
)
def test_the_next_faster_loader_is_named(changed: dict[str, object], words: str) -> None:
    each = [Timed(0.024, 10, 2.0)] * 3
    found = judge(Measured(each, each, [Timed(0.006, 10, 1.0)] * 3, each), SETTING._replace(**changed))
    assert words in found.change


def test_rounds_near_a_limit_that_agree_are_conclusive() -> None:
    step, both = [Timed(0.010, 9, 1.0)] * 3, [Timed(seconds, 9, 1.0) for seconds in (0.0109, 0.0112, 0.0111)]
    found = judge(Measured(both, both, step, both), SETTING)
    assert (found.word, found.low, found.high) == ("LEANING ON INPUT", pytest.approx(1.09), pytest.approx(1.12))


SLOW_RANK = """
import json, os, sys
part, slow = sys.argv[1], os.environ["LOCAL_RANK"] == "1" and os.environ["LOCAL_WORLD_SIZE"] == "3"
if slow and "fails" in sys.argv:
    sys.exit("error: device 1 is gone")
names = ["loader", "again"] if part == "loader" else [part]
seconds = 0.004 if part == "loader" else 0.048 if slow else 0.024
setting = {"pipeline": "ffcv", "threads": 2, "cores": 2}
print(json.dumps({"timed": {name: [seconds, 9, 1.0] for name in names}, "setting": setting}))
"""


def test_a_slow_rank_of_several_processes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "part.py"
    script.write_text(SLOW_RANK)
    monkeypatch.setattr(run, "_PART", (str(script),))
    assert main(["train", "--ranks", "3", "--rounds", "2", "--out", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rank 1's step takes 2.00 times the median rank's, and all wait for it" in said
    (path,) = tmp_path.glob("train_*.json")
    report = json.loads(path.read_text())
    assert report["ranks"] == [0.024, 0.048, 0.024]
    assert report["verdict"]["word"] == "STEP-BOUND"
    assert "--ranks 3" in report["command"]
    assert main(["train", "--ranks", "3", "--rounds", "1", "--recipe", "fails", "--out", str(tmp_path)]) == 2
    assert "The step could not be measured: device 1 is gone" in capsys.readouterr().err


@pytest.mark.soak
def test_the_whole_command_on_the_demo(demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--recipe", "demo", "--pipeline", "torchvision", "--data", str(demo_data), "--quick"]
    assert main([*words, "--set", "engine.threads=1", "--ranks", "2", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("train_*.json")
    report = json.loads(path.read_text())
    assert report["quick"]
    assert report["verdict"]["word"] in ("INPUT-BOUND", "LEANING ON INPUT", "STEP-BOUND", "INCONCLUSIVE")
    assert report["settings"]["threads"] == 1
    assert {name: len(each) for name, each in report["timed"].items()} == dict.fromkeys(PARTS_TIMED, 3)
    assert len(report["ranks"]) == 2
    assert f"{report['verdict']['word']}: a step takes" in " ".join(capsys.readouterr().out.split())


def test_a_part_measures_the_trainers_own_loader(demo_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", "demo", "--pipeline", "torchvision", "--data", str(demo_data)]
    assert part.main(["loader", "0.01", *words, "--set", "engine.threads=1"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["setting"]["threads"] == 1
    assert answer["setting"]["pipeline"] == "torchvision"
    assert not answer["setting"]["planes"]
    assert Timed(*answer["timed"]["loader"]).steps >= 3
    assert Timed(*answer["timed"]["again"]).seconds > 0


def test_data_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert part.main(["step", "1", "--recipe", "demo", "--data", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "nowhere" in said


def test_recipe_own_is_measured_as_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe looks at the pictures here as it does when it trains."""
    for name in ("ant", "bee"):
        (tmp_path / "own/train" / name).mkdir(parents=True)
        for number in range(12):
            photo(70, 64, number).save(tmp_path / "own/train" / name / f"{number}.jpg")
    measured: list[object] = []
    monkeypatch.setattr(part, "measure", lambda part, seconds, recipe, ranks: measured.append(recipe.science) or {})
    assert part.main(["step", "1", "--recipe", "own", "--data", str(tmp_path / "own"), "--set", "device=cpu"]) == 0
    (science,) = measured
    assert (science.size, science.arch, science.tau) == (64, "resnet10-narrow", 0.0)


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ([], True),
        (["--set", "engine.data=mine"], False),
        (["--set", "data=mine"], False),
        (["--recipe", "imagenet-1p"], False),
    ],
    ids=str,
)
def test_a_bare_checkout_is_measured_on_the_demos_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], made: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.demo.make_data", lambda folder, seed, convert: (folder / f"data-{seed}").mkdir())
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    with ExitStack() as opened:
        folder = run._made_data(parser.parse_args(words), opened)
        assert (folder is not None and Path(folder).is_dir()) == made
    assert folder is None or not Path(folder).exists()
    (tmp_path / "dataset/demo").mkdir(parents=True)
    with ExitStack() as opened:
        assert run._made_data(parser.parse_args(words), opened) is None
