"""`make demo` runs dali, says so where DALI does not import and torchvision runs, and does what PIPELINE says."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELL = """#!/bin/sh
echo "$@" >> "$CALLS"
[ "$1" != -c ] || [ "$DALI" = there ]
"""


@pytest.fixture
def demo(tmp_path):
    """Runs `make demo` with an interpreter that notes its arguments; returns these and what was printed."""
    python = tmp_path / "python"
    python.write_text(SHELL, encoding="utf-8")
    python.chmod(0o755)

    def run(dali: str, *given: str) -> tuple[str, str]:
        calls = tmp_path / "calls"
        environment = {key: value for key, value in os.environ.items() if key != "PIPELINE"}
        printed = subprocess.run(
            ["make", "-s", "-o", "setup", "demo", f"PYTHON={python}", *given],
            cwd=ROOT,
            env={**environment, "CALLS": str(calls), "DALI": dali},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return calls.read_text(encoding="utf-8"), printed

    return run


def test_the_demo_runs_dali(demo):
    calls, printed = demo("there")
    assert "--pipeline dali --out runs/demo-dali" in calls
    assert printed == ""


def test_without_dali_it_runs_torchvision_and_says_so(demo):
    calls, printed = demo("absent")
    assert "--pipeline torchvision --out runs/demo-torchvision" in calls
    assert printed.count("\n") == 1
    assert "DALI" in printed
    assert "torchvision" in printed


def test_a_pipeline_that_is_asked_for_is_not_replaced(demo):
    calls, printed = demo("absent", "PIPELINE=dali")
    assert "--pipeline dali" in calls
    assert printed == ""


def test_for_ffcv_the_digits_are_converted_first(demo):
    calls, _ = demo("there", "PIPELINE=ffcv")
    assert calls.index("convert_imagenet_to_ffcv.py --data dataset/demo") < calls.index("--pipeline ffcv")
