"""``python -m bench plan``: its verdicts, its inputs, and its report."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.plan import account, inputs
from bench.plan.account import prefetch_of, setup_of, verdict
from bench.plan.arithmetic import BUILT_IN, Host, Mode, row
from bench.plan.devices import DEVICES
from bench.plan.picture import bend
from bench.plan.simulation import simulate
from pipelines.errors import DataError

REPORTS = Path(__file__).parents[3] / "bench/reports"
H100 = DEVICES["h100"].step_seconds


def test_the_verdict_names_what_gives_out() -> None:
    enough = Host(8, 48, 1152, 2000, 400)
    assert "kept busy" in verdict(row(8, enough, BUILT_IN[0], H100), enough, H100)
    few = Host(8, 20, 1152, 2000, 400)
    said = verdict(row(8, few, BUILT_IN[0], H100), few, H100)
    assert "cores give out first, at 43% of the GPUs' rate; 28 cores are needed" in said  # 12 of 27.8
    slow = Host(8, 96, 64, 500, 400)
    assert "the disk gives out first" in verdict(row(8, slow, BUILT_IN[0], H100), slow, H100)


def test_the_bend_is_the_first_count_that_waits() -> None:
    host = Host(8, 16, 1152, 2000, 400)
    rows = [row(gpus, host, Mode("m", 1.59, 110, ""), H100) for gpus in (1, 2, 4, 8)]
    found = bend(rows)
    assert found is not None
    assert (found.gpus, found.bottleneck) == (4, "cores")  # 12 cores of the 13.9 that four GPUs need
    assert bend(rows[:2]) is None


@pytest.mark.parametrize("cores", [12, 20, 48])
def test_simulation_and_arithmetic_agree(cores: int) -> None:
    """But for what varying steps cost: 2 % each over eight ranks, about 3 % together."""
    host = Host(8, cores, 1152, 2000, 400)
    found = row(8, host, BUILT_IN[0], H100)
    assert simulate(setup_of(found, host, H100)).idle == pytest.approx(1 - found.rate / found.needed, abs=0.035)


def test_an_uneven_loader_is_given_a_longer_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(1, 5, 1152, 2000, 400, step_cores=1.0)
    found = row(1, host, BUILT_IN[0], H100)
    assert prefetch_of(found, host, H100) == 1
    monkeypatch.setattr(account, "DECODE_VARIATION", 0.6)
    assert prefetch_of(found, host, H100) > 1


def test_a_loaders_report_gives_the_costs() -> None:
    found = {mode.name: mode for mode in inputs.modes(REPORTS / "loader_2-core-amd-epyc_2026-11-26.json")}
    assert found["ffcv"].core_ms == pytest.approx(2 * 1000 / 551, rel=0.01)
    assert (found["ffcv"].kilobytes, found["ffcv, planes"].kilobytes) == (109.0, 417.0)
    older = {mode.name: mode for mode in inputs.modes(REPORTS / "loader_2-core-amd-epyc_2026-11-22.json")}
    assert older["ffcv"].core_ms == pytest.approx(2 * 1000 / 1211, rel=0.01)
    with pytest.raises(DataError, match="got one of bench step"):
        inputs.modes(REPORTS / "step_2-core-amd-epyc_2026-11-22.json")


def test_a_steps_report_gives_the_step() -> None:
    name, seconds, source = inputs.step("h100", None, REPORTS / "step_2-core-amd-epyc_2026-11-22.json")
    assert (name, seconds) == ("AMD EPYC", pytest.approx(0.430, rel=0.01))
    assert "bf16" in source


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--device", "a100", "--gpus", "2", "--hosts", "1", "--cores", "8", "--out", str(tmp_path)]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 GPUs on 1 host, ffcv, JPEGs: the GPUs are kept busy; engine.threads=" in said
    (path,) = tmp_path.glob("plan_*.json")
    report = json.loads(path.read_text())
    needs = report["sections"][0]["rows"]
    assert [line[0] for line in needs[1:]] == ["1, 1", "2, 1"] * 2
    assert needs[1][2] == "1,336"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gpus", "8", "--cores", "8"], "more --cores, or these processes fewer --step-cores"),
        (["--device", "b200"], "--device takes a100-pytorch, a100, h100"),
        (["--loader", "nowhere.json"], "Cannot read the report nowhere.json"),
    ],
)
def test_what_cannot_be_planned_is_said(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *options]) == 2
    assert words in capsys.readouterr().err
