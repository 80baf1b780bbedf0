"""A page shows what it was given, as text and pictures of its own, whatever that is; it asks no host for anything."""

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

from debiaspl.report.page import (
    THUMBNAIL_SIDE,
    Figure,
    Heading,
    Paragraph,
    Sheet,
    Table,
    page,
    thumbnail,
    write_page,
)

EVIL = '<script>alert(1)</script> "quoted" \x1b[31m {{ 7 * 7 }} \udcff'
SHOWN = '<script>alert(1)</script> "quoted" \\x1b[31m {{ 7 * 7 }} \\xff'


class Read(HTMLParser):
    """What a browser finds: every text, tag and attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.texts.append(data.strip())


def everything() -> list:
    image = Image.new("RGBA", (300, 100), (255, 0, 0, 0))
    return [
        Heading(EVIL),
        Paragraph(EVIL),
        Table(["class", EVIL, "share"], [["ant", "1,234.5", EVIL], [EVIL, "–", "12 %"]], EVIL),
        Figure("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", EVIL, EVIL),
        Figure(b"\x89PNG\r\n", "a picture"),
        Sheet([thumbnail(image, EVIL, "99 %"), thumbnail(image, "b")]),
    ]


def test_names_of_any_kind_are_shown_and_are_no_markup(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, EVIL, everything())
    found = Read(path.read_text(encoding="utf-8"))
    assert "script" not in found.tags
    assert found.texts.count(SHOWN) == 10  # title twice, heading, paragraph, four of the table, two of the pictures
    assert dict(found.attributes)["alt"] == "b"
    assert ("alt", SHOWN) in found.attributes
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_nothing_is_fetched_and_both_lights_are_served():
    html = page("title", everything())
    found = Read(html)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html
    sources = [value for name, value in found.attributes if name in ("src", "href", "srcset", "action")]
    assert len(sources) == 4
    assert all(re.match(r"data:image/(svg\+xml|png|jpeg);base64,", source or "") for source in sources)
    assert not {"link", "iframe", "object", "embed", "form"} & set(found.tags)


def test_columns_of_numbers_are_aligned():
    table = Table(
        ["name", "n", "share", "mixed", "empty"], [["a", "1,234", "12.5 %", "3", ""], ["b", "–", "", "x", ""]]
    )
    assert table.is_number == [False, True, True, False, False]
    assert page("t", [table]).count('class="number"') == 6


def test_a_thumbnail_is_small_and_keeps_its_shape():
    small = thumbnail(Image.new("RGB", (300, 100), (10, 200, 30)), "name")
    image = Image.open(io.BytesIO(base64.b64decode(small.source.partition(",")[2])))
    assert image.size == (THUMBNAIL_SIDE, 37)
    assert small.alt == "name"
