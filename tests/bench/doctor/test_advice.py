"""The advice that follows from what was measured: pipeline, settings, and when a faster loader would not help."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from bench.doctor.advice import advise, step_rate
from bench.doctor.ceilings import Ceilings, rate

RATES = {"torchvision": 450.0, "dali": 1050.0, "ffcv": 1200.0, "ffcv, planes": 2100.0}
FAST, SLOW = {"float32": 1e11, "bfloat16": 2e11}, {"float32": 1e11, "bfloat16": 1e9}


def ceilings(rates: dict[str, float] = RATES, flops: dict[str, float] = SLOW) -> Ceilings:
    return Ceilings([], rates, flops)


def test_on_a_cpu_no_loader_helps_and_bfloat16_does_where_it_is_fast() -> None:
    found = advise("imagenet-1p", None, ceilings(flops=FAST), (), "ext4")
    assert found.verdict.startswith("A faster loader would not help")
    assert "takes 3.44 (estimated" in found.verdict  # 48 × 2e11 / 2.79e12
    assert found.command.endswith("--pipeline ffcv --set engine.precision=bfloat16")
    assert any("2.0 times as fast" in reason for reason in found.reasons)
    slow = advise("imagenet-1p", None, ceilings(), (), "ext4")
    assert "--set" not in slow.command
    assert "--mode planes" not in " ".join(slow.reasons)


def test_a_gpu_that_outruns_the_loader_is_told_of_planes() -> None:
    found = advise("imagenet-1p", None, ceilings(), ("NVIDIA H100 80GB HBM3",), "ext4")
    assert found.verdict.startswith("A faster loader would help: the loader makes 1,200 images/s")
    assert "takes 2,182 (by MLPerf Training v3.0" in found.verdict
    assert "--mode planes" in " ".join(found.reasons)
    two = advise("imagenet-1p", None, ceilings(), ("NVIDIA A100-SXM4-80GB",) * 2, "ext4")
    assert "on 2 GPUs takes 2,672" in two.verdict


def test_unknown_gpus_get_no_figure() -> None:
    assert math.isnan(step_rate(SLOW, ("Some GPU",))[0])
    found = advise("imagenet-1p", None, ceilings(), ("Some GPU",), "ext4")
    assert "python -m bench train measures it" in found.verdict


def test_the_pipeline_that_can_be_opened_is_advised() -> None:
    found = advise("demo", Path("data/it's here"), ceilings({"torchvision": 100.0}), (), "ext4")
    assert "--pipeline torchvision --data 'data/it'\"'\"'s here'" in found.command
    assert not any("convert" in reason for reason in found.reasons)


def test_a_converted_file_need_not_be_made_again(tmp_path: Path) -> None:
    before = advise("demo", tmp_path, ceilings(), (), "ext4")
    (tmp_path / "ffcv").mkdir()
    (tmp_path / "ffcv/train.beton").touch()
    after = advise("demo", tmp_path, ceilings(), (), "ext4")
    assert any("convert_imagenet_to_ffcv.py" in reason for reason in before.reasons)
    assert not any("convert_imagenet_to_ffcv.py" in reason for reason in after.reasons)


def test_a_network_disk_gets_a_longer_queue() -> None:
    assert "engine.prefetch=8" in advise("demo", None, ceilings(), (), "nfs4").command


def test_the_advised_command_is_one_that_runs(demo_data: Path) -> None:
    found = advise("demo", demo_data, ceilings({"torchvision": 100.0}, FAST), (), "nfs4")
    words = found.command.split()
    assert words[:3] == ["python", "-m", "debiaspl.train"]
    command = [sys.executable, *words[1:], "--print-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bfloat16" in done.stdout


@pytest.mark.parametrize(("seconds", "runs"), [([0.5, 0.25, 0.5], 3), ([9.0], 1), ([1.0, 0.5], 2)])
def test_a_ceiling_is_the_best_run_and_a_slow_one_is_not_repeated(seconds: list[float], runs: int) -> None:
    now, left = [0.0], list(seconds)

    def work() -> float:
        now[0] += left.pop(0)
        return 10.0

    assert rate(work, 1.0, lambda: now[0]) == 10 / min(seconds[:runs])
    assert len(left) == len(seconds) - runs
