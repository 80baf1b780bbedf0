"""Which samples are labeled, which are not, and what training may know of each.

The published index files are CSVs with a column ``Index`` (the sample's index in the listing) and, where CLIP labeled
the data, ``PseudoLabel`` and ``Probs``. Only a Split reaches training, and it holds no label but those in its own
tables: its listing comes without, and with pseudo-labels the true ones are not in the tables either.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.samples.listing import UNKNOWN as UNKNOWN
from pipelines.samples.listing import Listing
from pipelines.samples.split_file import check_index_file

_NUMPY_ARRAYS: list[Any] = [
    np.empty(0).__reduce__()[0],
    np.ndarray,
    np.dtype,
    bytes,
    *(type(np.dtype(kind)) for kind in "fdlib"),
]
"""What a file may hold beside tensors and lists: arrays of floats and integers, as numpy pickles them."""


class ClipTargets(NamedTuple):
    """CLIP's guess for each of the M samples of the unlabeled listing: label (UNKNOWN: none) and its probability."""

    label: NDArray[np.int64]  # [M]
    confidence: NDArray[np.float32]  # [M]


@dataclass(frozen=True, eq=False)
class Split:
    """The labeled and unlabeled samples of one listing, or of two, whose own labels it forgets."""

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


class IndexFile(NamedTuple):
    """A published index file; ``pseudo_label`` and ``confidence`` are None where it has no such column."""

    index: NDArray[np.int64]  # type: ignore[assignment]  # [n]
    pseudo_label: NDArray[np.int64] | None  # [n]
    confidence: NDArray[np.float32] | None  # [n]


def read_split(
    listing: Listing,
    labeled_csv: Path,
    unlabeled: Path | Listing,
    clip_file: Path | None = None,
    use_clip: bool = False,
) -> Split:
    """The split that two index files describe; or one, and a listing of its own for the unlabeled samples, all of it.

    The labeled samples' labels are the file's ``PseudoLabel`` where it has that column, their folder's otherwise.
    With ``use_clip`` the unlabeled samples' CLIP targets come from ``clip_file`` (rows in the order of the index file,
    or listing, ``unlabeled``) or from that index file's own columns.

    Raises DataError for anything that does not fit the listing.
    """
    labeled = read_index_file(labeled_csv, listing)
    elsewhere, source = (unlabeled, unlabeled.root) if isinstance(unlabeled, Listing) else (None, unlabeled)
    other = read_index_file(source, listing) if elsewhere is None else IndexFile(elsewhere.indices, None, None)
    labels = np.full(len(listing), UNKNOWN, np.int64)
    known = listing.labels[labeled.index] if labeled.pseudo_label is None else labeled.pseudo_label
    labels[labeled.index] = known
    clip = None
    if use_clip:
        label, confidence = _clip_of(other, source, clip_file, len(listing.classes))
        count = len(listing if elsewhere is None else elsewhere)
        clip = ClipTargets(np.full(count, UNKNOWN, np.int64), np.zeros(count, np.float32))
        clip.label[other.index] = label
        clip.confidence[other.index] = confidence
    return Split(listing, labeled.index, other.index, labels, clip, elsewhere)


def find_file(root: Path, names: Sequence[str], *, option: str = "") -> Path:
    """Returns the first of ``names`` that exists below ``root``; ``option`` is how the user names another file."""
    for name in names:
        if (root / name).is_file():
            return root / name
    wanted = " or ".join(str(root / name) for name in names)
    raise DataError(
        f"There is no {wanted}. Put it there, make it with python tools/make_splits.py, or name another file"
        f"{f' with {option}' if option else ''}."
    )


def read_index_file(path: Path, listing: Listing) -> IndexFile:
    """Read and check one index file against its listing, and against the split file beside it if there is one."""
    try:
        content = path.read_bytes()
        check_index_file(path, content, listing)
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        columns = rows.fieldnames or []
        if "Index" not in columns:
            raise DataError(f"{path} has no column 'Index' (its columns: {', '.join(columns) or 'none'}).")
        data = [(rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Cannot read the index file {path}: {error}") from error
    if not data:
        raise DataError(f"{path} lists no sample.")

    index = _integers(path, "Index", data, len(listing), "images in the listing")
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path} lists sample {values[counts > 1][0]} more than once.")
    pseudo_label = confidence = None
    if "PseudoLabel" in columns:
        pseudo_label = _integers(path, "PseudoLabel", data, len(listing.classes), "classes")
    if "Probs" in columns:
        confidence = _probabilities(path, [row["Probs"] for _, row in data])
    return IndexFile(index, pseudo_label, confidence)


def _integers(
    path: Path, column: str, rows: list[tuple[int, dict[str, str]]], limit: int, what: str
) -> NDArray[np.int64]:
    """A column of integers in 0..limit-1 from (line number, row); pandas writes some of them as '12.0'."""
    values = np.empty(len(rows), np.int64)
    for place, (line, row) in enumerate(rows):
        text = row[column]
        try:
            number = float(text)
        except (TypeError, ValueError):
            number = float("nan")
        if not (number.is_integer() and 0 <= number < limit):
            raise DataError(
                f"{path}, line {line}: {column} is {text!r}, but must be a whole number from 0 to {limit - 1} "
                f"({limit} {what})."
            )
        values[place] = int(number)
    return values


def _probabilities(path: Path, texts: list[str]) -> NDArray[np.float32]:
    try:
        values = np.asarray([float(text) for text in texts], np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: column Probs must hold numbers ({error}).") from error
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"{path}: column Probs must lie within 0 and 1.")
    return values


def _clip_of(
    unlabeled: IndexFile, source: Path, clip_file: Path | None, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """CLIP's label and confidence for each row of the unlabeled index file (or image of the folder) ``source``."""
    if clip_file is not None:
        return read_clip_file(clip_file, len(unlabeled.index), classes)
    if unlabeled.pseudo_label is None or unlabeled.confidence is None:
        raise NoClipTargets(
            f"Training is to use CLIP targets, but {source} brings none (an index file would in columns PseudoLabel "
            "and Probs), and no predictions file is named. Make one with: python tools/make_clip_targets.py"
        )
    return unlabeled.pseudo_label, unlabeled.confidence


def read_clip_file(path: Path, rows: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Label [rows] and confidence [rows] from a published ``…_clip_predictions_ranked.pth.tar``.

    The file maps ``preds_list`` and ``probs_list`` to [rows, classes] tables, ranked by probability.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_ARRAYS):
            content = torch.load(path, map_location="cpu", weights_only=True)
        ranked, probabilities = torch.as_tensor(content["preds_list"]), torch.as_tensor(content["probs_list"])
    except FileNotFoundError as error:
        raise DataError(
            f"There is no CLIP predictions file {path}. Make it with: python tools/make_clip_targets.py"
        ) from error
    except Exception as error:  # torch.load raises whatever the damage makes it raise
        raise DataError(
            f"{path} is not a CLIP predictions file with preds_list and probs_list ({type(error).__name__}: "
            "damaged, or it holds more than tables)."
        ) from error
    if ranked.ndim != 2 or ranked.shape != probabilities.shape or len(ranked) != rows or not ranked.numel():
        raise DataError(
            f"{path} must hold preds_list and probs_list of {rows} rows each, one per row of the unlabeled index file "
            f"or image of the unlabeled folder (got {tuple(ranked.shape)} and {tuple(probabilities.shape)})."
        )
    label, confidence = ranked[:, 0], probabilities.float().amax(1)
    wrong = (label < 0) | (label >= classes) | (label != label.long())
    if wrong.any():
        raise DataError(f"{path} predicts class {label[wrong][0].item()}, but the data has {classes} classes.")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise DataError(f"{path}: probabilities must lie within 0 and 1 (got up to {confidence.max().item():g}).")
    return label.long().numpy(), confidence.numpy()
