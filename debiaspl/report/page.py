"""Writes one HTML page that holds all it shows: pictures are data URIs, no script runs, and no host is asked.

Texts may hold anything: what a terminal or HTML would take for its own is shown as it is spelt. For example::

    sections = [Heading("Accuracy"), Table(["class", "right"], [["ant", "12"], ["bee", "9"]]), Figure(svg, "Curves")]
    write_page(Path("report.html"), "runs/demo", sections)
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from pipelines.files import replacing
from pipelines.names import readable

if TYPE_CHECKING:
    from PIL import Image

THUMBNAIL_SIDE = 112
"""Longest side of a thumbnail, in pixels."""
_NUMBER = re.compile(r"[-+−±]?[\d.,  ]*\d\s?(%|s|ms)?|–|")


@dataclass(frozen=True)
class Heading:
    """Begins a part of the page."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Paragraph:
    """Holds one paragraph of plain text."""

    text: str
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Table:
    """Holds rows of texts; a column in which every cell reads as a number is aligned to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: ClassVar[str] = "table"

    @cached_property
    def is_number(self) -> list[bool]:
        """Returns whether each column holds numbers, of which '–' and an empty cell are missing ones."""
        columns = [[row[at] for row in self.rows] for at in range(len(self.header))]
        return [any(cells) and all(cell == "" or _NUMBER.fullmatch(cell) for cell in cells) for cells in columns]


@dataclass(frozen=True)
class Figure:
    """Holds a picture: the text of an SVG, or the bytes of a PNG or JPEG; ``alt`` says what it shows."""

    content: str | bytes
    alt: str
    caption: str = ""
    kind: ClassVar[str] = "figure"

    @property
    def source(self) -> str:
        """Returns the picture as a data URI; an SVG in an <img> runs no script and fetches nothing."""
        return _data_uri(self.content)


@dataclass(frozen=True)
class Thumbnail:
    """Holds one small picture of a contact sheet, the bytes of a JPEG or PNG, and the lines below it."""

    content: bytes
    lines: Sequence[str]

    @property
    def alt(self) -> str:
        """Returns what stands for the picture where it is not shown: its first line."""
        return next(iter(self.lines), "")

    @property
    def source(self) -> str:
        """Returns the picture as a data URI."""
        return _data_uri(self.content)


@dataclass(frozen=True)
class Sheet:
    """Holds a contact sheet: thumbnails side by side, in order."""

    thumbnails: Sequence[Thumbnail]
    kind: ClassVar[str] = "sheet"


@dataclass(frozen=True)
class Links:
    """Holds a list of links to files that lie beside the page: each file's name, and what is read."""

    entries: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "links"

    @property
    def hrefs(self) -> list[tuple[str, str]]:
        """Each link's address, which no name can lead to another host or folder, and its text."""
        return [(f"./{quote(name, safe='')}", text) for name, text in self.entries]


Section = Heading | Paragraph | Table | Figure | Sheet | Links


def thumbnail(image: "Image.Image", *lines: str) -> Thumbnail:
    """Returns a thumbnail of a picture, at most THUMBNAIL_SIDE pixels wide and high, with lines below it."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return Thumbnail(buffer.getvalue(), lines)


def page(title: str, sections: Sequence[Section]) -> str:
    """Returns the page's HTML."""
    from jinja2 import Environment, FileSystemLoader  # slow to import: --help need not wait for it

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(title=title, sections=sections)


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes the page to ``path``, which is either the old or the new one at any time. Raises OSError."""
    text = page(title, sections)
    with replacing(path) as building:
        building.write_text(text, encoding="utf-8")


def _printable(value: Any) -> Any:
    """Returns a text without control characters and lone surrogates; data URIs, which have none, as they are."""
    is_picture = isinstance(value, str) and value.startswith("data:image/")
    return readable(value) if isinstance(value, str) and not is_picture else value


def _data_uri(content: str | bytes) -> str:
    if isinstance(content, str):
        kind, data = "svg+xml", content.encode("utf-8", "backslashreplace")
    else:
        kind, data = "png" if content.startswith(b"\x89PNG") else "jpeg", content
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
