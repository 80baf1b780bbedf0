"""The listing of a data folder: torchvision's order and labels, sizes, a cache, and errors that name files."""

import io
import os
import shutil
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from pipelines.errors import DataError
from pipelines.samples import image_header, image_sizes, listing_cache
from pipelines.samples.listing import UNKNOWN, Listing, list_images


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and where listings go in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "debiaspl" / "listings"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two classes of two images, to change and damage."""
    root = tmp_path / "data" / "train"
    for number, name in enumerate(("a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.png")):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 30 + 2 * number), (number, 0, 0)).save(path)
    return root


def refuse_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("An image was opened.")

    monkeypatch.setattr(Image, "open", opened)


def sizes(listing: Listing) -> list[tuple[int, int]]:
    return list(zip(listing.heights.tolist(), listing.widths.tolist(), strict=True))


# --- what is listed -------------------------------------------------------------------------------------------------


def test_order_and_labels_are_torchvisions(image_folder: Path) -> None:
    theirs, ours = ImageFolder(image_folder), list_images(image_folder)
    assert [str(ours.path(index)) for index in range(len(ours))] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == [label for _, label in theirs.samples]
    assert list(ours.classes) == theirs.classes == ["ant", "bee colony", "zébu"]
    assert len(ours) == 60
    assert ours.indices.tolist() == list(range(60))
    assert [ours.labels.dtype, ours.indices.dtype] == [np.int64] * 2


@pytest.mark.parametrize("part", ["train", "val"])
def test_order_and_labels_of_the_demo_are_torchvisions(demo_data: Path, part: str) -> None:
    theirs, ours = ImageFolder(demo_data / part), list_images(demo_data / part)
    assert [str(ours.path(index)) for index in range(len(ours))] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets


def test_order_is_torchvisions_where_sorting_is_not_obvious(tmp_path: Path) -> None:
    """Folders that are prefixes of each other, upper and lower case, nested folders before and after files."""
    names = [
        "b-2/x.jpg",
        "b/x.jpg",
        "b/a/y.jpg",
        "b/a-1/y.jpg",
        "b/Z/y.jpg",
        "B/10.JPEG",
        "B/9.jpeg",
        "B/é.jpg",
        "B/e.jpg",
    ]
    names += [
        "b.c/1.webp",
        "b.c/1.PNG",
        "b.c/.hidden.jpg",
        "b.c/1.jpg.bak",
        "c/deep/er/1.jpg",
        "c/deep/1.jpg",
        "c/deep er/1.jpg",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, "JPEG")
    theirs, ours = ImageFolder(tmp_path), list_images(tmp_path)
    assert [str(ours.path(index)) for index in range(len(ours))] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets
    assert list(ours.classes) == theirs.classes


def test_linked_class_folders_count(small: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "elsewhere" / "z.jpg")
    (small / "linked").symlink_to(tmp_path / "elsewhere")
    ours = list_images(small)
    assert [str(ours.path(index)) for index in range(len(ours))] == [path for path, _ in ImageFolder(small).samples]
    assert sizes(ours)[-1] == (7, 9)


def test_sizes_are_those_of_the_stored_images(image_folder: Path) -> None:
    listing = list_images(image_folder)
    assert listing.heights.dtype == listing.widths.dtype == np.int32
    assert len(set(sizes(listing))) > 50
    for index, size in enumerate(sizes(listing)):
        with Image.open(listing.path(index)) as image:
            assert size == (image.height, image.width)


def test_sizes_are_taken_before_the_cameras_orientation(small: Path, cache: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 20)).save(small / "a" / "0.jpg", exif=exif)
    assert sizes(list_images(small))[0] == (20, 50)


# --- the cache ------------------------------------------------------------------------------------------------------


def test_headers_are_read_once(small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list_images(small)
    assert len(list(cache.glob("*.npz"))) == 1
    refuse_to_open(monkeypatch)
    again = list_images(small)
    assert sizes(again) == sizes(first) == [(30, 20), (32, 21), (34, 22), (36, 23)]
    assert again.paths == first.paths
    assert again.heights.dtype == np.int32


def test_another_cache_folder_is_another_cache(
    small: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_images(small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    refuse_to_open(monkeypatch)
    with pytest.raises(AssertionError, match="An image was opened"):
        list_images(small)


def test_a_changed_file_is_read_again(small: Path, cache: Path) -> None:
    list_images(small)
    Image.new("RGB", (77, 55)).save(small / "b" / "0.jpg")
    assert sizes(list_images(small)) == [(30, 20), (32, 21), (55, 77), (36, 23)]


def test_a_file_changed_to_the_same_length_is_read_again(small: Path, cache: Path) -> None:
    """Only its time tells."""
    path = small / "a" / "0.jpg"
    list_images(small)
    length = path.stat().st_size
    Image.new("RGB", (30, 20)).save(path)
    assert path.stat().st_size == length
    os.utime(path, ns=(0, 10**18))
    assert sizes(list_images(small))[0] == (20, 30)


def test_new_and_removed_files_are_noticed(small: Path, cache: Path) -> None:
    list_images(small)
    Image.new("RGB", (5, 6)).save(small / "a" / "00.jpg")
    assert sizes(list_images(small))[:2] == [(30, 20), (6, 5)]
    (small / "a" / "0.jpg").unlink()
    assert sizes(list_images(small))[:2] == [(6, 5), (32, 21)]


def test_a_cache_that_cannot_be_written_costs_only_the_cache(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert sizes(list_images(small))[0] == (30, 20)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no data folder .*/nowhere") as caught:
        list_images(tmp_path / "nowhere")
    assert "--data" in str(caught.value)
    assert "python -m debiaspl demo-data" in str(caught.value)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("")
    with pytest.raises(DataError, match="There is no data folder"):
        list_images(tmp_path / "train")


def test_a_folder_without_classes(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.jpg")
    with pytest.raises(DataError, match="has no class folders") as caught:
        list_images(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_empty_class_folder_is_named(small: Path) -> None:
    (small / "aa").mkdir()
    (small / "aa" / "0.gif").write_text("an extension that is not listed")
    with pytest.raises(DataError, match="holds no image") as caught:
        list_images(small)
    assert str(small / "aa") in str(caught.value)
    with pytest.raises(FileNotFoundError):
        ImageFolder(small)


def test_a_file_that_is_no_image_is_named(small: Path, cache: Path) -> None:
    (small / "b" / "05.jpg").write_text("Dear diary")
    with pytest.raises(DataError, match="Not readable as images") as caught:
        list_images(small)
    assert str(caught.value).count("\n") == 1
    assert f"{small}/b/05.jpg: not an image" in str(caught.value)
    (small / "b" / "05.jpg").unlink()
    assert len(list_images(small)) == 4  # nothing wrong was remembered


def test_many_such_files_are_counted(small: Path, cache: Path) -> None:
    for number in range(8):
        (small / "a" / f"bad{number}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="… and 3 more") as caught:
        list_images(small)
    assert [f"bad{number}.jpg" in str(caught.value) for number in range(8)] == [True] * 5 + [False] * 3


# --- the fingerprint ------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_names(small: Path, cache: Path, tmp_path: Path) -> None:
    first = list_images(small).fingerprint
    assert len(first) == 64
    moved = shutil.copytree(small, tmp_path / "another place" / "images")
    assert list_images(moved).fingerprint == first
    Image.new("RGB", (90, 90)).save(moved / "a" / "0.jpg")
    assert list_images(moved).fingerprint == first

    (moved / "a" / "0.jpg").rename(moved / "a" / "00.jpg")
    renamed = list_images(moved).fingerprint
    (moved / "a" / "00.jpg").rename(moved / "b" / "00.jpg")
    reclassed = list_images(moved).fingerprint
    (moved / "b" / "00.jpg").unlink()
    removed = list_images(moved).fingerprint
    assert len({first, renamed, reclassed, removed}) == 4


def test_the_fingerprint_is_pinned(small: Path) -> None:
    """It is stamped into checkpoints and .beton files: a change of it makes them strangers."""
    assert list_images(small).fingerprint == "87993507a2587002516fbc7486acf886ea2d8281637ea994f9c518c672497c73"


def test_names_that_run_together_have_different_fingerprints() -> None:
    def fingerprint(*paths: str) -> str:
        nothing = np.zeros(len(paths), np.int32)
        return Listing(Path("/"), ("a",), paths, nothing.astype(np.int64), nothing, nothing).fingerprint

    assert fingerprint("a/1.jpg", "a/2.jpg") != fingerprint("a/1.jpga/2.jpg")


# --- what has changed -----------------------------------------------------------------------------------------------


@pytest.fixture
def headers_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files whose headers are read."""
    read: list[str] = []
    real = image_sizes._size
    monkeypatch.setattr(image_sizes, "_size", lambda path, turned: (read.append(path), real(path, turned))[1])
    return read


def test_only_new_and_changed_files_are_read_again_and_a_line_names_them(
    small: Path, cache: Path, headers_read: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    list_images(small)
    assert len(headers_read) == 4
    headers_read.clear()
    list_images(small)
    assert headers_read == []
    assert capfd.readouterr().err == ""

    for number in range(5):
        Image.new("RGB", (5, 6)).save(small / "a" / f"new{number}.jpg")
    (small / "a" / "1.jpg").unlink()
    Image.new("RGB", (77, 55)).save(small / "b" / "0.jpg")
    listing = list_images(small)
    assert sorted(headers_read) == sorted([*(f"{small}/a/new{number}.jpg" for number in range(5)), f"{small}/b/0.jpg"])
    assert capfd.readouterr().err.strip() == (
        f"{small} has changed since it was last listed: 5 added (a/new0.jpg, a/new1.jpg, a/new2.jpg, … and 2 more), "
        "1 removed (a/1.jpg), 1 changed (b/0.jpg); reading 6 headers"
    )
    assert sizes(listing) == [(30, 20), *[(6, 5)] * 5, (55, 77), (36, 23)]
    headers_read.clear()
    list_images(small)
    assert headers_read == []
    assert capfd.readouterr().err == ""


def test_a_file_that_only_changed_is_named_and_a_removed_one_costs_no_reading(
    small: Path, cache: Path, headers_read: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    list_images(small)
    headers_read.clear()
    os.utime(small / "a" / "1.jpg", ns=(0, 10**18))
    list_images(small)
    assert "last listed: 1 changed (a/1.jpg); reading 1 headers" in capfd.readouterr().err
    (small / "a" / "1.jpg").unlink()
    list_images(small)
    assert "last listed: 1 removed (a/1.jpg); reading 0 headers" in capfd.readouterr().err
    assert headers_read == [f"{small}/a/1.jpg"]


def test_the_cache_is_one_file_that_holds_all_columns(small: Path, cache: Path) -> None:
    listing = list_images(small)
    (path,) = cache.glob("*.npz")
    remembered = listing_cache.load(path)
    assert remembered is not None
    assert remembered.names.tobytes() == b"a/0.jpg\0a/1.jpg\0b/0.jpg\0b/1.png\0"
    assert remembered.labels.tolist() == [0, 0, 1, 1]
    stats = [listing.path(index).stat() for index in range(4)]
    assert remembered.bytes.tolist() == [stat.st_size for stat in stats]
    assert remembered.times.tolist() == [stat.st_mtime_ns for stat in stats]
    assert list(zip(remembered.heights.tolist(), remembered.widths.tolist(), strict=True)) == sizes(listing)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and so on", b"\x93NUMPY"])
def test_a_damaged_cache_costs_only_time(small: Path, cache: Path, damage: bytes) -> None:
    before = sizes(list_images(small))
    (path,) = cache.glob("*.npz")
    for content in (damage, path.read_bytes()[:-30]):
        path.write_bytes(content)
        assert sizes(list_images(small)) == before


def test_one_process_reads_while_the_others_wait(tmp_path: Path) -> None:
    happened: list[str] = []

    def second() -> None:
        with listing_cache.one_at_a_time(tmp_path / "cache" / "x.npz"):
            happened.append("second")

    thread = threading.Thread(target=second)
    with listing_cache.one_at_a_time(tmp_path / "cache" / "x.npz"):
        thread.start()
        thread.join(0.2)
        happened.append("first")
    thread.join()
    assert happened == ["first", "second"]


# --- bad files ------------------------------------------------------------------------------------------------------


def claiming(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)


def large_png() -> bytes:
    """A few bytes that claim 900 million pixels."""
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(head))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\1\0IDAT"
    )


def test_bad_files_keep_their_positions(small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = list_images(small)
    (small / "a" / "00.jpg").write_bytes(b"")
    (small / "a" / "01.jpg").symlink_to(small / "nowhere")
    (small / "a" / "02.jpg").write_bytes(claiming(65_000, 65_000))
    (small / "a" / "03.png").write_bytes(large_png())
    (small / "a" / "04.jpg").write_bytes(claiming(20, 30)[:100])
    (small / "a" / "05.jpg").write_text("Dear diary")
    (small / "a" / "06.jpg").write_bytes(claiming(0, 7))
    os.mkfifo(small / "a" / "07.jpg")
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    listing = list_images(small, on_bad="keep")
    assert [str(listing.path(index)) for index in range(len(listing))] == [p for p, _ in ImageFolder(small).samples]
    assert sorted(listing.bad) == list(range(1, 9))
    assert [index for index in range(12) if listing.heights[index] == listing.widths[index] == 0] == sorted(listing.bad)
    assert [size for index, size in enumerate(sizes(listing)) if index not in listing.bad] == sizes(good)
    for index, reason in enumerate(["empty", "No such file", "too large", "too large", "", "not an image", ""], 1):
        assert listing.bad[index]
        assert reason in listing.bad[index], index
    with pytest.raises(DataError, match=r"02\.jpg: too large to decode \(65000 × 65000 pixels\)") as caught:
        list_images(small)
    assert "a/00.jpg: an empty file" in str(caught.value)
    assert "… and 3 more" in str(caught.value)


def test_good_listings_have_no_bad_files(small: Path) -> None:
    assert list_images(small, on_bad="keep").bad == list_images(small).bad == {}


def test_a_bad_file_is_looked_at_each_time(small: Path, cache: Path, headers_read: list[str]) -> None:
    """Its reason may be one that leaves no trace in the file: permissions, a disk that failed."""
    content = (small / "b" / "0.jpg").read_bytes()
    (small / "b" / "0.jpg").write_bytes(b"\0" * len(content))
    os.utime(small / "b" / "0.jpg", ns=(0, 10**18))
    assert list(list_images(small, on_bad="keep").bad) == [2]
    headers_read.clear()
    (small / "b" / "0.jpg").write_bytes(content)
    os.utime(small / "b" / "0.jpg", ns=(0, 10**18))
    assert sizes(list_images(small))[2] == (34, 22)
    assert headers_read == [f"{small}/b/0.jpg"]


def test_a_file_without_permission_is_bad(small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: root may read everything."""
    real = os.open

    def refused(path: str, *args: int, **more: int) -> int:
        if str(path).endswith("a/1.jpg"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", refused)
    assert list_images(small, on_bad="keep").bad == {1: "Permission denied"}
    with pytest.raises(DataError, match=r"a/1\.jpg: Permission denied"):
        list_images(small)


@pytest.mark.parametrize("on_bad", ["raise", "keep"])
def test_a_folder_without_permission_is_an_error(
    small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, on_bad: Literal["raise", "keep"]
) -> None:
    """Without its files all later samples would have another index."""
    (small / "a" / "inner").mkdir()
    real = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("a/inner"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"Cannot read the folder .*/a/inner: Permission denied"):
        list_images(small, on_bad=on_bad)


# --- awkward folders and names --------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_links_that_lead_back_are_not_followed(small: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = list_images(small).paths
    (small / "a" / "up").symlink_to(small)
    (small / "a" / "self").symlink_to(small / "a" / "self")
    (small / "b" / "inner").mkdir()
    (small / "b" / "inner" / "loop").symlink_to(small / "b")
    assert list_images(small).paths == list_images(small).paths == before
    assert f"{small}/a/up leads back to a folder above it: not followed" in capfd.readouterr().err
    assert list_images(small, labeled=False).paths == before


def test_a_folder_linked_twice_counts_twice_as_in_torchvision(small: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "elsewhere" / "z.jpg")
    (small / "a" / "first").symlink_to(tmp_path / "elsewhere")
    (small / "b" / "second").symlink_to(tmp_path / "elsewhere")
    ours = list_images(small)
    assert [str(ours.path(index)) for index in range(len(ours))] == [path for path, _ in ImageFolder(small).samples]
    assert len(ours) == 6


def test_names_with_spaces_newlines_and_bytes_that_are_no_utf8(
    small: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = [" lead.jpg", "two  spaces.jpg", "new\nline.jpg", "日本.jpg", "e\u0301.jpg", "é.jpg", "🙂.jpg"]
    odd += [os.fsdecode(b"\xff\xfe.jpg"), os.fsdecode(b"caf\xe9.jpg")]
    content = (small / "a" / "0.jpg").read_bytes()
    for folder in ("a", os.fsdecode(b"caf\xe9 \xc3\xbc")):
        for name in odd:
            (small / folder).mkdir(exist_ok=True)
            (small / folder / name).write_bytes(content)
    theirs, ours = ImageFolder(small), list_images(small)
    assert [str(ours.path(index)) for index in range(len(ours))] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets
    assert len(ours.fingerprint) == 64
    capfd.readouterr()
    again = list_images(small)
    assert again.paths == ours.paths
    assert capfd.readouterr().err == ""  # found in the cache as they are
    (small / "a" / odd[-1]).write_bytes(b"")
    with pytest.raises(DataError, match=r"a/caf\\xe9\.jpg: an empty file"):
        list_images(small)
    assert "1 changed (a/caf\\xe9.jpg)" in capfd.readouterr().err


def test_a_folder_of_unlabeled_images(small: Path, cache: Path) -> None:
    """Any depth, no class, by relative path; the same folder may be listed with classes too."""
    Image.new("RGB", (9, 7)).save(small / "top.jpg")
    Image.new("RGB", (9, 7)).save(small / "a-b.jpg")
    (small / "b" / "c" / "d").mkdir(parents=True)
    Image.new("RGB", (9, 7)).save(small / "b" / "c" / "d" / "0.png")
    listing = list_images(small, labeled=False)
    assert list(listing.paths) == sorted(
        ["a-b.jpg", "a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.png", "b/c/d/0.png", "top.jpg"]
    )
    assert listing.classes == ()
    assert listing.labels.tolist() == [UNKNOWN] * 7
    assert sizes(listing)[0] == (7, 9)
    assert sizes(list_images(small)) == [(30, 20), (32, 21), (34, 22), (36, 23), (7, 9)]
    assert list_images(small, labeled=False).fingerprint == listing.fingerprint


def test_a_flat_folder_may_hold_what_imagefolder_leaves_out(tmp_path: Path) -> None:
    for name in ("train/ant/a.gif", "train/ant/b.png", "train/ant/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4)).save(tmp_path / name, "GIF" if name.endswith("gif") else "PNG")
    assert list(list_images(tmp_path / "train").paths) == ["ant/b.png"]
    flat = list_images(tmp_path / "train", labeled=False)
    assert list(flat.paths) == ["ant/a.gif", "ant/b.png"]
    assert flat.widths.tolist() == [5, 5]


def test_a_flat_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        list_images(tmp_path, labeled=False)


# --- labels withheld ------------------------------------------------------------------------------------------------


def test_a_listing_without_labels(image_folder: Path) -> None:
    known = list_images(image_folder)
    blind = known.without_labels()
    assert set(blind.labels.tolist()) == {UNKNOWN}
    assert set(known.labels.tolist()) == {0, 1, 2}
    assert blind.paths == known.paths
    assert blind.fingerprint == known.fingerprint
    assert blind.without_labels() is blind
    for listing in (known, blind):
        assert listing.has_labels(known.labels)
        assert not listing.has_labels(known.labels[::-1])
        assert not listing.has_labels(known.labels[1:])


# --- headers --------------------------------------------------------------------------------------------------------


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (300, 200)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_sizes_of_jpegs_are_pillows(tmp_path: Path) -> None:
    contents = [jpeg(), jpeg("L"), jpeg("CMYK"), jpeg(progressive=True), jpeg(optimize=True), jpeg(comment=b"\xff\xc0")]
    for head in (content for content in contents):
        assert image_header.jpeg_size(head) == (300, 200)
        assert image_header.jpeg_size(head[: head.index(b"\xff\xda")]) is None  # the header goes on
        assert image_header.jpeg_size(b"\0" + head) is None
    long = jpeg(icc_profile=bytes(40_000))  # longer than what is read at first
    assert image_header.jpeg_size(long[:16_384]) is None
    (tmp_path / "long.jpg").write_bytes(long)
    widths, heights, bad = image_sizes.read_sizes(str(tmp_path), ["long.jpg"])
    assert (widths.tolist(), heights.tolist(), bad) == ([300], [200], {})


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 620), value=st.integers(0, 255))
def test_a_changed_byte_never_gives_another_size_than_pillows(at: int, value: int) -> None:
    content = bytearray(jpeg())
    content[at] = value
    ours = image_header.jpeg_size(bytes(content))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = Image.open(io.BytesIO(content)).size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return
    assert ours in (None, theirs)
