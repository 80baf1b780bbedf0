"""Finds what a built site would load from other hosts: python tools/check_site.py build/site."""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from pipelines import console
from pipelines.names import readable

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Tag → the attribute whose address a browser loads by itself. A link of an <a> waits for the reader's click."""
_LOADED_BY_STYLE = re.compile(r"""(?:@import\s*|url\()\s*["']?((?:https?:)?//[^"')\s;]+)""")


class _Loaded(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes the address, if ``tag`` is one that loads something."""
        self.addresses.append(dict(attrs).get(_LOADED.get(tag, "")) or "")


def foreign(text: str, suffix: str) -> list[str]:
    """Returns the addresses on other hosts that a page or style sheet, by its ``suffix``, loads."""
    if suffix == ".css":
        return _LOADED_BY_STYLE.findall(text)
    page = _Loaded()
    page.feed(text)
    found = [address for address in page.addresses if re.match(r"(https?:)?//", address)]
    return found + _LOADED_BY_STYLE.findall(text)


def check(site: Path) -> Iterator[str]:
    """Yields one line for each address on another host that a file below ``site`` loads."""
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            for address in foreign(path.read_text(encoding="utf-8"), path.suffix):
                yield f"{path}: loads {address}"


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if the site loads nothing from other hosts, 1 after naming what it loads, 2 without a site."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1 or not any(Path(arguments[0]).rglob("*.html")):
        console.say("Name the folder of a built site: python tools/check_site.py build/site", error=True)
        return 2
    found = list(check(Path(arguments[0])))
    console.say("\n".join(found) or f"{readable(arguments[0])} loads nothing from other hosts.")
    return 1 if found else 0


if __name__ == "__main__":
    console.run(main)
