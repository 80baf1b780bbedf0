"""``python -m bench saturate``: what a rank sees, what is said of it, and two real ranks that meet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import corpus
from bench.__main__ import main
from bench.plan.simulation import Setup, simulate
from bench.saturate import run as command
from bench.saturate.account import Trial, sustained, table, verdict
from bench.saturate.processes import measure
from bench.saturate.rank import RankSetting, Seen, open_rank, run
from pipelines.errors import DataError
from pipelines.samples.listing import list_images


def seen(slept: float, waited: float = 0.0, behind: float = 0.0) -> Seen:
    return Seen(10, 1.0, slept, waited, behind, 0.5, 0.1, 10**9, 10**6)


class Machine:
    """A virtual clock, a feed that takes so many seconds a batch, and a barrier that costs its time."""

    def __init__(self, load: float, barrier: float) -> None:
        self.now, self._load, self._barrier = 0.0, load, barrier

    def __iter__(self) -> Iterator[int]:
        for number in range(1000):
            self.now += self._load
            yield number

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def barrier(self) -> None:
        self.now += self._barrier


@pytest.mark.parametrize("warm_up", [0, 4])
def test_a_rank_accounts_for_all_of_its_time(warm_up: int) -> None:
    machine = Machine(load=0.02, barrier=0.01)
    setting = RankSetting("ffcv", Path(), 2, 1, 0.05, 10, warm_up=warm_up, slowed={1: 2.0})
    found = run(1, setting, machine, machine.barrier, machine.sleep, machine.clock)
    assert (found.steps, found.elapsed) == (10, pytest.approx(1.3))
    assert (found.slept, found.waited, found.behind) == pytest.approx((1.0, 0.2, 0.1))
    assert found.utilization == pytest.approx(1 / 1.3)
    assert found.variation == pytest.approx(0, abs=1e-6)


def test_the_largest_number_that_is_kept_busy() -> None:
    trials = [Trial("ffcv", [seen(share)] * count) for count, share in ((1, 0.99), (2, 0.985), (4, 0.95), (8, 0.99))]
    assert sustained(trials, 0.98) == 2
    assert sustained(trials, 0.90) == 8
    assert sustained(trials[2:], 0.98) == 0
    one_slow = [Trial("ffcv", [seen(0.99), seen(0.5)])]
    assert sustained(one_slow, 0.9) == 0
    said = verdict("ffcv", [*trials, Trial("ffcv", [seen(0.1)], cold=True)], "H100", 8)
    assert said == ("ffcv: this host keeps 2 × H100 busy for 98% of the time, and 8 for 90%, of the 8 that were tried.")


def test_the_table_adds_up_ranks() -> None:
    rows = table([Trial("ffcv", [seen(0.8, waited=0.1), seen(0.6, behind=0.4)])]).rows
    assert rows[1] == ("2 × ffcv", "70.0%", "60.0%", "5.0%", "20.0%", "960", "1.00", "2.0", "2")


def test_ranks_share_the_images(tmp_path: Path) -> None:
    """Two ranks load different images of the same steps, and go on past the end of a small set."""
    root = corpus.build(tmp_path, 96)
    listing = list_images(root / "train")
    taken = []
    for rank in range(2):
        feed = open_rank(rank, RankSetting("torchvision", root, 2, 1, 0.0, 2, warm_up=0), listing)
        batches = iter(feed)
        taken.append([set(next(batches).unlabeled.index.tolist()) for _ in range(2)])
        batches.close()
        feed.close()
    for first, second in zip(*taken, strict=True):
        assert not first & second
        assert len(first | second) == 80  # all unlabeled images, once


@pytest.mark.soak
def test_all_ranks_wait_for_the_slowed_one(tmp_path: Path) -> None:
    """Two processes that meet; 60 ms is far above what a busy machine adds to a step."""
    root = corpus.build(tmp_path, 48)
    setting = RankSetting("torchvision", root, 2, 1, 1.0, 4, slowed={1: 1.5})
    first, second = measure(setting)
    predicted = simulate(Setup(step=1.0, decode=0.01, ranks=2, slowed={1: 1.5}))
    assert first.steps / first.elapsed == pytest.approx(predicted.rate, rel=0.1)
    assert first.behind > 10 * second.behind
    assert first.utilization < 0.75 < second.utilization


@pytest.mark.soak
def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["saturate", "--quick", "--pipelines", "torchvision", "--step-ms", "2000", "--images", "48"]
    assert main([*words, "--accelerators", "1", "--corpus", str(tmp_path / "c"), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "torchvision: this host keeps" in said
    assert len(list((tmp_path / "out").glob("saturate_*"))) == 4


def test_a_pipeline_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(setting: RankSetting) -> list[Seen]:
        raise DataError(f"{setting.pipeline} is not here")

    monkeypatch.setattr("bench.saturate.processes.measure", refuses)
    monkeypatch.setattr("bench.samples.root_of", lambda *_: tmp_path)
    assert main(["saturate", "--pipelines", "dali", "--out", str(tmp_path)]) == 2
    assert "No pipeline can be opened: dali is not here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"), [(["--scale", "0"], "--scale must be"), (["--step-ms", "0"], "--step-ms must be above 0")]
)
def test_devices_that_make_no_sense_are_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["saturate", *options]) == 2
    assert words in capsys.readouterr().err


def test_pipelines_are_those_of_the_loader() -> None:
    from bench.four_views import PLANES
    from pipelines import NAMES

    assert set(command.PIPELINES) == {*NAMES, PLANES.split(", ")[1]}
