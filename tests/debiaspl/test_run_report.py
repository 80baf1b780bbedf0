"""A run's report: what it shows is what is known, names are harmless, and its charts hold their values."""

import math
import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from debiaspl.evaluation.guesses import Guesses
from debiaspl.recipes import find
from debiaspl.records import Record
from debiaspl.report import charts
from debiaspl.report.run_page import Snapshot, ValidationGuesses, write_report
from pipelines.samples.listing import list_images

HOSTILE = "<script>alert(1)<|script>&\"'$x^$\x1b[31m"


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Of a run on two classes with three validation images, of which one is taken for the other class."""
    classes = (f"ant{HOSTILE}", "bee")
    for number, name in enumerate((classes[0], classes[0], classes[1])):
        path = tmp_path / "val" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (80 * number, 0, 0)).save(path)
    listing = list_images(tmp_path / "val")
    guesses = Guesses(np.array([[0], [1], [1]]), np.array([[0.9], [0.75], [0.6]], np.float32), np.ones(3, bool))
    records = [
        Record(2, 0.0, {"train/total": 1.5, "speed/images_per_s": 1234.0, "speed/steps_per_s": 2.5,
                        "speed/waiting_share": 0.125}),
        Record(2, 0.0, {"val/student_balanced": 75.0, "val/teacher_balanced": math.nan}),
    ]  # fmt: skip
    counts = np.array([[[3.0, 1.0], [2.0, 0.0]], [[2.0, 2.0], [1.0, 1.0]]])
    found = ValidationGuesses("student", listing, np.array([0, 0, 1]), guesses)
    views = torch.zeros(4, 2, 8, 8, 3, dtype=torch.uint8)
    return Snapshot(find("demo"), 2, records, classes, counts, np.array([2.0, 2.0]), found, views)


def test_the_page_shows_what_is_known_and_loads_nothing(snapshot, tmp_path):
    write_report(tmp_path / "report.html", snapshot)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "After epoch 1 of 60, 2 steps." in page
    assert "66.67 % top-1, 75.00 % balanced" in page
    assert ">1,234<" in page
    assert ">12.5 %<" in page
    assert "bee, 75.0 %" in page  # the mistake
    assert page.count(">picture 2, strong 2<") == 1
    assert ">science.tau<" in page
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_its_figures_are_well_formed(snapshot, tmp_path):
    write_report(tmp_path / "report.html", snapshot)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    figures = [b64decode(found) for found in re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page)]
    assert len(figures) == 9
    assert any(b"alert(1)" in svg for svg in figures)
    for svg in figures:
        assert {element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()} <= {
            "svg", "style", "rect", "text", "line", "polyline", "circle", "title"
        }  # fmt: skip


def test_before_the_first_step_there_are_no_views(snapshot, tmp_path):
    from dataclasses import replace

    write_report(tmp_path / "report.html", replace(snapshot, views=None, records=[], truth=None))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Views as the networks see them" not in page
    assert "KL from" in b64decode(re.findall(r"svg\+xml;base64,([\w+/=]+)", page)[6]).decode()


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 1.0], [0.0, 0.5, 1.0]),
        ([3.0, 97.0], [0.0, 50.0, 100.0]),
        ([5.0, 5.0], [2.0, 4.0, 6.0, 8.0]),
        ([math.nan, 1.0, 1.3], [1.0, 1.1, 1.2, 1.3]),
        ([], [-0.5, 0.0, 0.5]),
    ],
)
def test_ticks_are_round_and_hold_all_values(values, ticks):
    found = charts._ticks(values)
    assert found == pytest.approx(ticks)


def test_a_line_goes_where_its_values_are():
    svg = charts.lines(
        "t", {"a": ("red", [(0.0, 0.0), (1.0, 10.0), (2.0, math.inf), (4.0, 5.0)])}, "x", width=900, height=230
    )
    (points,) = re.findall(r'<polyline points="([^"]+)"', svg)
    spots = [tuple(map(float, spot.split(","))) for spot in points.split()]
    assert len(spots) == 3  # what is not finite is left out
    (left, bottom), (quarter, top), (right, middle) = spots
    assert quarter - left == pytest.approx((right - left) / 4, abs=0.1)
    assert middle == pytest.approx((bottom + top) / 2, abs=0.1)
    assert top < bottom


def test_long_curves_are_thinned_and_keep_their_end():
    points = [(float(step), float(step)) for step in range(10_001)]
    found = charts._thinned(points)
    assert len(found) <= 450
    assert found[-1] == points[-1]
