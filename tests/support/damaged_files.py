"""Files that users bring or caches keep, each with a reader, and damaged copies of them drawn from a seed."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from debiaspl.import_weights import import_weights
from debiaspl.models.trunks import build_trunk
from pipelines.errors import UserError
from pipelines.samples import listing_cache, split_file
from pipelines.samples.clip_file import read_clip_file
from pipelines.samples.index_file import read_index_file
from pipelines.samples.listing import Listing, list_images

COMMAND = "python tools/make_splits.py percent 1 --seed 0"


class Readable(NamedTuple):
    """A whole file, and how it is read."""

    path: Path
    read: Callable[[], Any]  # what it means, comparable by ==; raises UserError
    sealed: bool = True  # whether a change of its content can be noticed at all


class Outcomes(NamedTuple):
    """How many damaged copies were refused, and how many gave what the whole file gives."""

    refused: int
    same: int


def count_outcomes(file: Readable, copies: int, seed: int) -> Outcomes:
    """Reads damaged copies in place of the file. Raises AssertionError for one that silently means something else.

    Whatever the reader raises beside UserError passes through.
    """
    whole, expected = file.path.read_bytes(), file.read()
    refusals: list[str] = []
    for number, content in enumerate(damaged(whole, copies, seed)):
        file.path.unlink(missing_ok=True)
        file.path.write_bytes(content)
        try:
            found = file.read()
        except UserError as error:
            refusals.append(str(error))
        else:
            assert not file.sealed or found == expected, f"copy {number} of {file.path.name}"
    assert all(str(file.path.parent) in message for message in refusals)
    return Outcomes(len(refusals), copies - len(refusals))


def damaged(whole: bytes, copies: int, seed: int) -> Iterator[bytes]:
    """Copies of ``whole`` with one to three changes each; none equals it."""
    draw = random.Random(seed)
    made = 0
    while made < copies:
        content = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 3))):
            _damage(content, draw)
        if bytes(content) != whole:
            made += 1
            yield bytes(content)


def _damage(content: bytearray, draw: random.Random) -> None:
    """One change: a bit, a byte, a stretch cut out, doubled, zeroed or drawn anew, an end cut off, bytes put in."""
    at = draw.randrange(len(content) + 1)
    until = min(len(content), at + draw.choice((1, 4, 40, 400)))
    kind = draw.randrange(8)
    if kind == 0 and at < len(content):
        content[at] ^= 1 << draw.randrange(8)
    elif kind == 1 and at < len(content):
        content[at] = draw.choice(b'\0\n\r",.0159-+eINn{}[]: \x80\xff')
    elif kind == 2:
        del content[at:until]
    elif kind == 3:
        content[at:at] = content[at:until]
    elif kind == 4:
        content[at:until] = bytes(until - at)
    elif kind == 5:
        content[at:until] = draw.randbytes(until - at)
    elif kind == 6:
        del content[at:]
    else:
        content[at:at] = draw.choice((b"\xff\xfe", b"\n\n", b",", b'"', b"NaN", b"1e999", b"_0", b"\xef\xbb\xbf"))


def listing_of_twelve() -> Listing:
    """12 samples, 3 of each of 4 classes; no files are needed."""
    names = tuple(f"{label}/{number}.jpg" for label in "abcd" for number in range(3))
    sides = np.full(12, 10, np.int32)
    return Listing(Path("/data/train"), tuple("abcd"), names, np.repeat(np.arange(4), 3), sides, sides)


def index_file(folder: Path) -> Readable:
    """A CSV with pseudo-labels that a split file beside it seals."""
    return _split(folder)[0]


def index_file_alone(folder: Path) -> Readable:
    """The same CSV as the published ones are: nothing tells one digit from another."""
    file = _split(folder)[0]
    (folder / "l.split.json").unlink()
    return file._replace(sealed=False)


def split_json(folder: Path) -> Readable:
    """A split file: it means which CSVs are refused."""
    csv, path = _split(folder)

    def read() -> list[object]:
        changed = csv.path.with_name("l.csv")
        whole = changed.read_bytes()
        meaning: list[object] = [csv.read()]
        try:
            changed.write_bytes(whole + b"5,0,1\n")
            meaning.append(csv.read())
        except UserError as error:
            meaning.append(f"{error}")
        finally:
            changed.write_bytes(whole)
        return meaning

    return Readable(path, read)


def names_file(folder: Path) -> Readable:
    """A listing's names, compressed: they mean which file of another listing is new, or else are said to be gone."""
    csv, _ = _split(folder)
    other = listing_of_twelve()
    other = Listing(other.root, other.classes, other.paths[1:], other.labels[1:], other.heights[1:], other.widths[1:])

    def read() -> bool:
        try:
            read_index_file(csv.path, other)
        except UserError as error:
            return "1 is missing, a/0.jpg" in str(error) or "the names are not in listing-" in str(error)
        return False

    return Readable(next(folder.glob("*.names.gz")), read)


def clip_file(folder: Path) -> Readable:
    """CLIP's ranked predictions of 3 samples."""
    path = folder / "clip.pth.tar"
    probabilities = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).expand(3, 4).clone()
    torch.save({"preds_list": torch.arange(12).view(3, 4) % 4, "probs_list": probabilities}, path)
    return Readable(path, lambda: [column.tolist() for column in read_clip_file(path, 3, 4)])


def weights_file(folder: Path) -> Readable:
    """A trained trunk and its moving average."""
    path = folder / "weights.pth"
    trunks = [build_trunk("resnet8-small", 32)[0] for _ in range(2)]
    torch.save({name: trunk.state_dict() for name, trunk in zip(("model_ema", "model"), trunks, strict=True)}, path)

    def read() -> dict[str, Any]:
        trunk, _ = build_trunk("resnet8-small", 32)
        account = import_weights(trunk, path)
        return {"prefix": account.prefix} | {name: value.tolist() for name, value in trunk.state_dict().items()}

    return Readable(path, read)


def cached_listing(folder: Path) -> Readable:
    """The cache of a folder of two images; where it is damaged, the headers are read again."""
    for number, name in enumerate(("a/0.jpg", "b/0.jpg")):
        (folder / "train" / name).parent.mkdir(parents=True)
        Image.new("RGB", (20 + number, 30)).save(folder / "train" / name)
    path = listing_cache.cache_path(folder / "train", "classes")
    assert path is not None
    list_images(folder / "train")

    def read() -> list[Any]:
        remembered = listing_cache.load(path)
        listing = list_images(folder / "train")
        sizes = [*listing.paths, *listing.widths.tolist(), *listing.heights.tolist()]
        assert remembered is None or [*remembered.widths.tolist(), *remembered.heights.tolist()] == sizes[2:]
        return sizes

    return Readable(path, read)


FILES = [index_file, index_file_alone, split_json, names_file, clip_file, weights_file, cached_listing]


def _split(folder: Path) -> tuple[Readable, Path]:
    """A CSV of 6 samples with its reader, and the path of the split file beside it."""
    listing = listing_of_twelve()
    content = b"Index,PseudoLabel,Probs\n" + b"".join(b"%d,%d.0,0.%d\n" % (i, i % 4, 90 + i) for i in range(6))
    (folder / "l.csv").write_bytes(content)
    described = split_file.describe(listing, {"rule": "percent", "seed": 0}, COMMAND, {"l.csv": content})
    (folder / "l.split.json").write_text(json.dumps(described, indent=1))
    (folder / described["listing"]["names"]).write_bytes(split_file.compressed_names(listing))

    def read() -> list[Any]:
        return [None if column is None else column.tolist() for column in read_index_file(folder / "l.csv", listing)]

    return Readable(folder / "l.csv", read), folder / "l.split.json"
