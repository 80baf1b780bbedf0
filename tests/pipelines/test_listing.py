"""The listing of a data folder: torchvision's order and labels, sizes, a cache, and errors that name files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from pipelines.errors import DataError
from pipelines.listing import Listing, list_images


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and where the sizes go in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "debiaspl" / "sizes"


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
    assert ours.positions.tolist() == list(range(60))
    assert [ours.labels.dtype, ours.positions.dtype] == [np.int64] * 2


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
    assert len(list(cache.glob("*.npy"))) == 1
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
    assert "tools/make_demo_data.py" in str(caught.value)


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
