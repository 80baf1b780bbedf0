"""HTML pages as a test reads them, and text that would be markup if it were let in."""

import re
from html.parser import HTMLParser

HOSTILE = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)> \x1b[31m \udcff \"'&"


class Read(HTMLParser):
    """The tags with attributes, and the text, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(page: str) -> None:
    """No script, no handler, and nothing fetched but what the page brings."""
    for tag, attributes in Read(page).tags:
        assert tag not in ("script", "iframe", "object", "link", "base", "form"), tag
        assert not any(name.startswith("on") for name in attributes), attributes
        for name in ("src", "href", "srcset", "action", "background"):
            assert re.match(r"data:image/|\./[^/:]+$", attributes.get(name) or "./x"), attributes
