"""Names of files, folders and classes, made fit to leave the program.

A file system allows any byte but "/" and NUL in a name: line breaks, terminal escape codes, bytes that are not UTF-8,
and whatever some reader takes for its own syntax. Inside the program a name stays as it is; ``readable`` lets it out.
"""

import html
import os
import re
from typing import Literal

Medium = Literal["text", "markdown", "mathtext", "html", "csv"]
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!])")
"""The characters that Markdown lets a backslash escape."""


def readable(name: str | os.PathLike[str], medium: Medium = "text") -> str:
    r"""Returns ``name`` as one line that can be printed anywhere, its other characters as backslash escapes.

    Bytes that are not UTF-8 become ``\xff``, control and formatting characters ``\x1b`` or ``\u202e``. The ``medium``
    that the line goes into sees no syntax of its own in it: "text" is a terminal or a log, "markdown" TensorBoard's
    text, "mathtext" a label of matplotlib, "html" text or an attribute, "csv" a cell that no spreadsheet takes for a
    formula. For rich, wrap the text in ``rich.text.Text``: whether its markup finds a tag depends on what follows.
    """
    line = "".join(map(_escaped, os.fspath(name)))
    match medium:
        case "text":
            return line
        case "markdown":
            return _MARKDOWN.sub(r"\\\1", html.escape(line, quote=False))
        case "mathtext":
            return line.replace("$", r"\$")
        case "html":
            return html.escape(line)
        case "csv":
            return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python spells a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
