"""The split file: index files are refused where they, or the data they were made of, are no longer what it says."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import DataError
from pipelines.samples import split_file
from pipelines.samples.index_file import read_index_file
from pipelines.samples.listing import Listing
from pipelines.samples.split import read_split

COMMAND = "python tools/make_splits.py percent 1 --seed 0"
FILES = {"l.csv": b"Index\n4\n0\n", "u.csv": b"Index\n1\n2\n3\n"}


def listing_of(*paths: str) -> Listing:
    classes = tuple(sorted({path.partition("/")[0] for path in paths}))
    labels = np.array([classes.index(path.partition("/")[0]) for path in paths])
    sides = np.full(len(paths), 10, np.int32)
    return Listing(Path("/data/train"), classes, paths, labels, sides, sides)


NAMES = tuple(f"{label}/{number}.jpg" for label in "abc" for number in range(3))


@pytest.fixture
def listing() -> Listing:
    return listing_of(*NAMES)


@pytest.fixture
def folder(listing: Listing, tmp_path: Path) -> Path:
    """Two index files, their split file and the listing's names."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    described = split_file.describe(listing, {"rule": "percent", "seed": 0}, COMMAND, FILES)
    (tmp_path / "l.split.json").write_text(json.dumps(described))
    (tmp_path / described["listing"]["names"]).write_bytes(split_file.compressed_names(listing))
    return tmp_path


def rejected(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    return str(caught.value)


def test_files_as_they_were_are_read(folder: Path, listing: Listing) -> None:
    split = read_split(listing, folder / "l.csv", folder / "u.csv")
    assert split.labeled.tolist() == [4, 0]
    described = json.loads((folder / "l.split.json").read_text())
    assert described["version"] == 1
    assert described["files"]["u.csv"]["rows"] == 3
    assert described["listing"]["images"] == 9
    assert described["listing"]["fingerprint"] == listing.fingerprint
    assert {name: count for name, (count, _) in described["listing"]["classes"].items()} == {"a": 3, "b": 3, "c": 3}


def test_a_changed_index_file_is_named(folder: Path, listing: Listing) -> None:
    (folder / "u.csv").write_bytes(FILES["u.csv"] + b"5\n")
    assert read_index_file(folder / "l.csv", listing).index.tolist() == [4, 0]
    message = rejected(lambda: read_split(listing, folder / "l.csv", folder / "u.csv"))
    assert message.startswith(f"{folder / 'u.csv'} is not the file that l.split.json describes (SHA-256 ")
    assert message.endswith(f"make the split again with: {COMMAND}")


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        ([*NAMES[:4], "b/15.jpg", *NAMES[4:]], "1 is new, b/15.jpg"),
        (NAMES[:-1], "1 is missing, c/2.jpg"),
        (NAMES[3:], "3 are missing, the first a/0.jpg"),
        (["a/0.jpg", "a/01.jpg", "a/1.png", *NAMES[2:]], "2 are new, the first a/01.jpg; 1 is missing, a/1.jpg"),
        ([*NAMES[3:], *NAMES[:3]], "the same files in another order"),
    ],
)
def test_other_data_is_refused_and_the_first_file_named(folder: Path, names: list[str], difference: str) -> None:
    message = rejected(lambda: read_index_file(folder / "l.csv", listing_of(*names)))
    assert message == (
        f"{folder / 'l.csv'} was made for other files than those in /data/train: {difference}. "
        f"Restore it, or make the split again with: {COMMAND}"
    )


@pytest.mark.parametrize("names", [None, b"damaged", gzip.compress(b"of another listing\0")])
def test_without_the_names_the_class_is_named(folder: Path, names: bytes | None) -> None:
    (path,) = folder.glob("*.names.gz")
    path.unlink() if names is None else path.write_bytes(names)
    message = rejected(lambda: read_index_file(folder / "l.csv", listing_of(*NAMES[:4], *NAMES[5:])))
    assert "1 class folders differ, the first b (3 images then, 2 now; the names are not in listing-" in message
    message = rejected(lambda: read_index_file(folder / "l.csv", listing_of(*NAMES[:3])))
    assert "2 class folders differ, the first b (3 images then, 0 now;" in message


def test_unlabeled_listings_have_one_entry(listing: Listing) -> None:
    flat = replace(listing, classes=())
    described = split_file.describe(flat, {}, COMMAND, FILES)
    assert [count for count, _ in described["listing"]["classes"].values()] == [9]


def test_published_index_files_need_no_split_file(folder: Path, listing: Listing) -> None:
    (folder / "published.csv").write_text(",Index\n0,7\n")
    assert read_index_file(folder / "published.csv", listing).index.tolist() == [7]
    for path in folder.glob("*.split.json"):
        path.unlink()
    assert read_index_file(folder / "l.csv", listing_of("a/other.jpg", *NAMES[1:])).index.tolist() == [4, 0]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "{", '{"version": 1, "files": {}}', '{"version": 1, "files": 3, "command": ""}']
)
def test_a_damaged_split_file_is_named(folder: Path, listing: Listing, content: str) -> None:
    (folder / "l.split.json").write_text(content)
    message = rejected(lambda: read_index_file(folder / "l.csv", listing))
    assert message.startswith(f"{folder / 'l.split.json'} is not what tools/make_splits.py writes")


def test_a_split_file_of_a_later_format_is_named(folder: Path, listing: Listing) -> None:
    (folder / "l.split.json").write_text(json.dumps({"version": 2}))
    message = rejected(lambda: read_index_file(folder / "l.csv", listing))
    assert message.startswith(f"{folder / 'l.split.json'} has format 2, this program reads 1")


def test_names_that_are_no_utf8_go_through(tmp_path: Path) -> None:
    odd = ("caf\udce9 é/1.jpg", "caf\udce9 é/2\n.jpg")
    described = split_file.describe(listing_of(*odd), {}, COMMAND, FILES)
    (tmp_path / "l.csv").write_bytes(FILES["l.csv"])
    (tmp_path / "l.split.json").write_text(json.dumps(described))
    (tmp_path / described["listing"]["names"]).write_bytes(split_file.compressed_names(listing_of(*odd)))
    message = rejected(lambda: read_index_file(tmp_path / "l.csv", listing_of(odd[1])))
    assert "1 is missing, caf\\xe9 é/1.jpg" in message
