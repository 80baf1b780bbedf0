"""Reports as HTML pages: whole, self-contained, and nothing in them read as markup."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.report import Picture, Section
from bench.report.figures import of_section
from bench.report.publish import write
from bench.report.web import report_page, write_index
from tests.support.bench_reports import MADE, report_of
from tests.support.html_pages import HOSTILE, Read, assert_harmless

STAGES = Section(
    "Stages, CPU ms per source image",
    (
        ("stage", "ffcv", "share", "torchvision", "share"),
        ("decode", "2.200 (2.170–2.227)", "56.5%", "2.412 (2.262–2.426)", "27.7%"),
        ("upsample", "–", "–", "–", "–"),
        ("rest", "-0.032 (-0.1–0.0)", "1%", "0.720 (0.667–0.802)", "8.3%"),
        ("whole", "2.3 (2–2.5)", "100.0%", "3.1 (3–3.2)", "100.0%"),
    ),
)
CORES = Section("Cores", (("", "1 core", "2 cores"), (HOSTILE[:20], "1,284: 1; 1.00 busy", "2,509: 1.79× (1.78–1.89)")))


def test_a_page_holds_the_whole_report_with_its_verdict_first() -> None:
    report = report_of({"ffcv": [[100.0, 110, 90]], "dali": [[50.0, 55, 45]]}, remarks=("INPUT-BOUND",), quick=True)
    read = Read(report_page(replace(report, sections=(STAGES, CORES)), Picture("Bars", b"\x89PNG")))
    for wanted in ("0123456789abcdef", "images/s", "torch 2.14.1", "settings' hash", "--quick", "2.200 (2.170–2.227)"):
        assert wanted in read.text
    assert read.text.index("INPUT-BOUND") < read.text.index("images/s")
    assert [attributes["alt"] for tag, attributes in read.tags if tag == "img"] == [
        "Bars",
        "CPU milliseconds of an image, stage by stage",
        "Images per second over cores; dotted: in proportion to them",
    ]


def test_hostile_names_stay_text() -> None:
    made = replace(MADE, cpu=HOSTILE, os=HOSTILE, versions={HOSTILE: HOSTILE}, gpus=(HOSTILE,))
    report = report_of(
        {HOSTILE: [[100.0]]},
        environment=made,
        title=HOSTILE,
        command=HOSTILE,
        remarks=(HOSTILE,),
        notes=(HOSTILE,),
        settings={HOSTILE: HOSTILE},
        not_measured={HOSTILE: HOSTILE},
        sections=(Section(HOSTILE, ((HOSTILE, HOSTILE), (HOSTILE, HOSTILE)), HOSTILE), CORES, STAGES),
    )
    page = report_page(report, Picture(HOSTILE, b"\x89PNG"))
    assert_harmless(page)
    assert "<script>alert(1)</script>" in Read(page).text
    assert "\x1b" not in page
    assert "\\x1b[31m" in page


def test_pictures_of_tables_are_whole_svgs() -> None:
    for section in (STAGES, CORES):
        drawn = of_section(section)
        assert drawn is not None
        assert drawn.svg.rstrip().endswith("</svg>")
        assert "<script" not in drawn.svg
    assert of_section(Section("Bars", (("", "measured"), ("a", "1")))) is None
    assert of_section(Section("Cores", (("", "1 core"), ("a", "not measured")))) is None


def test_the_index_links_the_reports_beside_it(tmp_path: Path) -> None:
    older = report_of(
        {"ffcv": [[100.0]]}, remarks=("first verdict",), environment=replace(MADE, date="2029-01-01T00:00")
    )
    for report in (older, report_of({"ffcv": [[100.0]]}, title=HOSTILE)):
        write(report, tmp_path)
    (tmp_path / "notes.json").write_text("[]")
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert_harmless(page)
    read = Read(page)
    linked = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    assert linked == [f"./loader_2-core-amd-epyc-9554_{date}.html" for date in ("2030-01-02", "2029-01-01")]
    assert all((tmp_path / str(href)).exists() for href in linked)
    assert "first verdict" in read.text
    assert "notes.json is not a report" in read.text


def test_pages_are_made_of_the_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in write(report_of({"ffcv": [[100.0]]}), tmp_path):
        if path.suffix == ".html":
            wanted = path.read_text(encoding="utf-8")
            path.unlink()
    assert main(["pages", "--out", str(tmp_path)]) == 0
    (page,) = (path for path in tmp_path.glob("loader_*.html"))
    made = page.read_text(encoding="utf-8")
    strip = re.compile(r'alt="[^"]*"')
    assert strip.sub("", made) == strip.sub("", wanted)
    assert len(base64.b64decode(made.partition("image/png;base64,")[2].partition('"')[0])) > 1000
    assert str(page) in capsys.readouterr().out
