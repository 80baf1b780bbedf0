"""Reads what a Markdown page says: its paragraphs, sentences, links, anchors and commands."""

import re
import shlex
from collections.abc import Iterator

_FENCE = re.compile(r"^```(\w*).*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def paragraphs(text: str) -> Iterator[str]:
    """Yields paragraphs and list items, each as one line, without tables, headings and fenced blocks."""
    for block in re.split(r"\n\s*\n", _FENCE.sub("\n\n", text)):
        lines = [line for line in block.splitlines() if not re.match(r"\s*\||#", line)]
        for part in re.split(r"\n(?=[-*] |\d+\. )", "\n".join(lines)):
            if part.strip():
                yield " ".join(part.split())


def sentences(paragraph: str) -> list[str]:
    """Returns the sentences of ``paragraph``; an address in a link is no word of one."""
    return re.split(r"(?<=[.!?])[*_)]*\s+(?=[A-Z\[`*(])", re.sub(r"\]\([^)]*\)", "]", paragraph))


def links(text: str) -> list[str]:
    """Returns the targets of the page's links and pictures."""
    return _LINK.findall(_FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Returns the anchors that GitHub gives to the page's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[list[str]]:
    """Yields the words of each command in the page's shell blocks, without comments."""
    for language, block in _FENCE.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield words
