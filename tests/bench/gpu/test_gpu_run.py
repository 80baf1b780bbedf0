"""``bench gpu`` on a machine without a GPU: every part is accounted for, whatever is not installed or goes wrong."""

import faulthandler
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.environment import Environment
from bench.gpu import processes, report
from bench.gpu.findings import Check, Findings, Found, Number, Part, Settings
from bench.gpu.parts import PARTS
from bench.gpu.run import _one
from tests.support.installed import installed

ROOT = Path(__file__).parents[3]
MACHINE = Environment("cpu", 2, 8.0, (), "os", "3.11", {}, "abc", False, "2026-01-02T03:04:05", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A quick run where torch, numba, Pillow and DALI are all that can be imported, and its folder."""
    out = tmp_path_factory.mktemp("bare")
    words = [sys.executable, "-m", "tests.support.bare_bench", "gpu", "--quick", "--minutes", "30", "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done, out


@pytest.mark.soak
def test_a_bare_machine_without_a_gpu_accounts_for_every_assertion(bare) -> None:
    done, out = bare
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = out.glob("gpu_*.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    statuses = {(part["name"], check["what"]): check for part in found["parts"] for check in part["checks"]}
    assert statuses.keys() == {(part.name, what) for part in PARTS for what in part.checks}
    assert not [check for check in statuses.values() if check["status"] == "missed"]
    met = {check["what"] for check in statuses.values() if check["status"] == "met"}
    assert {"RandAugment on the device equals the CPU executor", "a resumed run is equal bit for bit"} <= met
    if shutil.which("g++"):
        assert {"compiled: agrees with eager in float32", "nothing is compiled after step 2"} <= met
    if installed("nvidia.dali"):
        assert {"every kind of file is within its bound", "the second evaluation builds nothing"} <= met
    assert all(check["detail"] for check in statuses.values())
    markdown = path.with_suffix(".md").read_text(encoding="utf-8")
    assert markdown.count("| not run |") == sum(each["status"] == "not run" for each in statuses.values())


@pytest.mark.soak
def test_what_needs_a_gpu_says_so(bare) -> None:
    _, out = bare
    found = json.loads(next(out.glob("gpu_*.json")).read_text(encoding="utf-8"))
    speed = next(part for part in found["parts"] if part["name"] == "T5")
    assert {check["detail"] for check in speed["checks"]} == {"needs a GPU"}


def part_of(monkeypatch: pytest.MonkeyPatch, work) -> Part:
    """A part that does ``work`` (findings, settings) and asserts "first" and "second"."""
    module = type(sys)("bench.gpu.made_for_a_test")
    module.run = work  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Part("T9", "made for a test", 1, module.__name__, ("first", "second"))


def statuses(result: report.PartResult) -> dict[str, tuple[str, str]]:
    return {check.what: (check.status, check.detail) for check in result.checks}


def test_an_exception_keeps_what_was_found_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def work(findings: Findings, _: Settings) -> None:
        findings.check("first", True, "1 of 1")
        findings.number("rate", "3 images/s")
        raise ValueError("broken on purpose")

    result = _one(part_of(monkeypatch, work), Settings(tmp_path, quick=True), seconds=60)
    found = statuses(result)
    assert found["first"] == ("met", "1 of 1")
    assert found["second"][0] == "not run"
    assert "ValueError: broken on purpose" in found["second"][1]
    assert result.numbers == [Number("rate", "3 images/s")]


def test_a_crash_ends_its_part_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def work(findings: Findings, _: Settings) -> None:
        findings.check("first", False, "0 of 1")
        faulthandler.disable()  # pytest's, whose traces would stand in the tests' output
        os.abort()

    found = statuses(_one(part_of(monkeypatch, work), Settings(tmp_path, quick=True), seconds=60))
    assert found == {"first": ("missed", "0 of 1"), "second": ("not run", "its process died (status -6)")}


def test_a_hang_is_ended_with_all_its_children(tmp_path: Path) -> None:
    def work(hand_on) -> None:
        hand_on(subprocess.Popen(["sleep", "600"]).pid)
        time.sleep(600)

    found = processes.forked(work, seconds=1)
    child = next(found)
    with pytest.raises(processes.Ended, match="stopped after its 1 s"):
        next(found)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        state = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        if state == "Z":  # dead, and not yet waited for by whoever adopted it
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()


def test_the_report_is_whole_after_each_part(tmp_path: Path) -> None:
    made = report.Report("python -m bench gpu", MACHINE)
    odd: list[Found] = [Check("a|b", "missed", "<x> `y`"), Number("rate", "1 ms")]
    for number in (1, 2):
        made.parts.append(report.PartResult(f"T{number}", "title", 1.0, odd))
        markdown, raw = report.write(made, tmp_path)
        assert len(json.loads(raw.read_text(encoding="utf-8"))["parts"]) == number
        assert markdown.read_text(encoding="utf-8").count("| a\\|b | missed | &lt;x&gt; \\`y\\` |") == number
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gpu_2-core-cpu_2026-01-02.json",
        "gpu_2-core-cpu_2026-01-02.md",
    ]
    assert report.said(made) == "T1 title: 1 missed\nT2 title: 1 missed"
