"""Any name can leave the program: it stays one line, and no reader finds syntax of its own in it."""

import html
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import cbook

from pipelines.names import readable

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1)
BYTES = st.binary(min_size=1).map(lambda name: os.fsdecode(name.replace(b"/", b"").replace(b"\0", b"") or b"x"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("n01440764", "n01440764"),
        ("zébu 象 🐘", "zébu 象 🐘"),
        (os.fsdecode(b"\xff\xe9t\xe9"), r"\xff\xe9t\xe9"),
        ("red\x1b[31m\x07", r"red\x1b[31m\x07"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("evil\u202egpj.exe", r"evil\u202egpj.exe"),
        ("\x9b2J", r"\x9b2J"),
    ],
)
def test_a_name_becomes_one_printable_line(name, line):
    assert readable(name) == line


@given(st.one_of(NAMES, BYTES))
def test_every_name_is_printable_and_can_be_encoded(name):
    for medium in ("text", "markdown", "mathtext", "html", "csv"):
        line = readable(name, medium)
        assert line.isprintable()
        line.encode()


@given(st.one_of(NAMES, BYTES, st.text("$\\^x_{", min_size=1)))
def test_matplotlib_finds_no_formula(name):
    assert not cbook.is_math_text(readable(name, "mathtext"))


@given(st.text("<>&\"'a", min_size=1))
def test_html_shows_the_name(name):
    line = readable(name, "html")
    assert not set(line) & set("<>\"'")
    assert html.unescape(line) == name


def test_a_spreadsheet_finds_no_formula():
    for name in ("=1+1", "+1", "-1", "@SUM(A1)"):
        assert readable(name, "csv") == f"'{name}"
    assert readable("a=1", "csv") == "a=1"


def test_tensorboard_shows_the_name():
    markdown = pytest.importorskip("markdown")
    for name in ("**bold** _x_ `code`", "<script>alert(1)</script>", "[a](http://x)", "# title", "- item", "1. one"):
        shown = markdown.markdown(readable(name, "markdown"))
        assert html.unescape(shown) == f"<p>{name}</p>"
