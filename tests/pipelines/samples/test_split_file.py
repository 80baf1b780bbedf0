"""The split file: index files are refused where they, or the data they were made of, are no longer what it says."""

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    assert message.endswith(f"make the split again with: {COMMAND} --data /data --out {folder} --force")


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
        f"Restore it, or make the split again with: {COMMAND} --data /data --out {folder} --force"
    )


@pytest.mark.parametrize("names", [None, b"damaged", gzip.compress(b"of another listing\0", mtime=0)])
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


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "large"])
def test_what_is_no_split_file_is_named(folder: Path, listing: Listing, kind: str) -> None:
    path = folder / "l.split.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate((64 << 20) + 1)  # a hole: it takes no room on the disk
    message = rejected(lambda: read_index_file(folder / "l.csv", listing))
    reason = "larger than 64 MiB" if kind == "large" else "not a regular file"
    assert message == f"Cannot read the split file {path}: {reason}. Restore or remove it."


def entries(content: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths to all values in JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [(*at, key) for key, _ in items] + [path for key, value in items for path in entries(value, (*at, key))]


def replaced(content: Any, path: tuple[str | int, ...], value: Any) -> Any:
    result = json.loads(json.dumps(content))
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result


def test_every_value_is_of_its_type(folder: Path, listing: Listing) -> None:
    """In files without a digest, as they were made before there was one: an error in words, or no matter."""
    path = folder / "l.split.json"
    described = json.loads(path.read_text())
    del described["digest"]
    refused = 0
    for entry in entries(described):
        for value in (None, True, -1, 1.5, 10**30, "", "../x", [], [1, 2], {}, {"a": None}):
            path.write_text(json.dumps(replaced(described, entry, value)))
            try:
                assert read_index_file(folder / "l.csv", listing).index.tolist() == [4, 0]
            except DataError:
                refused += 1
    assert refused > 100
    for key in ("version", "command", "rule", "listing", "files"):
        path.write_text(json.dumps({name: value for name, value in described.items() if name != key}))
        message = rejected(lambda: read_index_file(folder / "l.csv", listing))
        assert f"{key!r} is missing or of the wrong type" in message


def test_any_change_of_a_split_file_is_noticed(folder: Path, listing: Listing) -> None:
    path = folder / "l.split.json"
    described = json.loads(path.read_text())
    for entry in entries(described):
        for value in (7, "of a text"):
            path.write_text(json.dumps(replaced(described, entry, value)))
            assert str(path) in rejected(lambda: read_index_file(folder / "l.csv", listing))
    path.write_text(json.dumps(described | {"digset": described["digest"]}))
    assert "unknown entry 'digset'" in rejected(lambda: read_index_file(folder / "l.csv", listing))
    path.write_text(json.dumps(described, indent=7, sort_keys=True))  # only spelt in another way
    assert read_index_file(folder / "l.csv", listing).index.tolist() == [4, 0]


@pytest.mark.parametrize("name", ["../secret.gz", "/etc/passwd", "l.csv", "listing-0123456789abcdef.names.gz", ""])
def test_only_the_names_file_of_the_listing_is_read(folder: Path, listing: Listing, name: str) -> None:
    path = folder / "l.split.json"
    described = replaced(json.loads(path.read_text()), ("listing", "names"), name)
    del described["digest"]
    path.write_text(json.dumps(described))
    message = rejected(lambda: read_index_file(folder / "l.csv", listing_of(*NAMES[:4])))
    assert message.startswith(f"{path} is not what tools/make_splits.py writes: its fingerprint and the name of its")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "bomb", "cut", "two members"])
def test_a_names_file_that_is_none_costs_only_the_name(folder: Path, kind: str) -> None:
    (path,) = folder.glob("*.names.gz")
    whole = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        bomb = gzip.compress(bytes(64 << 20))
        path.write_bytes({"bomb": bomb, "cut": whole[:-4], "two members": bomb + whole}[kind])
    tracemalloc.start()
    message = rejected(lambda: read_index_file(folder / "l.csv", listing_of(*NAMES[:4])))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"the names are not in {path.name}" in message
    assert peak < 8 << 20


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
