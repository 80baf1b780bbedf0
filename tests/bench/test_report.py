"""Report files: complete, atomic, and nothing in them read as markup."""

import io
import json
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from bench.environment import Environment, record
from bench.measure import Measurement, Sample, Series
from bench.report import Picture, Rates, Reference, Report, Section
from bench.report.document import show
from bench.report.publish import write
from tests.soak.run import report as soak_report
from tests.support.bench_reports import MADE


def environment(**changes: object) -> Environment:
    return replace(MADE, **changes)


@pytest.fixture
def example() -> Report:
    slow = Series("slow", (Sample(0, 0, 10, 1.0), Sample(1, 1, 10, 1.0)))
    fast = Series("fast|er [b] $x$", (Sample(0, 1, 40, 1.0), Sample(1, 0, 80, 1.0)))
    return Report(
        theme="demo",
        title="A <b>title</b>",
        command="python -m bench demo",
        environment=environment(),
        settings={"threads": 2},
        rates=Rates(
            Measurement("images/s", 2, 1, (slow, fast)),
            references=(Reference("vs slow", "slow"), Reference("of fast", fast.name, percent=True)),
            facts={"decodes": {"slow": "1"}},
        ),
        not_measured={"other": "needs [a] package"},
        notes=("one note",),
    )


def test_the_four_files(example: Report, tmp_path: Path) -> None:
    paths = write(example, tmp_path / "new")
    stem = "demo_2-core-amd-epyc-9554_2030-01-02"
    assert {path.name for path in paths} == {f"{stem}.{suffix}" for suffix in ("json", "md", "html", "png")}
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in paths}


def test_json_has_everything(example: Report, tmp_path: Path) -> None:
    write(example, tmp_path)
    found = json.loads((tmp_path / f"{example.stem}.json").read_text())
    assert found["environment"]["hardware"] == "2-core-amd-epyc-9554"
    assert found["environment"]["versions"] == {"torch": "2.14.1"}
    assert found["environment"]["commit"] == "0123456789abcdef"
    assert (found["schema"], found["quick"], len(found["settings_hash"])) == (1, False, 16)
    assert found["environment"]["machine"]["numa_nodes"] == 1
    assert found["environment"]["load_after"] == [1.0, 0.5, 0.3]
    assert found["measurement"]["rounds"] == 2
    assert found["measurement"]["series"][0]["samples"][1] == {
        "round": 1,
        "turn": 1,
        "units": 10,
        "seconds": 1.0,
        "process": 0,
    }
    assert found["summary"]["fast|er [b] $x$"]["rate"] == {"median": 60.0, "low": 50.0, "high": 70.0}
    assert found["summary"]["fast|er [b] $x$"]["ratios"]["vs slow"] == {"median": 6.0, "low": 5.0, "high": 7.0}
    assert found["not_measured"] == {"other": "needs [a] package"}


def test_a_folder_whose_name_is_no_utf8_is_written_as_it_can_be_read(example: Report, tmp_path: Path) -> None:
    write(replace(example, settings={"data": "/data/\udcff"}), tmp_path)
    assert json.loads((tmp_path / f"{example.stem}.json").read_text())["settings"] == {"data": "/data/\\xff"}


def test_markdown_table(example: Report, tmp_path: Path) -> None:
    write(example, tmp_path)
    text = (tmp_path / f"{example.stem}.md").read_text()
    assert "| slow | 10 | 10–10 | 1 | 16.7 % (15.6–21.9) | 1 |" in text
    assert "| fast\\|er \\[b\\] $x$ | 60 | 50–70 | 6.00× (5.00–7.00) | 100 % | – |" in text
    assert "# A &lt;b&gt;title&lt;/b&gt;" in text
    assert "Not measured: other: needs \\[a\\] package" in text
    assert "not idle" not in text
    for wanted in ("one note", "python -m bench demo", "0123456789abcdef", "torch 2.14.1", "0.1 0.2 0.3 → 1.0 0.5 0.3"):
        assert wanted in text


def test_a_busy_machine_and_local_changes_are_said(example: Report, tmp_path: Path) -> None:
    busy = replace(example, environment=environment(load_before=(1.5, 1.0, 1.0), dirty=True))
    write(busy, tmp_path)
    text = (tmp_path / f"{busy.stem}.md").read_text()
    assert "not idle" in text
    assert "with local changes" in text


def test_chart_is_a_picture(example: Report, tmp_path: Path) -> None:
    write(example, tmp_path)
    with Image.open(tmp_path / f"{example.stem}.png") as image:
        image.load()
        assert min(image.size) > 300


def test_without_rates_the_tables_are_all(tmp_path: Path) -> None:
    """As demo, parity and soak write it: sections and raw numbers, a picture only where there is one."""
    rows = (("", "accuracy"), ("first", "89.8"))
    plain = Report(
        theme="plain",
        title="Accuracy",
        command="make plain",
        environment=environment(),
        remarks=("All bars are met.",),
        sections=(Section("Table", rows, raw={"of": "table"}),),
        raw={"accuracy": [89.8]},
    )
    assert sorted(path.suffix for path in write(plain, tmp_path)) == [".html", ".json", ".md"]
    found = json.loads((tmp_path / f"{plain.stem}.json").read_text())
    assert found["accuracy"] == [89.8]
    table = {"title": "Table", "rows": [["", "accuracy"], ["first", "89.8"]], "note": "", "raw": {"of": "table"}}
    assert found["sections"] == [table]
    text = (tmp_path / f"{plain.stem}.md").read_text()
    assert "- **All bars are met.**" in text
    assert "| first | 89.8 |" in text
    assert "interleaved" not in text
    assert "![" not in text
    shown = replace(plain, picture=Picture("dots", b"png"))
    assert (tmp_path / f"{plain.stem}.png") in write(shown, tmp_path)
    assert f"![dots]({plain.stem}.png)" in (tmp_path / f"{plain.stem}.md").read_text()


def test_terminal_shows_names_as_they_are(example: Report) -> None:
    console = Console(file=io.StringIO(), width=120)
    show(example, console)
    text = console.file.getvalue()
    assert "fast|er [b] $x$" in text
    assert "Not measured: other: needs [a] package" in text


def test_a_failed_write_leaves_the_old_report(example: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(example, tmp_path)
    before = {path: path.read_bytes() for path in paths}

    def fails(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write(replace(example, title="Another"), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("cpu", "slug"),
    [
        ("AMD EPYC", "2-core-amd-epyc"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "2-core-intel-xeon-e5-2680-v4"),
        ("", "2-core-cpu"),
        ("../../x", "2-core-x"),
    ],
)
def test_hardware_names_files(cpu: str, slug: str) -> None:
    assert environment(cpu=cpu).hardware == slug


def test_this_machine_is_recorded() -> None:
    found = record().ended()
    assert found.cores == len(os.sched_getaffinity(0))
    assert {"torch", "numpy", "numba", "pillow", "libjpeg-turbo (system)"} <= found.versions.keys()
    assert len(found.load_before) == len(found.load_after) == 3
    assert found.memory_gib > 0
    assert json.dumps(found.versions)


def test_long_counts_are_a_report_too(tmp_path: Path) -> None:
    suite = ElementTree.fromstring(
        "<s><testcase name='kill[1]' time='12.4'/><testcase name='leak' time='3'><failure/></testcase></s>"
    )
    written = soak_report(list(suite.iter("testcase")), environment())
    write(written, tmp_path)
    text = (tmp_path / "soak_2-core-amd-epyc-9554_2030-01-02.md").read_text()
    assert "| kill\\[1\\] | passed | 12 |" in text
    assert "| leak | failure | 3 |" in text
