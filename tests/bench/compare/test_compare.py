"""``python -m bench compare``: reports, refusals, the gate, and two commits in turns."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.compare import commits, page, processes
from bench.compare.reports import compare_reports, differences, process_rates
from bench.hardware import Gpu, Machine, Storage
from bench.report import Report
from bench.report.document import as_json
from bench.report.schema import load, text_of
from pipelines.errors import DataError, UserError
from tests.support.bench_reports import MADE, report_of
from tests.support.html_pages import HOSTILE, Read, assert_harmless

EVEN = [[100.0 + n, 101.0 + n, 99.0 + n] for n in range(5)]
SLOW = [[0.8 * rate for rate in rounds] for rounds in EVEN]
ROOT = Path(__file__).parents[3]


def written(report: Report, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "report.json"
    path.write_text(text_of(as_json(report)))
    return str(path)


def compared(old: Report, new: Report, tmp_path: Path, *options: str) -> int:
    return main(["compare", written(old, tmp_path / "old"), written(new, tmp_path / "new"), *options])


def test_a_process_counts_once_however_many_rounds_it_has() -> None:
    old, new = report_of({"ffcv": EVEN}), report_of({"ffcv": SLOW})
    assert old.rates is not None
    assert process_rates(old.rates.measurement["ffcv"]) == pytest.approx([100, 101, 102, 103, 104])
    (row,) = compare_reports(old, new).rows
    assert row.processes == (5, 5)
    assert row.found.ratio == pytest.approx(0.8)
    assert row.found.verdict == "slower"


def test_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = report_of({"ffcv": EVEN, "dali": EVEN}), report_of({"ffcv": SLOW, "dali": EVEN})
    assert compared(old, new, tmp_path) == 0
    assert compared(old, old, tmp_path, "--fail-below", "0.95") == 0
    assert compared(old, new, tmp_path, "--fail-below", "0.7") == 0
    capsys.readouterr()
    assert compared(old, new, tmp_path, "--fail-below", "0.95") == 1
    said = capsys.readouterr().err
    assert "FAILED: ffcv: 0.8" in said
    assert "dali" not in said


def test_the_gate_lets_no_row_vanish_and_no_noise_pass(tmp_path: Path) -> None:
    old = report_of({"ffcv": EVEN, "dali": EVEN})
    assert compared(old, report_of({"ffcv": EVEN}), tmp_path, "--fail-below", "0.95") == 1
    noisy = [[rate] for rate in (60.0, 80.0, 100.0, 120.0, 140.0)]
    assert compared(old, report_of({"ffcv": noisy, "dali": EVEN}), tmp_path, "--fail-below", "0.95") == 1


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (report_of({"ffcv": EVEN}, quick=True), "--quick"),
        (report_of({"ffcv": EVEN[:1]}), "python -m bench loader --processes 5"),
    ],
)
def test_the_gate_takes_whole_reports_only(
    new: Report, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(report_of({"ffcv": EVEN}), new, tmp_path, "--fail-below", "0.95") == 2
    assert words in capsys.readouterr().err
    assert compared(report_of({"ffcv": EVEN}), new, tmp_path) == 0


def test_unlike_reports_are_refused_and_what_differs_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = report_of({"ffcv": EVEN})
    new = report_of({"ffcv": EVEN}, environment=replace(MADE, cpu="Intel", cores=96), settings={"threads": 4})
    assert compared(old, new, tmp_path) == 2
    said = capsys.readouterr().err
    for line in ("cpu: AMD EPYC 9554 64-Core Processor against Intel", "cores: 2 against 96", "'threads': 2 against 4"):
        assert line in said
    assert compared(old, new, tmp_path, "--anyway") == 0


def test_machines_are_told_apart_by_gpus_and_disks() -> None:
    gpu = Gpu("H100", "81559 MiB", "550.1", "1980 MHz", "1980 MHz", "80 W", "700 W")
    here = Machine(gpus=(gpu,), storage=Storage("/data", "ext4", "/dev/nvme0", "solid state"))
    there = replace(here, gpus=(replace(gpu, power_limit="400 W"),), storage=replace(here.storage, kind="nfs4"))
    old = report_of({"ffcv": EVEN}, environment=replace(MADE, machine=here))
    new = report_of({"ffcv": EVEN}, environment=replace(MADE, machine=there))
    assert differences(old, new) == [
        "power limits: ['700 W'] against ['400 W']",
        "storage, kind: ext4 against nfs4",
    ]
    assert differences(old, report_of({"ffcv": EVEN})) == []  # an older report does not say


def test_older_reports_are_read_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    older = str(ROOT / "bench/reports/loader_2-core-amd-epyc_2026-11-22.json")
    assert main(["compare", older, older]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The first report is older than schema 1" in said
    assert "1.000 (1.000–1.000)" in said


def test_what_is_no_report_is_an_error_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = written(report_of({"ffcv": EVEN}), tmp_path)
    content = json.loads(Path(good).read_text())
    bad = {
        "list": [],
        "sampleless": content | {"measurement": {"unit": "images/s"}},
        "theme": content | {"theme": "../x"},
    }
    for name, each in bad.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(each))
        assert main(["compare", good, str(tmp_path / f"{name}.json")]) == 2
        assert "is not a report of python -m bench" in capsys.readouterr().err
    assert main(["compare", good, str(tmp_path / "absent.json")]) == 2
    assert main(["compare", good]) == 2


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    report = report_of({"ffcv": EVEN}, quick=True, remarks=("a",), raw={"more": [1]}, not_measured={"dali": "absent"})
    assert load(Path(written(report, tmp_path))) == report


def test_processes_become_one_report() -> None:
    each = [report_of({"ffcv": [rounds], "dali": [rounds]}) for rounds in EVEN]
    each[1] = report_of({"ffcv": [EVEN[1]]})
    together = processes.merged(each, "python -m bench loader --processes 5")
    assert together.rates is not None
    measured = together.rates.measurement
    assert [series.name for series in measured.series] == ["ffcv"]
    assert measured.processes == 5
    assert process_rates(measured["ffcv"]) == pytest.approx([100, 101, 102, 103, 104])
    assert "in each of 5 processes" in together.origin


def test_a_process_is_asked_without_our_own_options() -> None:
    words = ["loader", "--processes", "5", "--rounds", "3", "--out=x", "--all"]
    assert processes.without_options(words, "--processes", "--out") == ["loader", "--rounds", "3", "--all"]


def test_commits_take_turns_in_checkouts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def one_process(words: list[str], checkout: Path, cache: Path) -> Report:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
        assert (checkout / "bench/__main__.py").exists()
        seen.append((checkout.name, cache.name))
        return report_of({"ffcv": [[100.0]]}, environment=replace(MADE, commit=commit.stdout.strip()))

    monkeypatch.setattr(commits, "one_process", one_process)
    old, new = commits.measure_commits(("HEAD", "HEAD"), ["loader"], 2)
    assert [name for name, _ in seen] == ["old", "new", "new", "old"]
    assert seen[0][1] != seen[1][1]
    assert old.environment.commit == new.environment.commit != MADE.commit
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not any(line.split()[0].endswith(("/old", "/new")) for line in listed.splitlines())
    with pytest.raises(DataError, match="no-such-commit"):
        commits.measure_commits(("no-such-commit", "HEAD"), ["loader"], 1)


def test_commits_are_compared_turn_by_turn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine that speeds up hides a difference of 4 % from all but a comparison of turns."""
    old = report_of({"ffcv": [[100.0 + 3 * n] for n in range(10)]})
    new = report_of({"ffcv": [[96.0 + 3 * n] for n in range(10)]})
    monkeypatch.setattr(commits, "measure_commits", lambda *words: (old, new))
    assert main(["compare", "--run", "HEAD~1", "HEAD", "loader", "--fail-below", "0.98"]) == 1
    assert "slower" in capsys.readouterr().out
    assert compare_reports(old, new).rows[0].found.verdict != "slower"


def test_a_gate_for_two_commits_asks_for_enough_turns_before_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--run", "HEAD", "HEAD", "loader", "--processes", "7", "--fail-below", "0.95"]
    assert main(words) == 2
    assert "needs 8 --processes of each commit (got 7)" in capsys.readouterr().err


def test_what_has_no_rates_is_refused_before_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--run", "HEAD", "HEAD", "doctor"]) == 2
    assert "(got doctor)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bench", "compare", "--run", "HEAD", "HEAD", "loader"]
    with subprocess.Popen(
        words, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL
    ) as run:
        while not list(tmp_path.glob("*/new/bench/__main__.py")):
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(number)
        assert run.wait(timeout=120) == 128 + number
    assert not list(tmp_path.iterdir())


def test_a_subcommand_that_fails_says_its_last_lines() -> None:
    with pytest.raises(UserError, match=r"status 2:\n(.*\n)*.*no-such"):
        processes.one_process(["no-such"])


def test_the_page_holds_rows_and_a_plot_and_no_markup_of_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = report_of({"ffcv": EVEN, HOSTILE: EVEN, "gone": EVEN}, title=HOSTILE, command=HOSTILE)
    new = report_of({"ffcv": SLOW, HOSTILE: EVEN}, title=HOSTILE, command=HOSTILE)
    out = tmp_path / "pages" / "compare.html"
    assert compared(old, new, tmp_path, "--html", str(out)) == 0
    assert str(out) in capsys.readouterr().out
    made = out.read_text(encoding="utf-8")
    assert_harmless(made)
    text = Read(made).text
    for wanted in (
        "ffcv: slower, 0.800 times the rate.",
        "no difference shown",
        "In one report only: gone.",
        "p",
        HOSTILE[:40],
    ):
        assert wanted in text
    assert re.search(r"0\.800 \(0\.7\d\d–0\.8\d\d\)", text)
    (drawn,) = (attributes["src"] for tag, attributes in Read(made).tags if tag == "img")
    assert str(drawn).startswith("data:image/svg+xml;base64,")


def test_a_page_takes_no_reports_place_and_its_folder_must_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    old = report_of({"ffcv": EVEN})
    assert compared(old, old, tmp_path, "--html", str(tmp_path / "file" / "compare.html")) == 2
    assert "Cannot write" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        compared(old, old, tmp_path, "--html", str(tmp_path / "old" / "report.json"))
    assert "must end in .html" in capsys.readouterr().err


def test_the_plots_colours_are_the_verdicts() -> None:
    def drawn(rates: list[list[float]]) -> str:
        return page.forest(compare_reports(report_of({"ffcv": EVEN}), report_of({"ffcv": rates})).rows)

    assert page.COLOURS["slower"] in drawn(SLOW)
    assert page.COLOURS["no difference shown"] in drawn(EVEN)
    assert page.COLOURS["slower"] not in drawn(EVEN)
