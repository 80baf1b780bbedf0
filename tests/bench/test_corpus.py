"""The corpus: the same bytes for the same seed, ImageNet-like sizes and weights, pieces of photographs never scaled."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from bench import corpus
from bench.__main__ import main
from bench.arguments import cache_folder
from pipelines.beton import turbojpeg
from pipelines.errors import DataError
from pipelines.samples.listing import list_images


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.build(tmp_path_factory.mktemp("corpus"), images=240)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first, again = corpus.build(tmp_path / "a", 24, seed=1), corpus.build(tmp_path / "b", 24, seed=1)
    other = corpus.build(tmp_path / "b", 24, seed=2)
    assert contents(first) == contents(again)
    assert first.name == again.name != other.name
    assert set(contents(first)) == set(contents(other))
    assert all(contents(first)[name] != contents(other)[name] for name in contents(first))


def test_a_larger_corpus_begins_with_the_smaller(tmp_path: Path, root: Path) -> None:
    small = contents(corpus.build(tmp_path, 16))
    assert small.items() <= contents(root).items()


def test_layout_sizes_and_weight(root: Path) -> None:
    listing = list_images(root / "train")
    assert len(listing) == 240
    assert len(listing.classes) == 8
    sizes = Counter(zip(listing.widths.tolist(), listing.heights.tolist(), strict=True))
    assert sizes.keys() == corpus.IMAGE_SIZES.keys()
    assert 0.4 < sizes[500, 375] / 240 < 0.6
    assert 100e3 < corpus.mean_bytes(root) < 120e3  # ImageNet's mean is 110 kB
    assert sum(corpus.IMAGE_SIZES.values()) == pytest.approx(1)


def test_both_subsamplings_are_there(root: Path) -> None:
    with turbojpeg.Decoder() as decoder:
        found = Counter(decoder.header(data).subsampling for data in contents(root).values())
    assert found.keys() == {"4:2:0", "4:4:4"}
    assert min(found.values()) > 240 * 0.4


def test_pieces_fit_the_photographs_upright_or_turned() -> None:
    for name in corpus.PHOTOGRAPHS:
        height, width, _ = load_sample_image(name).shape
        for piece in corpus.IMAGE_SIZES:
            assert max(piece) <= width
            assert min(piece) <= height


@pytest.mark.soak
def test_a_piece_is_found_in_a_photograph_at_its_own_scale(root: Path) -> None:
    photographs = [load_sample_image(name).astype(int) for name in corpus.PHOTOGRAPHS]
    for path in sorted(root.glob("train/*/*.JPEG"))[:6]:
        piece = np.asarray(Image.open(path)).astype(int)
        upright = [np.rot90(p) if piece.shape[0] > piece.shape[1] else p for p in photographs]
        candidates = [q for p in upright for q in (p, p[:, ::-1])]
        assert min(_best_match(piece, candidate) for candidate in candidates) < 4


def _best_match(piece: np.ndarray, photograph: np.ndarray) -> float:
    """Mean difference at the best place, looked for with a sparse grid of pixels."""
    height, width, _ = piece.shape
    grid = piece[::37, ::37]
    return min(
        float(np.abs(photograph[top : top + height : 37, left : left + width : 37] - grid).mean())
        for top in range(photograph.shape[0] - height + 1)
        for left in range(photograph.shape[1] - width + 1)
    )


def test_an_existing_corpus_is_left_alone(tmp_path: Path) -> None:
    root = corpus.build(tmp_path, 8)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert corpus.build(tmp_path, 8) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(photograph: Image.Image, choice: object) -> Image.Image:
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "_cut", interrupted)
    with pytest.raises(KeyboardInterrupt):
        corpus.build(tmp_path, 8)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="--corpus"):
        corpus.build(tmp_path / "file", 8)


def test_a_folder_of_the_users_own_pictures_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "1.JPEG").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    for words in (["loader"], ["parity"], ["convert"]):
        assert main([*words, "--corpus", str(tmp_path), "--images", "48", "--out", str(tmp_path / "out")]) == 2
    assert "'train'" in (error := capsys.readouterr().err)
    assert "nothing was written" in error
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_that_came_to_lie_beside_the_corpus_are_left_alone(tmp_path: Path) -> None:
    corpus.build(tmp_path, 8)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"holds files that are not the bench's \('train'\); nothing was written"):
        corpus.build(tmp_path, 8)


def test_where_the_images_lie_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = corpus.build(tmp_path, 8)
    assert str(root) in capsys.readouterr().err


def test_default_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "debiaspl" / "bench"
