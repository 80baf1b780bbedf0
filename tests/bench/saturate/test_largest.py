"""``python -m bench saturate --largest``: the search where the answer is known, its report, one real run."""

import json
import math
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.arguments import STEP, cores
from bench.saturate import search
from bench.saturate.rank import RankSetting, Seen
from bench.saturate.search import Measure, fastest_step, foretold, largest
from pipelines.errors import DataError

SETTING = RankSetting("ffcv", Path(), 1, 2, 0.0, 50)


def even(batch: float, lost: float = 0.0) -> Measure:
    """Returns a host whose loaders take ``batch`` seconds for a batch of each rank, and lose ``lost`` in each step."""

    def measured(setting: RankSetting) -> list[Seen]:
        took = max(setting.ranks * batch, setting.step + lost)
        elapsed = setting.steps * took
        return [Seen(setting.steps, elapsed, setting.steps * setting.step, 0, 0, 0, 0, 0, 0)] * setting.ranks

    return measured


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_the_search_finds_the_step_of_a_known_curve(share: float) -> None:
    """Utilization is (step/bend)^share up to 1, so 98 % is reached at bend · 0.98^(1/share)."""
    bend = 2.0
    found = fastest_step(lambda step: min(1.0, (step / bend) ** share), alone=1.0)
    wanted = bend * 0.98 ** (1 / share)
    assert wanted <= found <= wanted * (1 + search.WITHIN)


def test_a_search_asks_few_times() -> None:
    asked = list[float]()

    def utilization(step: float) -> float:
        asked.append(step)
        return min(1.0, step / 1.5)

    fastest_step(utilization, alone=1.0)
    assert len(asked) <= 3 + math.ceil(math.log2(math.log(1.3) / math.log(1 + search.WITHIN)))


def test_what_delays_every_step_is_said() -> None:
    with pytest.raises(DataError, match="something else delays"):
        fastest_step(lambda _: 0.9, alone=0.1)


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_even_loader_is_used_to_the_full(ranks: int) -> None:
    """The step may be 2 % shorter than the loader's batch, and the search ends at most 2 % above that."""
    found = largest(RankSetting("ffcv", Path(), ranks, 1, 0.0, 50), even(batch=0.05))
    assert found.ranks == ranks
    assert found.step == pytest.approx(0.05 * ranks * 0.99, rel=0.0101)
    assert found.share == pytest.approx(1, abs=0.011)
    assert found.cores_for(0.0100) == pytest.approx(cores() * 0.99 * 5, rel=0.0101)  # ranks share the host's cores


def test_the_plan_agrees_with_an_even_loader_and_not_with_one_that_loses_time() -> None:
    assert abs(largest(SETTING, even(0.05)).apart) < 0.10
    lossy = largest(SETTING, even(0.05, lost=0.004))  # 98 % only where a step takes 49 times the 4 ms
    assert lossy.step == pytest.approx(0.196, rel=0.03)
    assert lossy.apart < -0.10


def test_the_plan_leaves_room_for_batches_that_vary() -> None:
    step = foretold(rate=STEP / 0.05, ranks=1)
    assert 0.98 * 0.05 < step < 1.15 * 0.05
    assert foretold(rate=STEP / 0.05, ranks=4) == pytest.approx(4 * step, rel=0.1)


def test_the_report_states_cores_of_one_gpu_and_what_the_plan_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.saturate.processes.measure", even(0.05))
    monkeypatch.setattr("bench.samples.root_of", lambda *_: tmp_path)
    monkeypatch.setattr("bench.saturate.run.cores", lambda: 2)
    words = ["saturate", "--largest", "--pipelines", "ffcv", "--accelerators", "8", "--out", str(tmp_path)]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 × ffcv: the largest device kept busy for 98% of the time takes" in said
    assert "The plan agrees within 10% in 2 of 2 cases." in said
    (path,) = tmp_path.glob("saturate_largest_*.json")
    found = json.loads(path.read_text())
    one, two = found["largest"]
    assert two["step"] == pytest.approx(2 * one["step"], rel=0.021)
    (table,) = (each["rows"] for each in found["sections"] if each["title"] == "Cores for one GPU")
    h100 = next(at for at, name in enumerate(table[0]) if name.startswith("h100"))
    assert float(table[1][h100]) == pytest.approx(cores() * one["step"] / (88 / 5547 + 80 / (2.35 * 5547)), abs=0.06)


def test_a_scale_beside_the_search_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["saturate", "--largest", "--scale", "0.5"]) == 2
    assert "leave out --scale 0.5" in capsys.readouterr().err


@pytest.mark.soak
@pytest.mark.alone
@pytest.mark.timeout(3600)
def test_the_largest_device_on_this_host(tmp_path: Path, record_property) -> None:
    """States, and does not assert, how much of the loader's rate is used: another process would take some of it."""
    words = ["saturate", "--largest", "--accelerators", "2", "--pipelines", "planes"]
    assert main([*words, "--corpus", str(tmp_path / "c"), "--out", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").glob("saturate_largest_*.json")
    tables = {each["title"]: each["rows"][1:] for each in json.loads(path.read_text())["sections"]}
    shares = [row[4].partition(":")[0] for row in tables["The largest device"]]
    apart = [row[3] for row in tables["Beside the plan"]]
    assert len(shares) == len(apart) == min(2, cores())
    record_property("largest device of planes, of the loader's rate", ", ".join(shares))
    record_property("plan beside saturate", ", ".join(apart))
