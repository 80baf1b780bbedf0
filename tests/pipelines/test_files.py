"""A file that is replaced is old or new, has the usual mode, and is written through nobody's link."""

import os
from pathlib import Path

import pytest

from pipelines import files
from pipelines.files import replacing


@pytest.mark.parametrize("there", [False, True])
def test_the_new_content_takes_the_place_at_the_end(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "table.csv"
    if there:
        path.write_text("old")
    with replacing(path) as building:
        assert building.parent == tmp_path
        assert building.suffix == ".csv"  # which numpy would append
        building.write_text("new")
        assert (path.read_text() if path.exists() else None) == ("old" if there else None)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_an_error_leaves_the_old_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as building:
            building.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "table.csv") as building:
            building.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == mode


def test_no_link_is_followed_and_no_file_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where somebody foretells the temporary name."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "foretold")
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (tmp_path / ".table.csv.foretold.csv").symlink_to(secret)
    with pytest.raises(FileExistsError), replacing(tmp_path / "table.csv") as building:
        building.write_text("new")
    assert secret.read_text() == "mine"
    assert (tmp_path / ".table.csv.foretold.csv").is_symlink()


def test_names_differ_between_two_writers_of_one_process(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.csv") as one, replacing(tmp_path / "a.csv") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.csv").read_text() == "one"


def test_content_and_name_are_on_the_disk_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, bool]] = []
    path, real = tmp_path / "table.csv", files.sync
    monkeypatch.setattr(files, "sync", lambda which: (done.append((which.name, path.exists())), real(which))[1])
    with replacing(path) as building:
        building.write_text("new")
    assert done == [(building.name, False), (tmp_path.name, True)]
