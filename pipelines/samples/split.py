"""Which samples are labeled, which are not, and what training may know of each.

Only a Split reaches training, and it holds no label but those in its own tables: its listing comes without, and with
pseudo-labels the true ones are not in the tables either.
"""

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.samples.index_file import IndexFile, read_index_file
from pipelines.samples.listing import UNKNOWN as UNKNOWN
from pipelines.samples.listing import Listing


class ClipTargets(NamedTuple):
    """Holds CLIP's label (UNKNOWN: none) and its probability for each of the M samples of the unlabeled listing."""

    label: NDArray[np.int64]  # [M]
    confidence: NDArray[np.float32]  # [M]


@dataclass(frozen=True, eq=False)
class Split:
    """Holds the labeled and unlabeled samples of one listing, or of two, whose own labels it forgets."""

    listing: Listing  # without labels, whatever was given
    labeled: NDArray[np.int64]  # indices in ``listing``
    unlabeled: NDArray[np.int64]  # indices in ``unlabeled_listing``
    labels: NDArray[np.int64]  # [N] label of each labeled sample, UNKNOWN for all others
    clip: ClipTargets | None
    elsewhere: Listing | None = None  # where the unlabeled samples lie in a folder of their own

    def __post_init__(self) -> None:
        object.__setattr__(self, "listing", self.listing.without_labels())

    @property
    def unlabeled_listing(self) -> Listing:
        """The listing of the unlabeled samples."""
        return self.listing if self.elsewhere is None else self.elsewhere

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the listings and everything that training sees of them."""
        digest = hashlib.sha256(self.listing.fingerprint.encode())
        if self.elsewhere is not None:
            digest.update(self.elsewhere.fingerprint.encode())
        for array in (self.labeled, self.unlabeled, self.labels, *(self.clip or ())):
            digest.update(np.ascontiguousarray(array).tobytes() + b"\0")
        return digest.hexdigest()


class NoClipTargets(DataError):
    """CLIP targets are asked for, but nothing brings them."""


def read_split(
    listing: Listing,
    labeled_csv: Path | None,
    unlabeled: Path | Listing | None,
    clip_file: Path | None = None,
    use_clip: bool = False,
) -> Split:
    """Returns the split that two index files describe, or one and a listing of its own for the unlabeled samples.

    Of such a listing all samples are unlabeled. Without an index file all samples are labeled, and the labeled ones are
    the unlabeled ones, too. The labeled samples' labels are the file's ``PseudoLabel`` where it has that column, their
    folder's otherwise.
    With ``use_clip`` the unlabeled samples' CLIP targets come from ``clip_file`` (rows in the order of the index file,
    or listing, ``unlabeled``) or from that index file's own columns.

    Raises DataError for anything that does not fit the listing.
    """
    labeled = read_index_file(labeled_csv, listing) if labeled_csv else IndexFile(listing.indices, None, None)
    elsewhere, source = (unlabeled, unlabeled.root) if isinstance(unlabeled, Listing) else (None, unlabeled)
    if elsewhere is not None or source is None:
        other = IndexFile(labeled.index if elsewhere is None else elsewhere.indices, None, None)
    else:
        other = read_index_file(source, listing)
    labels = np.full(len(listing), UNKNOWN, np.int64)
    known = listing.labels[labeled.index] if labeled.pseudo_label is None else labeled.pseudo_label
    labels[labeled.index] = known
    clip = None
    if use_clip:
        label, confidence = _clip_of(
            other, source or listing.root, listing.root.parent, clip_file, len(listing.classes)
        )
        count = len(listing if elsewhere is None else elsewhere)
        clip = ClipTargets(np.full(count, UNKNOWN, np.int64), np.zeros(count, np.float32))
        clip.label[other.index] = label
        clip.confidence[other.index] = confidence
    return Split(listing, labeled.index, other.index, labels, clip, elsewhere)


def find_file(root: Path, names: Sequence[str], *, option: str = "") -> Path | None:
    """Returns the first of ``names`` that exists below ``root``; None where there are no names.

    Raises DataError where none exists; ``option`` is how the user names another file.
    """
    if not names:
        return None
    for name in names:
        if (root / name).is_file():
            return root / name
    wanted = " or ".join(str(root / name) for name in names)
    raise DataError(
        f"There is no {readable(wanted)}. Put it there, name another file{f' with {option}' if option else ''}, or "
        f"{_command_for(root, names)}"
    )


def _command_for(root: Path, names: Sequence[str]) -> str:
    """Returns the end of a sentence: the command that makes an index file of such a name."""
    for name in names:
        if percent := re.search(r"train_?(\d+(?:\.\d+)?)p_index\.csv$", name):
            share = Fraction(percent[1])
            rule = f"percent {float(min(share, 100 - share)):g}"
        elif count := re.search(r"train_(\d+)perclass_(?:rest_)?index\.csv$", name):
            rule = f"per-class {count[1]}"
        else:
            continue
        return f"make it with: python -m debiaspl splits {rule} --data {shlex.quote(str(root))}"
    return "make index files with: python -m debiaspl splits --help"


def _clip_of(
    unlabeled: IndexFile, source: Path, data: Path, clip_file: Path | None, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """CLIP's label and confidence for each row of the unlabeled index file (or image of the folder) ``source``."""
    if clip_file is not None:
        from pipelines.samples.clip_file import read_clip_file  # imports torch: seconds

        return read_clip_file(clip_file, len(unlabeled.index), classes)
    if unlabeled.pseudo_label is None or unlabeled.confidence is None:
        raise NoClipTargets(
            f"Training is to use CLIP targets, but {readable(source)} brings none (an index file would in columns "
            "PseudoLabel and Probs), and no predictions file is named. Make one with:\n  python "
            f"-m debiaspl clip-targets --data {shlex.quote(str(data))} --unlabeled {shlex.quote(str(source))}"
        )
    return unlabeled.pseudo_label, unlabeled.confidence
