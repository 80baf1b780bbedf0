"""Index files and CLIP predictions: the published formats, what training may know of each sample, and every error."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.errors import DataError
from pipelines.samples.clip_file import read_clip_file
from pipelines.samples.index_file import read_index_file
from pipelines.samples.listing import Listing
from pipelines.samples.split import UNKNOWN, Split, find_file, read_split

N, CLASSES = 12, 4


@pytest.fixture(scope="module")
def listing() -> Listing:
    """12 samples, 3 of each of 4 classes; no files are needed."""
    names = tuple(f"{label}/{number}.jpg" for label in "abcd" for number in range(3))
    sides = np.full(N, 10, np.int32)
    return Listing(Path("/data/train"), tuple("abcd"), names, np.repeat(np.arange(4), 3).astype(np.int64), sides, sides)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines into a CSV file."""

    def write(*lines: str, name: str = "index.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def save_clip(path: Path, rows: int = 3, **changed: Any) -> Path:
    """A ranked file: in row r the best class is (r + 1) % 4, with probability 0.5 + r / 100."""
    best = torch.arange(1, rows + 1) % CLASSES
    ranked = torch.stack([(best + k) % CLASSES for k in range(CLASSES)], 1)
    probabilities = torch.stack(
        [0.5 + torch.arange(rows) / 100, *[torch.full((rows,), p) for p in (0.2, 0.1, 0.01)]], 1
    )
    torch.save({"preds_list": ranked, "probs_list": probabilities, **changed}, path)
    return path


def rejected(read: Callable[[], Any]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    return str(caught.value)


# --- published formats ----------------------------------------------------------------------------------------------


def test_a_plain_index_file(listing: Listing, write: Write) -> None:
    found = read_index_file(write("Index", "5", "0", "11"), listing)
    assert found.index.tolist() == [5, 0, 11]  # in the file's order: CLIP's rows follow it
    assert found.index.dtype == np.int64
    assert found.pseudo_label is None
    assert found.confidence is None


def test_pandas_writes_its_own_index_and_floats(listing: Listing, write: Write) -> None:
    found = read_index_file(
        write(",Index,PseudoLabel,Probs", "0,7.0,3.0,0.97", "1,2,0,1.0", "2,11.0,1,0.5e-1"), listing
    )
    assert found.index.tolist() == [7, 2, 11]
    assert found.pseudo_label is not None
    assert found.pseudo_label.tolist() == [3, 0, 1]
    assert found.pseudo_label.dtype == np.int64
    assert found.confidence is not None
    assert found.confidence.dtype == np.float32
    np.testing.assert_array_equal(found.confidence, np.array([0.97, 1, 0.05], np.float32))


def test_other_columns_and_line_ends_do_not_matter(listing: Listing, tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_bytes(b'Path,Index,Note\r\n"a, b",3,x\r\nc,1,"two\nlines"\r\n')
    assert read_index_file(path, listing).index.tolist() == [3, 1]


def test_labels_are_known_of_labeled_samples_only(listing: Listing, write: Write) -> None:
    labeled, unlabeled = write("Index", "4", "0", "9", name="l.csv"), write("Index", "1", "2", "3", name="u.csv")
    split = read_split(listing, labeled, unlabeled)
    assert split.labeled.tolist() == [4, 0, 9]
    assert split.unlabeled.tolist() == [1, 2, 3]
    expected = np.full(N, UNKNOWN)
    expected[[4, 0, 9]] = [1, 0, 3]
    assert split.labels.tolist() == expected.tolist()
    assert split.labels.dtype == np.int64
    assert UNKNOWN < 0
    assert split.clip is None
    assert split.listing.paths == listing.paths
    assert set(split.listing.labels.tolist()) == {UNKNOWN}


def test_the_listing_keeps_its_labels(listing: Listing, write: Write) -> None:
    before = listing.labels.copy()
    read_split(listing, write("Index,PseudoLabel", "4,3"), write("Index", "1", name="u.csv"))
    np.testing.assert_array_equal(listing.labels, before)


def test_pseudo_labels_win_over_the_folders(listing: Listing, write: Write) -> None:
    """Zero-shot: the true labels 1, 0, 3 of these samples must not be in the table."""
    labeled = write(",Index,PseudoLabel,Probs", "0,4,2.0,0.99", "1,0,3.0,0.96", "2,9,0.0,0.95", name="l.csv")
    split = read_split(listing, labeled, write("Index", "1", name="u.csv"))
    assert split.labels[[4, 0, 9]].tolist() == [2, 3, 0]
    assert (split.labels != UNKNOWN).sum() == 3


def test_pseudo_labels_of_unlabeled_samples_are_no_labels(listing: Listing, write: Write) -> None:
    unlabeled = write("Index,PseudoLabel,Probs", "1,2,0.5", "2,2,0.5", name="u.csv")
    for use_clip in (False, True):
        split = read_split(listing, write("Index", "4"), unlabeled, use_clip=use_clip)
        assert np.flatnonzero(split.labels != UNKNOWN).tolist() == [4]
        assert (split.clip is not None) == use_clip


def test_clip_targets_from_the_csv(listing: Listing, write: Write) -> None:
    unlabeled = write("Index,PseudoLabel,Probs", "8,2,0.75", "1,3,0.25", name="u.csv")
    split = read_split(listing, write("Index", "4"), unlabeled, use_clip=True)
    assert split.clip is not None
    assert split.clip.label[[8, 1]].tolist() == [2, 3]
    assert split.clip.confidence[[8, 1]].tolist() == [0.75, 0.25]
    others = np.setdiff1d(np.arange(N), [8, 1])
    assert set(split.clip.label[others].tolist()) == {UNKNOWN}
    assert not split.clip.confidence[others].any()
    assert [split.clip.label.dtype, split.clip.confidence.dtype] == [np.int64, np.float32]


def test_clip_targets_from_a_ranked_file_follow_the_rows(listing: Listing, write: Write, tmp_path: Path) -> None:
    """Row r belongs to the r-th row of the CSV, whatever sample that is; the CSV's own columns are not looked at."""
    unlabeled = write("Index,PseudoLabel,Probs", "8,0,0.1", "1,0,0.1", "5,0,0.1", name="u.csv")
    clip_file = save_clip(tmp_path / "u_clip_predictions_ranked.pth.tar")
    split = read_split(listing, write("Index", "4"), unlabeled, clip_file, use_clip=True)
    assert split.clip is not None
    assert split.clip.label[[8, 1, 5]].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(split.clip.confidence[[8, 1, 5]], np.array([0.5, 0.51, 0.52], np.float32))
    assert set(np.delete(split.clip.label, [8, 1, 5]).tolist()) == {UNKNOWN}


@pytest.mark.parametrize("kind", ["float16", "float64", "lists"])
def test_ranked_files_of_other_types(tmp_path: Path, kind: str) -> None:
    path = save_clip(tmp_path / "clip.pth.tar")
    content = torch.load(path)
    if kind == "lists":
        content = {name: table.tolist() for name, table in content.items()}
    else:
        content["probs_list"] = content["probs_list"].to(getattr(torch, kind))
    torch.save(content, path)
    label, confidence = read_clip_file(path, 3, CLASSES)
    assert label.tolist() == [1, 2, 3]
    assert [label.dtype, confidence.dtype] == [np.int64, np.float32]
    np.testing.assert_allclose(confidence, [0.5, 0.51, 0.52], atol=3e-4)


# --- errors of index files --------------------------------------------------------------------------------------------

WHOLE = f"must be a whole number from 0 to {N - 1} ({N} images in the listing)"
SHARE = "must be a number from 0 to 1"
CLASS = f"must be a whole number from 0 to {CLASSES - 1} ({CLASSES} classes)"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["index", "1"], "has no column 'Index' (its columns: 'index'). Did you mean 'Index' by 'index'? Rename"),
        ([",Idx", "0,1"], "has no column 'Index' (its columns: '', 'Idx'). Did you mean 'Index' by 'Idx'?"),
        (["Probs, Index", "0,1"], "(its columns: 'Probs', ' Index'). Did you mean 'Index' by ' Index'?"),
        (["Index,pseudo_label", "0,1"], "has no column 'PseudoLabel' (its columns: 'Index', 'pseudo_label'). Did you"),
        (["Index,Prob", "0,1"], "Did you mean 'Probs' by 'Prob'?"),
        (["Index,Index", "0,1"], "has the column 'Index' more than once"),
        (["1", "2"], "has no column 'Index' (its columns: '1')"),
        ([""], "has no column 'Index' (its columns: none)"),
        (["Index"], "lists no sample"),
        (["Index", "3", "12"], f", line 3: Index is '12', but {WHOLE}"),
        (["Index", "0", "1", "-1"], f", line 4: Index is '-1', but {WHOLE}"),
        (["Index", "1.5"], f", line 2: Index is '1.5', but {WHOLE}"),
        (["Index", "n01440764_10026"], f", line 2: Index is 'n01440764_10026', but {WHOLE}"),
        (["Index", "nan"], f", line 2: Index is 'nan', but {WHOLE}"),
        (["Index", "inf"], f", line 2: Index is 'inf', but {WHOLE}"),
        ([",Index", "0,"], f", line 2: Index is '', but {WHOLE}"),
        (["Index", "1_0"], f", line 2: Index is '1_0', but {WHOLE}"),
        (["Index", "1e0"], f", line 2: Index is '1e0', but {WHOLE}"),
        (["Index", "\N{FULLWIDTH DIGIT ONE}"], f", line 2: Index is '\N{FULLWIDTH DIGIT ONE}', but {WHOLE}"),
        (["Index", "1" * 5000], f", line 2: Index is '{'1' * 5000}', but {WHOLE}"),
        ([",Index", "0,1", "", "7"], ", line 4: it has no cell for Index (the line: '7')"),
        (["Index", "0", "1,2"], ", line 3: it has 2 cells, but the header has 1"),
        (["Index,Note", '0,"never closed', "1,x"], "unexpected end of data"),
        (["Index", "3", "1", "3.0"], "lists sample 3 more than once"),
        (["Index,PseudoLabel", "3,4"], f", line 2: PseudoLabel is '4', but {CLASS}"),
        (["Index,PseudoLabel", "3,0", "4,-1"], f", line 3: PseudoLabel is '-1', but {CLASS}"),
        (["Index,PseudoLabel", "3,cat"], f", line 2: PseudoLabel is 'cat', but {CLASS}"),
        (["Index,Probs", "3,1.01"], f", line 2: Probs is '1.01', but {SHARE}"),
        (["Index,Probs", "2,1", "3,-0.01"], f", line 3: Probs is '-0.01', but {SHARE}"),
        (["Index,Probs", "3,nan"], f", line 2: Probs is 'nan', but {SHARE}"),
        (["Index,Probs", "3,high"], f", line 2: Probs is 'high', but {SHARE}"),
        (["Index,Probs", "3,0.1_5"], f", line 2: Probs is '0.1_5', but {SHARE}"),
        (["Index,Probs", "3"], ", line 2: it has no cell for Probs"),
    ],
    ids=lambda value: "/".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_index_files(listing: Listing, write: Write, lines: list[str], message: str) -> None:
    path = write(*lines)
    found = rejected(lambda: read_index_file(path, listing))
    assert str(path) in found
    assert message in found


def test_the_wrong_file_of_two_is_named(listing: Listing, write: Write) -> None:
    good, bad = write("Index", "1"), write("Index", "99", name="bad.csv")
    assert rejected(lambda: read_split(listing, good, bad)).startswith(str(bad))
    assert rejected(lambda: read_split(listing, bad, good)).startswith(str(bad))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory."),
        (b"\xff\xfeI\x00n\x00", "Save it as a CSV in UTF-8."),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "Save it as a CSV in UTF-8."),
    ],
    ids=["missing", "UTF-16", "PNG"],
)
def test_unreadable_index_files(listing: Listing, tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "index.csv"
    if content is not None:
        path.write_bytes(content)
    found = rejected(lambda: read_index_file(path, listing))
    assert found.startswith(f"Cannot read the index file {path}: ")
    assert found.endswith(reason)


@pytest.mark.timeout(60)
def test_what_is_no_regular_file_is_not_waited_for(listing: Listing, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "large").open("wb") as file:
        file.truncate((1 << 30) + 1)  # a hole: it takes no room on the disk
    for name in ("pipe", "device", "folder"):
        path = tmp_path / name
        assert rejected(lambda path=path: read_index_file(path, listing)) == (
            f"Cannot read the index file {path}: not a regular file."
        )
        assert rejected(lambda path=path: read_clip_file(path, 3, CLASSES)) == (
            f"Cannot read the CLIP predictions file {path}: not a regular file."
        )
    assert "large: larger than 1024 MiB" in rejected(lambda: read_index_file(tmp_path / "large", listing))


@pytest.mark.parametrize("columns", ["Index", "Index,PseudoLabel", "Index,Probs"])
def test_clip_targets_without_columns(listing: Listing, write: Write, columns: str) -> None:
    unlabeled = write(columns, "1" + ",0" * columns.count(","), name="u.csv")
    found = rejected(lambda: read_split(listing, write("Index", "4"), unlabeled, use_clip=True))
    assert f"{unlabeled} brings none" in found
    assert "columns PseudoLabel and Probs" in found
    assert "-m debiaspl clip-targets" in found
    assert read_split(listing, write("Index", "4"), unlabeled).clip is None  # not needed, not missed


# --- errors of CLIP files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 4, 0])
def test_a_clip_file_of_other_rows(tmp_path: Path, rows: int) -> None:
    path = save_clip(tmp_path / "clip.pth.tar", rows)
    message = rejected(lambda: read_clip_file(path, 3, CLASSES))
    assert message.startswith(f"{path} must hold preds_list and probs_list of 3 rows each")
    assert f"(got ({rows}, 4) and ({rows}, 4))" in message


def test_a_clip_file_whose_tables_differ(tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.pth.tar", probs_list=torch.zeros(3, 3))
    assert "(got (3, 4) and (3, 3))" in rejected(lambda: read_clip_file(path, 3, CLASSES))
    path = save_clip(tmp_path / "clip.pth.tar", preds_list=torch.zeros(3), probs_list=torch.zeros(3))
    assert "(got (3,) and (3,))" in rejected(lambda: read_clip_file(path, 3, CLASSES))


def test_a_clip_file_of_other_classes(tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.pth.tar")
    assert read_clip_file(path, 3, CLASSES)[0].max() == 3
    assert f"{path} predicts class 3, but the data has 3 classes" in rejected(lambda: read_clip_file(path, 3, 3))


def test_a_missing_clip_file(tmp_path: Path) -> None:
    message = rejected(lambda: read_clip_file(tmp_path / "clip.pth.tar", 3, CLASSES))
    assert message.startswith(f"There is no CLIP predictions file {tmp_path / 'clip.pth.tar'}")
    assert "-m debiaspl clip-targets" in message


@pytest.mark.parametrize("content", [{"preds_list": torch.zeros(3, 4)}, {}, [1, 2]], ids=["half", "empty", "list"])
def test_other_contents_of_a_clip_file(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "clip.pth.tar")
    message = rejected(lambda: read_clip_file(tmp_path / "clip.pth.tar", 3, CLASSES))
    assert "is not a CLIP predictions file with preds_list and probs_list" in message


def test_a_damaged_clip_file(tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.pth.tar")
    path.write_bytes(path.read_bytes()[:300])
    assert rejected(lambda: read_clip_file(path, 3, CLASSES)).startswith(f"{path} is not a CLIP predictions file")


class _Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_clip_file_cannot_run_code(tmp_path: Path) -> None:
    path = save_clip(tmp_path / "clip.pth.tar", extra=_Malicious(tmp_path / "owned"))
    assert rejected(lambda: read_clip_file(path, 3, CLASSES)).startswith(f"{path} is not a CLIP predictions file")
    assert not (tmp_path / "owned").exists()
    torch.load(path, weights_only=False)  # that the file would have done it
    assert (tmp_path / "owned").is_dir()


# --- the fingerprint and the default files ----------------------------------------------------------------------------


def test_the_fingerprint_changes_with_all_that_training_sees(listing: Listing, write: Write, tmp_path: Path) -> None:
    def fingerprint(labeled: list[str], unlabeled: list[str], of: Listing = listing, **how: Any) -> str:
        l_csv, u_csv = write(*labeled, name="l.csv"), write(*unlabeled, name="u.csv")
        return read_split(of, l_csv, u_csv, **how).fingerprint

    l_lines, u_lines = ["Index", "4", "0"], ["Index,PseudoLabel,Probs", "8,2,0.75", "1,3,0.25", "5,0,0.5"]
    reference = fingerprint(l_lines, u_lines)
    assert reference == fingerprint([",Index", "0,4.0", "1,0"], ["Index", "8", "1", "5"])  # the same in other words
    renamed = replace(listing, paths=(*listing.paths[:-1], "d/9.jpg"))
    found = [
        reference,
        fingerprint(["Index", "4", "3"], u_lines),  # another sample, of another class
        fingerprint(["Index", "4", "1"], u_lines),  # another sample of the same class
        fingerprint(["Index,PseudoLabel", "4,2", "0,0"], u_lines),  # another label
        fingerprint(l_lines, ["Index", "8", "1"]),
        fingerprint(l_lines, ["Index", "8", "1", "6"]),
        fingerprint(l_lines, u_lines, renamed),
        fingerprint(l_lines, u_lines, use_clip=True),
        fingerprint(l_lines, [*u_lines[:3], "5,1,0.5"], use_clip=True),
        fingerprint(l_lines, [*u_lines[:3], "5,0,0.6"], use_clip=True),
        fingerprint(l_lines, u_lines, use_clip=True, clip_file=save_clip(tmp_path / "clip.pth.tar")),
    ]
    assert len(set(found)) == len(found)


def test_a_sample_that_moves_between_the_sets_changes_the_fingerprint(listing: Listing) -> None:
    """The arrays' boundaries count, not only their concatenation."""
    a = np.arange(6)
    labels = np.full(N, UNKNOWN)
    assert (
        Split(listing, a[:2], a[2:], labels, None).fingerprint != Split(listing, a[:3], a[3:], labels, None).fingerprint
    )


def test_the_first_name_that_exists_is_found(tmp_path: Path) -> None:
    names = ["indexes/train_0.2p_index.csv", "indexes/train0.2p_index.csv"]
    message = rejected(lambda: find_file(tmp_path, names))
    command = f"python -m debiaspl splits percent 0.2 --data {tmp_path}"
    assert message == (
        f"There is no {tmp_path}/{names[0]} or {tmp_path}/{names[1]}. "
        f"Put it there, name another file, or make it with: {command}"
    )
    assert "name another file with --index, or" in rejected(lambda: find_file(tmp_path, names, option="--index"))
    rest = ["train_99.8p_index.csv"]
    assert rejected(lambda: find_file(tmp_path, rest)).endswith(command)
    assert " per-class 4 --data " in rejected(lambda: find_file(tmp_path, ["train_4perclass_rest_index.csv"]))
    assert find_file(tmp_path, []) is None
    (tmp_path / "indexes").mkdir()
    (tmp_path / names[0]).mkdir()  # a folder is no file
    (tmp_path / names[1]).touch()
    assert find_file(tmp_path, names) == tmp_path / names[1]
    (tmp_path / names[0]).rmdir()
    (tmp_path / names[0]).touch()
    assert find_file(tmp_path, names) == tmp_path / names[0]


def test_line_numbers_are_the_file_s_and_a_byte_order_mark_is_no_name(listing: Listing, tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text("\ufeffIndex\n3\n\n\nx\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 5: Index is 'x'"):
        read_index_file(path, listing)


def test_clip_files_may_hold_numpy_arrays_but_no_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "clip.pth.tar"
    ranked, probabilities = np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.6, 0.4]], np.float32)
    torch.save({"preds_list": ranked, "probs_list": probabilities}, path)
    label, confidence = read_clip_file(path, 2, 2)
    assert label.tolist() == [1, 0]
    np.testing.assert_allclose(confidence, [0.9, 0.6])
    for wrong, message in (
        ({"probs_list": probabilities * 100}, "within 0 and 1"),
        ({"probs_list": probabilities * np.nan}, "within 0 and 1"),
        ({"probs_list": np.array([[0.9, 0.1], [0.6, -np.inf]])}, r"within 0 and 1 \(row 1 has -inf to 0\.6\)"),
        ({"probs_list": torch.ones(2, 2, dtype=torch.complex64)}, r"floating-point .* torch\.complex64\)"),
        ({"probs_list": torch.ones(2, 2, dtype=torch.int8)}, r"floating-point .* torch\.int8\)"),
        ({"preds_list": torch.ones(2, 2, dtype=torch.bool)}, r"whole numbers .*\(got torch\.bool"),
        ({"preds_list": ranked * np.nan}, "predicts class nan"),
        ({"preds_list": ranked + 0.5}, r"predicts class 1\.5"),
        ({"preds_list": ranked - 1}, "predicts class -1"),
        ({"preds_list": ranked[:, :0], "probs_list": probabilities[:, :0]}, "must hold"),
    ):
        torch.save({"preds_list": ranked, "probs_list": probabilities, **wrong}, path)
        with pytest.raises(DataError, match=message):
            read_clip_file(path, 2, 2)
