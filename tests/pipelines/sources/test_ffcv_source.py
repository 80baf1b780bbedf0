"""The ffcv source against the torchvision source, byte for byte, wherever and however it is started and split."""

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.augment import gpu
from pipelines.batch import Views
from pipelines.beton.convert import convert
from pipelines.beton.format import OF_IMAGES, RAW
from pipelines.beton.one_image import Encoding
from pipelines.beton.reader import open_beton
from pipelines.beton.sidecar import sidecar_path
from pipelines.beton.turbojpeg import Decoder
from pipelines.errors import DataError
from pipelines.order import Draws, EvaluationOrder, Order, Stream, TrainingOrder
from pipelines.samples.listing import Listing, list_images
from pipelines.sources.feed import Feed
from pipelines.sources.ffcv_source import FfcvSource
from pipelines.sources.options import FfcvOptions, Resources
from pipelines.sources.torchvision_source import TorchvisionSource
from pipelines.views import EvaluationView, TrainingViews
from tests.support.leaks import WAIT, comes_true
from tools import convert_imagenet_to_ffcv as converter

VIEWS = TrainingViews(size=48, weak=2, strong=2)
TWO_THREADS = Resources(threads=2)
PNG, GREY, WARNED = "b/png.JPEG", "b/grey.jpg", "b/warned.jpg"


def photo(width: int, height: int, seed: int) -> Image.Image:
    """Soft blots of colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listing]:
    """24 images of many sizes: 4:2:0, 4:4:4, progressive, grey, one that libjpeg warns of, a PNG named .JPEG."""
    root = tmp_path_factory.mktemp("data") / "train"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
        for seed in range(21):
            image = photo(40 + 37 * seed % 150, 30 + 53 * seed % 170, seed)
            chroma = ("4:2:0", "4:4:4", "4:2:2")[seed % 3]
            image.save(root / "ab"[seed % 2] / f"{seed:02}.jpg", subsampling=chroma, progressive=seed % 5 == 0)
        photo(71, 53, 30).convert("L").save(root / GREY)
        photo(64, 80, 31).save(root / PNG, "PNG")
        photo(90, 60, 32).save(root / WARNED)
        content = (root / WARNED).read_bytes()
        (root / WARNED).write_bytes(content[:-2] + b"\x12" * 40 + content[-2:])  # stray bytes before the end marker
        assert converter.main(["--data", str(root.parent), "--split", "train", "--workers", "2"]) == 0
        yield list_images(root)


@pytest.fixture(scope="module")
def beton(listing: Listing) -> Path:
    return listing.root.parent / "ffcv" / "train.beton"


@pytest.fixture
def own(beton: Path, tmp_path: Path) -> Path:
    """A copy of the .beton, and of its sidecar, to damage."""
    shutil.copy(sidecar_path(beton), sidecar_path(tmp_path / "own.beton"))
    return shutil.copy(beton, tmp_path / "own.beton")


def training_order(listing: Listing, **changed: Any) -> TrainingOrder:
    """Two steps of 12, in groups of 2."""
    given = {"seed": 5, "stream": Stream.UNLABELED, "batch": 12, "groups": 6, "steps": 2, "continuous": False}
    return TrainingOrder(listing.indices, **(given | changed))


def opened(
    listing: Listing,
    beton: Path | None,
    order: Order | None = None,
    views: TrainingViews | EvaluationView = VIEWS,
    resources: Resources = TWO_THREADS,
    **options: Any,
) -> FfcvSource:
    order = order or training_order(listing)
    return FfcvSource(listing, order, views, replace(resources, beton=beton), FfcvOptions(**options))


def assert_equal(got: list[Views], wanted: list[Views]) -> None:
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.pixels, other.pixels)


def by_sample(batches: list[Views]) -> dict[int, NDArray[np.uint8]]:
    """Index → its views [v, size, size, 3]."""
    return {
        index: batch.pixels[:, place].numpy() for batch in batches for place, index in enumerate(batch.index.tolist())
    }


@pytest.mark.parametrize("evaluate", [False, True], ids=["training", "evaluation"])
def test_the_pixels_are_those_of_the_torchvision_source(listing: Listing, beton: Path, evaluate: bool) -> None:
    order = EvaluationOrder(listing.indices, batch=7) if evaluate else training_order(listing)
    views = EvaluationView(size=40, resize=52) if evaluate else VIEWS
    got = list(opened(listing, beton, order, views))
    wanted = list(TorchvisionSource(listing, order, views, TWO_THREADS))
    assert [len(batch.index) for batch in got] == ([7, 7, 7, 3] if evaluate else [2] * 12)
    assert len(got) == len(order)
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one.index, other.index)
        assert one.pixels.dtype == torch.uint8
        assert one.pixels.is_contiguous()
        assert torch.equal(one.pixels, other.pixels)


@pytest.mark.parametrize("strong", [1, 2])
def test_strong_views_left_to_the_device_are_the_same_bytes(
    listing: Listing, beton: Path, strong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is the CPU here; every image is in the order, the one that Pillow must decode too."""
    views, calls = TrainingViews(size=48, weak=2, strong=strong), 0
    really = gpu.augment_batch

    def counted(*given: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return really(*given)

    monkeypatch.setattr(gpu, "augment_batch", counted)
    order = training_order(listing)
    here = list(opened(listing, beton, order, views))
    assert calls == 0  # auto, and no GPU
    there = list(opened(listing, beton, order, views, strong_on="device"))
    assert calls == len(there) == 12
    assert_equal(there, here)
    assert all(batch.pixels.is_contiguous() for batch in there)


@pytest.mark.parametrize("views", [TrainingViews(size=48), EvaluationView(size=40, resize=52)], ids=["weak", "eval"])
def test_nothing_is_left_to_the_device_where_nothing_is_strong(
    listing: Listing, beton: Path, views: TrainingViews | EvaluationView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(gpu, "augment_batch")
    order = EvaluationOrder(listing.indices, batch=7)
    left = opened(listing, beton, order, views, strong_on="device")
    assert_equal(list(left), list(opened(listing, beton, order, views)))


@pytest.mark.parametrize(
    ("strong_on", "device", "compile", "left"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda:1", True, True),
        ("auto", "cuda", False, False),
        ("source", "cuda", True, False),
        ("device", "cpu", False, True),
    ],
)
def test_who_augments(strong_on: Any, device: str, compile: bool, left: bool) -> None:
    resources = Resources(device=device, compile=compile)
    assert FfcvOptions(strong_on=strong_on).strong_left_to_device(resources) is left


def test_pillow_decodes_what_libturbojpeg_refuses(listing: Listing, beton: Path) -> None:
    """libjpeg only warns of this file, and ImageNet has such files."""
    warned = listing.paths.index(WARNED)
    with Decoder() as decoder, pytest.raises(DataError, match="extraneous bytes"):
        decoder.decode(listing.path(warned).read_bytes(), np.empty((60, 90, 3), np.uint8))
    order = EvaluationOrder(np.array([warned]), batch=1)
    views = EvaluationView(size=40, resize=52)
    assert_equal(
        list(opened(listing, beton, order, views)), list(TorchvisionSource(listing, order, views, TWO_THREADS))
    )


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_ranks_and_batch_size_change_no_byte(listing: Listing, beton: Path, threads: int, world: int) -> None:
    wanted = by_sample(list(opened(listing, beton)))
    resources = Resources(threads=threads, prefetch=world - 1)
    got: dict[int, NDArray[np.uint8]] = {}
    for rank in range(world):
        order = training_order(listing, batch=6 * world, groups=world, steps=4 // world, world=world, rank=rank)
        part = by_sample(list(opened(listing, beton, order, resources=resources)))
        assert not got.keys() & part.keys()
        got |= part
    assert len(got) == 6 * world * (4 // world)
    for index, pixels in got.items():
        np.testing.assert_array_equal(pixels, wanted[index])


def test_seeking_is_skipping(listing: Listing, beton: Path) -> None:
    source = opened(listing, beton)
    first, second = list(source), list(source)  # an iteration ends at the next epoch's start
    assert not torch.equal(first[0].index, second[0].index)
    source.seek(0, 12)
    assert_equal(list(source), first[6:])
    assert_equal(list(source), second)
    source.seek(1, 0)
    assert_equal(list(source), second)


def test_an_abandoned_iteration_leaves_nothing_behind(listing: Listing, beton: Path) -> None:
    source = opened(listing, beton)
    everything = list(source)
    source.seek(0, 0)
    abandoned = iter(source)
    assert_equal([next(abandoned), next(abandoned)], everything[:2])
    source.seek(0, 12)
    assert_equal(list(source), everything[6:])
    abandoned.close()
    source.seek(0, 0)
    assert_equal(list(source), everything)


def test_what_was_yielded_is_not_written_again(listing: Listing, beton: Path) -> None:
    batches, copies = [], []
    for batch in opened(listing, beton):
        batches.append(batch)
        copies.append(Views(batch.pixels.clone(), batch.index.clone()))
    assert_equal(batches, copies)


def test_two_sources_at_once(listing: Listing, beton: Path) -> None:
    """As in training: both are fed by a thread, over several epochs."""
    labeled = training_order(listing, stream=Stream.LABELED, continuous=True)
    weak = TrainingViews(size=48)
    alone = list(opened(listing, beton, labeled, weak)), list(opened(listing, beton))
    feed = Feed(opened(listing, beton, labeled, weak), opened(listing, beton), prefetch=2)
    for _ in range(3):
        batches = list(feed)
        feed.seek(0, 0, 0)
        assert_equal([batch.labeled for batch in batches], alone[0])
        assert_equal([batch.unlabeled for batch in batches], alone[1])
    feed.close()


@pytest.mark.parametrize("mode", ["raw", "proportion"])
def test_raw_images_are_read_too(listing: Listing, tmp_path: Path, mode: str) -> None:
    convert(listing, tmp_path / "raw.beton", Encoding(mode=mode, raw_share=0.4), 1)
    raw = open_beton(tmp_path / "raw.beton").stored.kind == RAW
    assert raw.all() if mode == "raw" else 0 < raw.sum() < len(raw)
    assert_equal(
        list(opened(listing, tmp_path / "raw.beton")),
        list(TorchvisionSource(listing, training_order(listing), VIEWS, TWO_THREADS)),
    )


def test_a_subset_serves_the_orders_within_it(listing: Listing, beton: Path, tmp_path: Path) -> None:
    some = np.arange(3, 20, dtype=np.int64)
    convert(listing, tmp_path / "some.beton", Encoding(), 2, indices=some)
    views = EvaluationView(size=40, resize=52)
    within = EvaluationOrder(some[2:], batch=4)
    assert_equal(
        list(opened(listing, tmp_path / "some.beton", within, views)), list(opened(listing, beton, within, views))
    )
    beyond = EvaluationOrder(np.arange(2, 9, dtype=np.int64), batch=4)
    with pytest.raises(DataError, match=r"lacks 1 of the samples .* sample 2, .*\(it was not converted\)") as raised:
        opened(listing, tmp_path / "some.beton", beyond, views)
    assert str(listing.path(2)) in str(raised.value)


def test_an_order_that_yields_other_samples_than_it_states_is_found_out(listing: Listing, tmp_path: Path) -> None:
    class Lying:
        indices = np.array([3, 4])

        def __len__(self) -> int:
            return 2

        def groups(self, epoch: int, consumed: int) -> Iterator[Draws]:
            for index in ([3, 4], [4, 5]):
                yield Draws(np.array(index), np.zeros(2, np.int64), 0, Stream.EVALUATION)

    convert(listing, tmp_path / "some.beton", Encoding(), 2, indices=np.array([3, 4]))
    source = opened(listing, tmp_path / "some.beton", Lying(), EvaluationView(size=40, resize=52))
    with pytest.raises(DataError, match="such as sample 5"):
        list(source)


def test_closing_gives_back_threads_files_and_maps(listing: Listing, own: Path) -> None:
    def held() -> tuple[int, int, int]:
        threads = sum(thread.name.startswith("ffcv") for thread in threading.enumerate())
        maps = Path("/proc/self/maps").read_text().count(str(own))
        return threads, maps, len(list(Path("/proc/self/fd").iterdir()))

    first = opened(listing, own)
    next(iter(first))  # compiles: numba's frames keep their arguments until they are collected
    first.close()
    gc.collect()  # those, and what other tests' exceptions hold
    before = held()
    source = opened(listing, own)
    iteration = iter(source)
    next(iteration)
    assert held()[1] > before[1]
    source.close()
    source.close()
    assert comes_true(lambda: held() == before)
    with pytest.raises(RuntimeError):
        next(iteration)


def test_a_copy_in_memory_gives_the_same_bytes_and_goes_with_its_sources(listing: Listing, own: Path) -> None:
    expected = list(opened(listing, own, cache="page"))
    first, second = opened(listing, own, cache="memory"), opened(listing, own, cache="memory")
    assert first._copy is second._copy
    kept = weakref.ref(first._copy)
    batches = iter(first)
    early = next(batches)  # from the map, unless the copy is already there
    assert first._copy._whole.wait(WAIT)
    assert first._content() is not first._beton.content
    assert_equal([early, *batches], expected)
    first.close()
    assert kept() is not None
    second.close()
    assert kept() is None


def test_importing_the_pipeline_leaves_thread_counts_alone() -> None:
    code = (
        "import numba, torch; torch.set_num_threads(2); before = torch.get_num_threads(), numba.get_num_threads();"
        "import pipelines.sources.ffcv_source; assert before == (torch.get_num_threads(), numba.get_num_threads())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(converter.__file__).parents[1])


def test_a_missing_beton_names_the_command(listing: Listing, tmp_path: Path) -> None:
    command = f"python -m debiaspl convert --data {listing.root.parent} --split train"
    for path, problem in ((None, "none is named"), (tmp_path / "no.beton", "There is no file")):
        with pytest.raises(DataError, match=problem) as raised:
            opened(listing, path)
        assert str(raised.value).endswith(command)


def cut(beton: Path) -> None:
    with beton.open("r+b") as file:
        file.truncate(beton.stat().st_size - 24)


def cut_to_nothing(beton: Path) -> None:
    beton.write_bytes(b"\0" * 8)


def cut_to_pages(beton: Path) -> None:
    """The header is written first and completed last: this is what a converter that was killed leaves."""
    content = bytearray(beton.read_bytes())
    content[16:24] = bytes(8)
    beton.write_bytes(content)


def garbage(beton: Path) -> None:
    beton.write_bytes(np.random.default_rng(0).bytes(5000))


def renamed_field(beton: Path) -> None:
    beton.write_bytes(beton.read_bytes().replace(b"index", b"indes", 1))


def sidecar_of_another(beton: Path) -> None:
    content = json.loads(sidecar_path(beton).read_text())
    sidecar_path(beton).write_text(json.dumps(content | {"fingerprint": "another"}))


def sidecar_damaged(beton: Path) -> None:
    sidecar_path(beton).write_text("{")


def grown(beton: Path) -> None:
    with beton.open("ab") as file:
        file.write(bytes(24))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (cut, "cut short"),
        (cut_to_nothing, "cut short"),
        (cut_to_pages, "cut short"),
        (garbage, "cannot be used"),
        (renamed_field, "it has the fields image, label, indes"),
        (grown, "but .*own.beton.json says"),
        (sidecar_of_another, "made from other files"),
        (sidecar_damaged, "is not what the converter writes"),
    ],
)
def test_a_beton_that_does_not_fit_is_refused(
    listing: Listing, own: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(own)
    with pytest.raises(DataError, match=problem) as raised:
        opened(listing, own)
    assert str(own) in str(raised.value)
    assert f"Convert again: python -m debiaspl convert --data {listing.root.parent}" in str(raised.value)


def test_without_a_sidecar_count_and_labels_are_compared(listing: Listing, own: Path) -> None:
    sidecar_path(own).unlink()
    with pytest.warns(UserWarning, match=r"own\.beton\.json is missing"):
        opened(listing, own)
    fewer = replace(listing, paths=listing.paths[1:], labels=listing.labels[1:])
    for other, problem in ((fewer, "holds 24 images"), (replace(listing, labels=1 - listing.labels), "other labels")):
        with pytest.warns(UserWarning, match="is missing"), pytest.raises(DataError, match=problem):
            opened(other, own, training_order(listing))


@pytest.mark.filterwarnings("ignore:.*is missing")
def test_rows_may_come_in_any_order(listing: Listing, beton: Path, tmp_path: Path) -> None:
    """The index field says which sample a row holds."""
    content = bytearray(beton.read_bytes())
    rows = np.frombuffer(content, OF_IMAGES.metadata, len(listing), OF_IMAGES.start)
    rows[:] = rows[::-1].copy()
    (tmp_path / "shuffled.beton").write_bytes(content)
    assert_equal(list(opened(listing, tmp_path / "shuffled.beton")), list(opened(listing, beton)))


def test_a_damaged_image_is_named_and_the_source_lives_on(listing: Listing, own: Path) -> None:
    source = opened(listing, own)
    everything = list(source)
    source.close()
    broken = int(everything[7].index[0])
    stored = open_beton(own).stored
    with own.open("r+b") as file:
        file.seek(int(stored.offset[broken]))
        file.write(bytes(int(stored.length[broken])))
    source = opened(listing, own)
    with pytest.raises(DataError, match="Replace the file or take it out of the data") as raised:
        list(source)
    assert f"Cannot decode {listing.path(broken)}: " in str(raised.value)
    assert f"(as stored in {own}, which is to be converted again)" in str(raised.value)
    assert_equal(list(islice(source, 7)), everything[:7])
    source.seek(1, 0)
    next(iter(source))


WITHOUT_THE_LIBRARY = """
import ctypes, os, sys
from pathlib import Path
really = ctypes.CDLL
def library(name, *rest, **more):
    if name and "turbojpeg" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    return really(name, *rest, **more)
ctypes.CDLL = library
for package in ("ffcv", "cv2"):
    sys.modules[package] = None  # importing it fails
from pipelines import EvaluationOrder, EvaluationView, MissingDependency, Resources, list_images, open_source
listing = list_images(Path(sys.argv[1]))
for beton in sys.argv[2:]:
    order = EvaluationOrder(listing.indices[:20], batch=5)
    try:
        source = open_source("ffcv", listing, order, EvaluationView(40, 52), Resources(beton=Path(beton)))
        print(sum(views.pixels.long().sum().item() for views in source))
    except MissingDependency as error:
        print(error)
"""


def test_planes_and_pixels_need_neither_libturbojpeg_nor_ffcv_nor_a_compiler(listing: Listing, tmp_path: Path) -> None:
    """JPEGs need libturbojpeg, and say so before the first batch."""
    betons = [tmp_path / f"{mode}.beton" for mode in ("planes", "raw", "jpeg")]
    for beton in betons:
        convert(listing, beton, Encoding(mode=beton.stem), 2)
    arguments = [sys.executable, "-c", WITHOUT_THE_LIBRARY, str(listing.root), *map(str, betons)]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(
        arguments, capture_output=True, text=True, cwd=Path(converter.__file__).parents[1], env=environment
    )
    assert done.returncode == 0, done.stderr
    order = EvaluationOrder(listing.indices[:20], batch=5)
    reference = TorchvisionSource(listing, order, EvaluationView(40, 52), TWO_THREADS)
    expected = sum(int(views.pixels.long().sum()) for views in reference)
    planes, raw, jpeg = done.stdout.splitlines()
    assert (int(planes), int(raw)) == (expected, expected)
    assert jpeg.startswith("Decoding JPEGs needs the system library libturbojpeg, which is not installed")
    assert "apt-get install libturbojpeg0" in jpeg
