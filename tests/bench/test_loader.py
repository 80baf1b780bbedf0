"""``python -m bench loader`` from end to end on a tiny corpus, and what it must refuse to call a result."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import corpus, loader
from bench.__main__ import main
from bench.decode_only import DecodeOnly
from bench.faithful import check
from bench.measure import Measurement, Sample, Series
from bench.published import PublishedLoader
from pipelines import errors
from pipelines.batch import Views
from pipelines.errors import DataError
from pipelines.feed import Feed
from pipelines.listing import Listing, list_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def root(folder: Path) -> Path:
    return corpus.build(folder, 48)


@pytest.fixture(scope="module")
def listing(root: Path) -> Listing:
    return list_images(root / "train")


def bench(folder: Path, out: Path, *more: str) -> int:
    options = ["--images", "48", "--rounds", "1", "--threads", "2", "--corpus", str(folder), "--out", str(out)]
    return main(["loader", *options, *more])


def test_end_to_end(folder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, tmp_path, "--pipelines", "torchvision") == 0
    found = json.loads(next(tmp_path.glob("loader_*.json")).read_text())
    series = {each["name"]: each["samples"] for each in found["measurement"]["series"]}
    assert list(series) == [loader.PUBLISHED, "torchvision", loader.LIMIT]
    assert all([sample["units"] for sample in samples] == [48] for samples in series.values())
    assert found["facts"]["views/s"].keys() == {loader.PUBLISHED, "torchvision"}
    assert set(found["facts"]["decodes per sample"].values()) == {"1"}
    assert found["settings"]["images per round"] == 48
    text = next(tmp_path.glob("loader_*.md")).read_text()
    assert "decodes each sample once" in text
    assert loader.PUBLISHED in capsys.readouterr().out
    assert next(tmp_path.glob("loader_*.png")).stat().st_size > 10_000


def test_without_arguments_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "loader" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pipelines", "webdataset"], "webdataset"),
        (["--images", "50"], "multiple of 48"),
        (["--rounds", "0"], "whole number from 1"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["loader", *words])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_user_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert bench(tmp_path / "file", tmp_path) == 2
    error = capsys.readouterr().err
    assert "--corpus" in error
    assert "Traceback" not in error


@pytest.fixture
def no_dali(monkeypatch: pytest.MonkeyPatch) -> None:
    really = loader.open_source

    def open_source(name: str, *rest: object) -> object:
        if name == "dali":
            raise errors.MissingDependency("The pipeline 'dali' needs nvidia.dali. Run: pip install -e '.[dali]'")
        return really(name, *rest)

    monkeypatch.setattr(loader, "open_source", open_source)
    monkeypatch.setattr(loader, "NAMES", ("torchvision", "dali"))


@pytest.mark.usefixtures("no_dali")
def test_what_is_not_installed_is_not_measured(folder: Path, root: Path, tmp_path: Path) -> None:
    assert bench(folder, tmp_path) == 0
    assert "Not measured: dali: " in next(tmp_path.glob("loader_*.md")).read_text()


@pytest.mark.usefixtures("no_dali")
def test_but_asked_for_by_name_it_is_an_error(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, tmp_path, "--pipelines", "dali") == 2
    assert "pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Unwritten:
    """A source with the right indices over memory that nobody filled: fast, and worthless."""

    def __init__(self, source: object) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Views]:
        for views in self._source:
            yield Views(torch.zeros_like(views.pixels), views.index)

    def seek(self, epoch: int, position: int) -> None:
        self._source.seek(epoch, position)

    def close(self) -> None:
        self._source.close()


def test_pictures_are_compared_before_anything_is_timed(root: Path, listing: Listing) -> None:
    reference, same, other = (loader._open_feed("torchvision", listing, root, 2) for _ in range(3))
    blank = Feed(Unwritten(other._labeled), Unwritten(other._unlabeled), prefetch=2)
    try:
        check("same", same, reference)
        with pytest.raises(DataError, match=r"blank does not deliver the reference's pictures: 100.0% of 168"):
            check("blank", blank, reference)
    finally:
        for feed in (reference, same, other):
            feed.close()


def test_faster_than_decoding_alone_is_not_credible() -> None:
    rates = {"slow": 10, "magic": 5000, loader.LIMIT: 1000}
    series = tuple(Series(name, (Sample(0, 0, rate, 1.0),)) for name, rate in rates.items())
    (warning,) = loader._impossible(Measurement("images/s", 1, 0, series))
    assert "magic" in warning
    assert "5,000 > 1,000" in warning


def test_a_round_that_loses_images_is_an_error(listing: Listing) -> None:
    with pytest.raises(RuntimeError, match="once"):
        loader._checked("x", lambda: np.zeros(48, np.int64), listing)()


def test_published_style_yields_normalised_float_views(listing: Listing) -> None:
    paths = [listing.path(index) for index in range(48)]
    labeled, unlabeled = loader._streams(listing)
    published = PublishedLoader(paths, (labeled, 8), (unlabeled, 40), workers=1)
    try:
        views, index = published._loaders[1].dataset[3]
        assert len(views) == 4
        assert index == unlabeled[3]
        assert all(view.shape == (3, 224, 224) and view.dtype == torch.float32 for view in views)
        assert all(view.min() > -2.2 and view.max() < 2.7 for view in views)
        for _ in range(2):
            assert sorted(published.epoch()) == list(range(48))
    finally:
        published.close()


def test_decode_only_decodes_each_file_once_a_round(listing: Listing) -> None:
    limit = DecodeOnly([listing.path(index) for index in range(48)], threads=3)
    try:
        for _ in range(2):
            assert sorted(limit.epoch()) == list(range(48))
        assert all(memory.any() for memory in limit._memory)
    finally:
        limit.close()
