"""Contact sheets: the pictures of each class that a network is most and least sure of, and the ones it gets wrong."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from debiaspl.report.page import Heading, Paragraph, Section, Sheet, Thumbnail, thumbnail
from pipelines.augment import pillow
from pipelines.samples.listing import Listing

_MOST_PICTURES = 1200
"""On one page, about: each takes some kilobytes."""
_OF_A_CLASS = 12


def sheets(
    listing: Listing,
    label: NDArray[np.int64],
    confidence: NDArray[np.float32],
    seen: NDArray[np.bool_],
    classes: Sequence[str],
) -> list[Section]:
    """Returns, for each class that pictures were taken for, those with most and with least confidence.

    ``label`` [N] and ``confidence`` [N] are the guesses for the listing's images, of which ``seen`` [N] were decoded.
    """
    found = [number for number in range(len(classes)) if (seen & (label == number)).any()]
    each = _share(2 * len(found))
    sections: list[Section] = []
    for number in found:
        rows = np.flatnonzero(seen & (label == number))
        order = rows[np.argsort(-confidence[rows], kind="stable")].tolist()
        captions = {row: [f"{100 * confidence[row]:.1f} %", listing.paths[row]] for row in order}
        sections.append(Heading(f"{classes[number]}: {len(order)} pictures"))
        if len(order) <= 2 * each:
            sections += [Paragraph("All, the surest first."), _sheet(listing, order, captions)]
        else:
            sections += [Paragraph(f"The {each} surest."), _sheet(listing, order[:each], captions)]
            sections += [Paragraph(f"The {each} least sure."), _sheet(listing, order[: -each - 1 : -1], captions)]
    return sections


def mistakes(
    listing: Listing,
    truth: NDArray[np.int64],
    label: NDArray[np.int64],
    confidence: NDArray[np.float32],
    rows: Sequence[int],
    classes: Sequence[str],
) -> list[Section]:
    """Returns a sheet per true class of the images ``rows``, which are in order; each tells what it was taken for."""
    by_class: dict[int, list[int]] = {}
    for row in rows:
        by_class.setdefault(int(truth[row]), []).append(row)
    each = _share(len(by_class))
    sections: list[Section] = []
    for number, members in sorted(by_class.items()):
        captions = {
            row: [f"{classes[label[row]]}, {100 * confidence[row]:.1f} %", listing.paths[row]] for row in members[:each]
        }
        shown = f", the {each} surest" if len(members) > each else ""
        sections.append(Heading(f"{classes[number]}: {len(members)} taken for others{shown}"))
        sections.append(_sheet(listing, members[:each], captions))
    return sections


def _share(sheets: int) -> int:
    """Returns how many pictures each of so many sheets shows."""
    return max(1, min(_OF_A_CLASS, _MOST_PICTURES // max(1, sheets)))


def _sheet(listing: Listing, rows: Iterable[int], captions: dict[int, list[str]]) -> Sheet:
    made = [_thumbnail(listing, row, captions[row]) for row in rows]
    return Sheet([each for each in made if each is not None])


def _thumbnail(listing: Listing, row: int, lines: list[str]) -> Thumbnail | None:
    """Returns a picture made small; None where its file has gone or broken since it was classified."""
    try:
        return thumbnail(pillow.decode(listing.path(row), listing.reading), *lines)
    except OSError:
        return None
