"""Index files: CSVs with a column ``Index``, and ``PseudoLabel`` and ``Probs`` where a model labeled the data.

``Index`` is the sample's index in the listing. Other columns are not looked at, but a name that is nearly one of these
three is refused: a misspelt PseudoLabel would silently bring the folders' own labels instead.
"""

import csv
import difflib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.files import read_regular
from pipelines.names import readable
from pipelines.samples.listing import Listing
from pipelines.samples.split_file import check_index_file

_LARGEST = 1 << 30
"""Bytes; some 30 million samples with pseudo-labels."""
_NAMES = {"Index": 0.6, "PseudoLabel": 0.8, "Probs": 0.8}
"""Column → how alike another name must be (difflib's ratio) to be taken for a misspelling of it."""
_WHOLE = re.compile(r" *([0-9]{1,18})(\.0*)? *")  # pandas writes some columns of integers as '12.0'
_DECIMAL = re.compile(r" *([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})? *")


class IndexFile(NamedTuple):
    """Holds a published index file; ``pseudo_label`` and ``confidence`` are None where it has no such column."""

    index: NDArray[np.int64]  # type: ignore[assignment]  # [n]
    pseudo_label: NDArray[np.int64] | None  # [n]
    confidence: NDArray[np.float32] | None  # [n]


class _Table(NamedTuple):
    """The needed columns' cells as the file has them, and the line that each row stands in."""

    lines: list[int]
    cells: dict[str, list[str]]  # column → a cell per line


def read_index_file(path: Path, listing: Listing) -> IndexFile:
    """Reads one index file and checks it against its listing, and against the split file beside it if there is one.

    Raises DataError for a file that cannot be read, and for any name or cell that is not what it should be.
    """
    try:
        content = read_regular(path, _LARGEST)
        check_index_file(path, content, listing)
        table = _read_table(path, content.decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"Cannot read the index file {readable(path)}: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Cannot read the index file {readable(path)}: {error}. Save it as a CSV in UTF-8.") from error
    if not table.lines:
        raise DataError(f"{readable(path)} lists no sample.")

    whole = _whole(len(listing), "images in the listing")
    index = np.asarray(_column(path, table, "Index", *whole), np.int64)
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{readable(path)} lists sample {values[counts > 1][0]} more than once.")
    pseudo_label = confidence = None
    if "PseudoLabel" in table.cells:
        whole = _whole(len(listing.classes), "classes")
        pseudo_label = np.asarray(_column(path, table, "PseudoLabel", *whole), np.int64)
    if "Probs" in table.cells:
        confidence = np.asarray(_column(path, table, "Probs", _probability, "a number from 0 to 1"), np.float32)
    return IndexFile(index, pseudo_label, confidence)


def _read_table(path: Path, text: str) -> _Table:
    """Raises DataError for columns that are missing, misspelt or there twice, and for rows of too few or many cells."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = next(rows, [])
    _check_names(path, names)
    places = {name: names.index(name) for name in _NAMES if name in names}
    table = _Table([], {name: [] for name in places})
    for row in rows:
        if not row:  # an empty line
            continue
        if len(row) > len(names):
            raise DataError(
                f"{readable(path)}, line {rows.line_num}: it has {len(row)} cells, but the header has {len(names)}."
            )
        for name, place in places.items():
            if place >= len(row):
                raise DataError(
                    f"{readable(path)}, line {rows.line_num}: it has no cell for {name} (the line: {','.join(row)!r})."
                )
            table.cells[name].append(row[place])
        table.lines.append(rows.line_num)
    return table


def _check_names(path: Path, names: list[str]) -> None:
    shown = ", ".join(map(repr, names)) or "none"
    for name, alike in _NAMES.items():
        if names.count(name) > 1:
            raise DataError(f"{readable(path)} has the column {name!r} more than once. Keep one of them.")
        if name in names:
            continue
        others = {other.strip().casefold(): other for other in names if other not in _NAMES}
        near = difflib.get_close_matches(name.casefold(), others, 1, alike)
        if near:
            raise DataError(
                f"{readable(path)} has no column {name!r} (its columns: {shown}). Did you mean {name!r} by "
                f"{others[near[0]]!r}? Rename that column."
            )
        if name == "Index":
            raise DataError(f"{readable(path)} has no column 'Index' (its columns: {shown}).")


def _column(path: Path, table: _Table, name: str, parse: Callable[[str], float | None], wanted: str) -> list[float]:
    """Returns a column's numbers. Raises DataError for the first cell that ``parse`` gives None for."""
    values = []
    for line, text in zip(table.lines, table.cells[name], strict=True):
        value = parse(text)
        if value is None:
            raise DataError(f"{readable(path)}, line {line}: {name} is {text!r}, but must be {wanted}.")
        values.append(value)
    return values


def _whole(limit: int, what: str) -> tuple[Callable[[str], int | None], str]:
    """Returns a parser of the integers from 0 to ``limit`` - 1, and these in words."""

    def parse(text: str) -> int | None:
        found = _WHOLE.fullmatch(text)
        return value if found and (value := int(found[1])) < limit else None

    return parse, f"a whole number from 0 to {limit - 1} ({limit} {what})"


def _probability(text: str) -> float | None:
    return value if _DECIMAL.fullmatch(text) and (value := float(text)) <= 1 else None
