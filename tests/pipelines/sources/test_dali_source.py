"""The DALI source against the Pillow reference, its place in the order, its errors, and the shape of its GPU graph."""

import gc
import struct
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

pytest.importorskip("nvidia.dali", reason="the optional pipeline 'dali' is not installed: pip install -e '.[dali]'")

from nvidia.dali import Pipeline

from pipelines.augment import pillow
from pipelines.augment.ops import Op
from pipelines.augment.policy import plan
from pipelines.batch import Views
from pipelines.errors import DataError
from pipelines.order import EvaluationOrder, Stream, TrainingOrder
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing, list_images
from pipelines.sources import dali_graph, dali_source
from pipelines.sources.base import Replacement
from pipelines.sources.dali_source import DaliSource
from pipelines.sources.options import DaliOptions, Resources
from pipelines.sources.torchvision_source import TorchvisionSource
from pipelines.views import EvaluationView, TrainingViews
from tests.support.leaks import comes_true, steady, thread_count

IMAGES = 40
SEED = 5
PLAIN = TrainingViews(size=96, weak=2)


def picture(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A random piece of a photograph."""
    photograph = Image.fromarray(load_sample_image(rng.choice(["china.jpg", "flower.jpg"])))
    scale = rng.uniform(0.5, 1.0) * min(photograph.height / height, photograph.width / width)
    box_h, box_w = scale * height, scale * width
    top, left = rng.uniform(0, photograph.height - box_h), rng.uniform(0, photograph.width - box_w)
    return photograph.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + box_w, top + box_h))


def listed(root: Path) -> Listing:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
        return list_images(root)


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data") / "images"
    for number in range(IMAGES):
        height, width = rng.integers(40, 420, 2).tolist()
        path = root / f"class{number % 4}" / f"{number:03}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(rng, height, width).save(path, quality=90, subsampling="4:4:4" if number % 3 else "4:2:0")
    return listed(root)


@pytest.fixture
def opened(listing: Listing) -> Iterator[Callable[..., DaliSource]]:
    """Opens sources and closes them after the test."""
    sources: list[DaliSource] = []

    def open_source(order, views=PLAIN, of: Listing = listing, cut="dali", **resources) -> DaliSource:
        sources.append(DaliSource(of, order, views, Resources(**resources), DaliOptions(cut=cut)))
        return sources[-1]

    yield open_source
    for source in sources:
        source.close()


def training_order(batch: int = 12, groups: int = 2, steps: int = 3, **where: int) -> TrainingOrder:
    where |= {"batch": batch, "groups": groups, "steps": steps}
    return TrainingOrder(np.arange(IMAGES), seed=SEED, stream=Stream.UNLABELED, continuous=False, **where)


def by_index(batches: list[Views]) -> dict[int, Tensor]:
    return {int(index): b.pixels[:, at] for b in batches for at, index in enumerate(b.index)}


def assert_same(got: list[Views], expected: list[Views]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.pixels, b.pixels)


# --- pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "views", [TrainingViews(size=224, weak=2), TrainingViews(size=32, weak=4), EvaluationView(), EvaluationView(64, 72)]
)
def test_cuts_are_pillows_within_one_grey_level(listing, opened, views) -> None:
    order = EvaluationOrder(listing.indices, batch=16)
    if isinstance(views, TrainingViews):
        order = training_order(batch=IMAGES, groups=1, steps=1)
    reference = TorchvisionSource(listing, order, views, Resources())
    differences = []
    for got, expected in zip(opened(order, views), reference, strict=True):
        assert (got.pixels.dtype, got.index.dtype) == (torch.uint8, torch.int64)
        assert got.pixels.shape == expected.pixels.shape
        assert got.pixels.is_contiguous()
        assert torch.equal(got.index, expected.index)
        differences.append((got.pixels.int() - expected.pixels.int()).abs())
    reference.close()
    difference = torch.cat(differences, dim=1).float()
    within = difference[:, :, 1:-1, 1:-1].max()
    print(
        f"{views}: mean {difference.mean():.3f}, max {difference.max():.0f}, but for the outermost pixels {within:.0f}"
    )
    assert difference.mean() <= 0.2
    assert difference[:, :, 3:-3, 3:-3].max() <= 1
    if isinstance(views, EvaluationView):  # its window leaves the resized image's border out
        assert difference.max() <= 1


@pytest.mark.parametrize("views", [TrainingViews(size=48, weak=2, strong=2), EvaluationView(64, 72)])
def test_on_a_cpu_our_executor_cuts_pillows_bytes(listing, opened, views) -> None:
    order = EvaluationOrder(listing.indices, batch=16)
    if isinstance(views, TrainingViews):
        order = training_order(batch=IMAGES, groups=1, steps=1)
    reference = TorchvisionSource(listing, order, views, Resources())
    for threads in (1, 3):
        for got, expected in zip(opened(order, views, cut="auto", threads=threads), reference, strict=True):
            assert torch.equal(got.index, expected.index)
            assert torch.equal(got.pixels, expected.pixels)
        reference.seek(0, 0)
    reference.close()


def save(image: Image.Image, path: Path, kind: str) -> None:
    match kind:
        case "4:2:0" | "4:2:2" | "4:4:4":
            image.save(path, quality=90, subsampling=kind)
        case "progressive":
            image.save(path, quality=80, progressive=True)
        case "grey":
            image.convert("L").save(path, quality=90)
        case "CMYK":
            image.convert("CMYK").save(path, quality=90)
        case "turned by EXIF":
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(path, quality=90, exif=exif)
        case "PNG" | "WebP" | "BMP":
            image.save(path, kind)
        case "grey PNG":
            image.convert("L").save(path, "PNG")
        case "palette PNG":
            image.quantize(64).save(path, "PNG")
        case "RGBA PNG":
            image.putalpha(77)
            image.save(path, "PNG")


KINDS = ["4:2:0", "4:2:2", "4:4:4", "progressive", "grey", "CMYK", "turned by EXIF", "PNG", "WebP", "BMP"]
KINDS += ["grey PNG", "palette PNG", "RGBA PNG"]


def test_decodes_pillows_bytes(opened, tmp_path) -> None:
    """Square images of the view's own size: nothing is cut or resized."""
    rng = np.random.default_rng(1)
    for number, kind in enumerate(KINDS):
        path = tmp_path / "images" / "class" / f"{number:03}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(picture(rng, 131, 131), path, kind)
    odd = listed(tmp_path / "images")
    (batch,) = opened(EvaluationOrder(odd.indices, batch=len(odd)), EvaluationView(131, 131), odd)
    for index, kind in enumerate(KINDS):
        expected = np.asarray(pillow.decode(odd.path(index)))
        np.testing.assert_array_equal(batch.pixels[0, index].numpy(), expected, err_msg=kind)


def test_strong_views_are_augmented_plain_cuts(listing, opened) -> None:
    order = training_order()
    strong = opened(order, TrainingViews(size=96, weak=1, strong=2), threads=2)
    plain = opened(order, TrainingViews(size=96, weak=3))
    draws = order.groups(0, 0)
    for got, cut, of in islice(zip(strong, plain, draws, strict=True), 3):
        sizes = listing.heights[of.index], listing.widths[of.index]
        todo = plan(TrainingViews(96, 1, 2), of, *sizes)
        assert torch.equal(got.pixels[0], cut.pixels[0])
        for view, sample in np.ndindex(3, len(of.index)):
            image = Image.fromarray(cut.pixels[view, sample].numpy())
            for op, level in zip(todo.op[view, sample].tolist(), todo.level[view, sample].tolist(), strict=True):
                image = pillow.apply(Op(op), level, image)
            np.testing.assert_array_equal(got.pixels[view, sample].numpy(), np.asarray(image))


@pytest.mark.parametrize(("batch", "groups"), [(36, 1), (36, 6), (12, 3), (6, 6)])
def test_bytes_do_not_depend_on_layout_threads_or_ranks(opened, batch, groups) -> None:
    expected = by_index(list(opened(training_order(36, 1, 1), threads=1, prefetch=1)))
    got: dict[int, Tensor] = {}
    ranks = [world for world in (1, 2, 3) if groups % world == 0]
    for world in ranks:
        for rank in range(world):
            order = training_order(batch, groups, 36 // batch, rank=rank, world=world)
            source = opened(order, threads=1 + rank % 2, prefetch=2 + rank)
            assert len(source) == len(order)
            got |= by_index(list(source))
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[index], expected[index]) for index in expected)


def test_short_last_batch(listing, opened) -> None:
    for rank in range(3):
        order = EvaluationOrder(listing.indices, batch=6, rank=rank, world=3)
        batches = list(opened(order, EvaluationView(32, 40)))
        assert torch.cat([b.index for b in batches]).tolist() == listing.indices[rank::3].tolist()
        assert [b.pixels.shape[1] for b in batches] == [6, 6, len(listing.indices[rank::3]) - 12]


def test_more_ranks_than_samples(listing, opened) -> None:
    source = opened(EvaluationOrder(listing.indices[:1], batch=4, rank=1, world=2), EvaluationView(32, 40))
    assert len(source) == 0
    assert list(source) == []
    assert list(source) == []


# --- place in the order ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def epochs(listing: Listing) -> list[list[Views]]:
    """Epochs 0, 1 and 2 of training_order(), each from a source of its own."""
    found = []
    for epoch in range(3):
        source = DaliSource(listing, training_order(), PLAIN, Resources(), DaliOptions(cut="dali"))
        source.seek(epoch, 0)
        found.append(list(source))
        source.close()
    assert not torch.equal(found[0][0].index, found[1][0].index)
    return found


def test_epochs_follow_each_other_on_one_pipeline(opened, epochs, monkeypatch) -> None:
    built = []
    build = dali_source.build
    monkeypatch.setattr(dali_source, "build", lambda *parts: built.append(build(*parts)) or built[-1])
    source = opened(training_order(), prefetch=3)
    for epoch in epochs:
        assert_same(list(source), epoch)
    assert len(built) == 1


def test_all_evaluations_run_on_one_pipeline(listing, opened, monkeypatch) -> None:
    built = []
    build = dali_source.build
    monkeypatch.setattr(dali_source, "build", lambda *parts: built.append(build(*parts)) or built[-1])
    source = opened(EvaluationOrder(listing.indices, batch=12), EvaluationView(32, 40), cut="auto")
    passes = []
    for _ in range(3):
        source.seek(0, 0)
        passes.append(list(source))
    assert len(built) == 1
    assert [batch.pixels.shape[1] for batch in passes[0]] == [12, 12, 12, 4]
    assert_same(passes[1], passes[0])
    assert_same(passes[2], passes[0])


def test_batches_that_were_yielded_stay_as_they_are(opened) -> None:
    kept, copies = [], []
    for batch in opened(training_order()):
        kept.append(batch.pixels)
        copies.append(batch.pixels.clone())
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("prefetch", [1, 3])
def test_seek_and_abandoned_iterations(opened, epochs, prefetch) -> None:
    source = opened(training_order(), prefetch=prefetch)
    source.seek(1, 12)
    assert_same(list(source), epochs[1][2:])
    assert_same(list(islice(source, 3)), epochs[2][:3])  # abandoned ...
    assert_same(list(source), epochs[2])  # ... starts again from the sought place
    source.seek(0, 24)
    assert_same(list(source), epochs[0][4:])
    source.seek(1, 36)  # an epoch's very end
    assert list(source) == []
    assert_same(list(source), epochs[2])
    source.seek(2, 0)  # where batches of epoch 3 lie ready
    assert_same(list(source), epochs[2])


def test_an_old_iteration_ends_where_a_new_one_begins(opened, epochs) -> None:
    source = opened(training_order())
    old = iter(source)
    next(old)
    assert_same([next(iter(source))], epochs[0][:1])
    with pytest.raises(RuntimeError, match="ended by a newer one"):
        next(old)


# --- errors and ends ------------------------------------------------------------------------------------------------


def copied(listing: Listing, root: Path) -> Listing:
    for path in listing.paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes((listing.root / path).read_bytes())
    return listed(root)


@pytest.mark.parametrize("damage", ["truncated", "empty", "not an image", "missing"])
def test_a_bad_file_is_named(listing, opened, epochs, tmp_path, damage) -> None:
    mine = copied(listing, tmp_path / "images")
    bad = mine.path(int(epochs[0][3].index[4]))
    good = bad.read_bytes()
    if damage == "missing":
        bad.unlink()
    else:
        bad.write_bytes({"truncated": good[: len(good) // 2], "empty": b"", "not an image": b"text"}[damage])
    source = opened(training_order(), of=mine, prefetch=3)
    batches = iter(source)
    first = []
    for _ in range(3):
        first.append(next(batches))
        time.sleep(0.1)  # DALI comes upon the bad file while good batches are still to be had
    assert_same(first, epochs[0][:3])
    with pytest.raises(DataError) as caught:
        next(batches)
    with pytest.raises(OSError) as reason:  # noqa: PT011 (Pillow's words are what is compared)
        pillow.decode(bad)
    assert str(caught.value) == f"Cannot decode {bad}: {reason.value}. Replace the file or take it out of the data."
    bad.write_bytes(good)
    assert_same(list(source), epochs[0])  # mended, it starts again from the sought place


def test_files_are_read_once_and_a_bad_one_costs_no_pipeline(listing, opened, tmp_path, monkeypatch) -> None:
    mine = copied(listing, tmp_path / "images")
    for index in (3, 17):
        mine.path(index).write_bytes(mine.path(index).read_bytes()[:-100])
    built, read, decoded = [], [], []
    build, content, decode = dali_source.build, Replacement.content, Replacement.decoded
    monkeypatch.setattr(dali_source, "build", lambda *parts: built.append(build(*parts)) or built[-1])
    monkeypatch.setattr(Replacement, "content", lambda self, index: (read.append(index), content(self, index))[1])
    monkeypatch.setattr(
        Replacement, "decoded", lambda self, index, content: (decoded.append(index), decode(self, index, content))[1]
    )
    bad_files = BadFiles(mine, limit=1.0)
    order = training_order(batch=36, groups=9, steps=1)
    source = opened(order, of=mine, bad_files=bad_files, prefetch=1)
    got = by_index(list(source))
    assert not {3, 17} & got.keys()
    assert set() < set(bad_files.known) <= {3, 17}
    assert len(built) == 1
    assert sorted(decoded) == sorted(bad_files.known)
    assert len(read) <= 4 * (9 + 2 + len(bad_files.known))  # two groups are ahead, those with a bad file are read again


def test_a_file_is_opened_once(listing, opened, epochs, tmp_path, monkeypatch) -> None:
    """Each file is removed as soon as its bytes were read: whoever opened it again would not find it."""
    mine = copied(listing, tmp_path / "images")
    content = Replacement.content

    def read_and_remove(self, index: int) -> bytes | str:
        found = content(self, index)
        mine.path(index).unlink()
        return found

    monkeypatch.setattr(Replacement, "content", read_and_remove)
    source = opened(training_order(), of=mine, prefetch=1)
    assert_same(list(islice(source, 5)), epochs[0][:5])  # later ones come again in the next epoch, which is read ahead


@pytest.mark.parametrize("refused_by_pillow", [True, False])
def test_a_file_that_dali_refuses_costs_one_pass_of_pillow_and_one_pipeline(
    listing, opened, epochs, tmp_path, monkeypatch, refused_by_pillow
) -> None:
    """What DALI is handed for it is no image; Pillow refuses the file, too, or decodes it."""
    mine = copied(listing, tmp_path / "images")
    bad = int(epochs[0][3].index[4])
    usual = dali_source.usual_jpeg
    size = mine.path(bad).stat().st_size

    def spoilt(content: bytes, of: tuple[int, int], *, turns: bool) -> np.ndarray | None:
        jpeg = usual(content, of)
        return jpeg[: len(jpeg) // 3].copy() if len(content) == size else jpeg

    monkeypatch.setattr(dali_source, "usual_jpeg", spoilt)
    assert sum(mine.path(index).stat().st_size == size for index in range(IMAGES)) == 1
    built, decoded = [], []
    build, decode = dali_source.build, Replacement.decoded

    def counted(self, index: int, content: bytes | None = None) -> Image.Image | str:
        decoded.append(index)
        return "broken" if refused_by_pillow and index == bad else decode(self, index, content)

    monkeypatch.setattr(dali_source, "build", lambda *parts: built.append(build(*parts)) or built[-1])
    monkeypatch.setattr(Replacement, "decoded", counted)
    bad_files = BadFiles(mine, limit=1.0)
    source = opened(training_order(), of=mine, bad_files=bad_files, prefetch=3)
    got = list(source)
    assert len(built) == 2
    in_work = 4 * 6  # groups times samples
    if refused_by_pillow:
        assert bad_files.known == {bad: "broken"}
        assert bad not in by_index(got)
        assert len(decoded) <= in_work + 1  # each suspect once; the bad one again, to be replaced
        assert source._refused == {bad}
    else:
        assert not bad_files.known
        assert_same(got, epochs[0])
        assert len(source._refused) <= in_work
        assert max(map(decoded.count, source._refused)) <= 1 + 2  # to find it, in this epoch, and ahead in the next
    assert bad in source._refused


@pytest.mark.parametrize("cut", ["dali", "cpu"])
def test_a_file_of_another_size_than_listed_is_named(listing, opened, tmp_path, cut) -> None:
    mine = copied(listing, tmp_path / "images")
    Image.new("RGB", (8, 8)).save(mine.path(0))
    with pytest.raises(DataError, match="its size has changed") as caught:
        list(opened(EvaluationOrder(mine.indices, batch=4), EvaluationView(32, 40), mine, cut=cut))
    assert str(mine.path(0)) in str(caught.value)


@pytest.mark.parametrize("cut", ["dali", "cpu"])
def test_a_file_that_only_pillow_decodes_is_read_all_the_same(listing, opened, tmp_path, cut) -> None:
    mine = copied(listing, tmp_path / "images")
    with Image.open(mine.path(7)) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16)
        image.save(mine.path(7), "GIF")
    Image.fromarray(grey * 2).save(mine.path(8).with_suffix(".png"))
    mine.path(8).with_suffix(".png").rename(mine.path(8))
    mine = listed(tmp_path / "images")
    order = training_order(batch=IMAGES, groups=1, steps=1)
    source = opened(order, PLAIN, mine, cut=cut)
    got, expected = list(source), list(TorchvisionSource(mine, order, PLAIN, Resources()))
    for index in (7, 8):
        mean = np.abs(by_index(got)[index].numpy().astype(int) - by_index(expected)[index].numpy()).mean()
        assert mean == 0 if cut == "cpu" else mean < 1
    assert not source._refused  # DALI has never been asked for them


@pytest.mark.parametrize(
    "content",
    [b"no picture at all" * 100, bytes(10000), b"\xff\xd8\xff\xe0" + b"garbage" * 1000, b"\x89PNG\r\n\x1a\n..."],
)
def test_files_that_would_end_the_process_never_reach_dali(listing, opened, tmp_path, content) -> None:
    mine = copied(listing, tmp_path / "images")
    for index in range(0, IMAGES, 3):
        mine.path(index).write_bytes(content)
    for _ in range(5):  # the crash is a race: a few attempts meet it almost surely
        source = opened(training_order(batch=IMAGES, groups=1, steps=1), PLAIN, mine, threads=2)
        with pytest.raises(DataError, match="Cannot decode"):
            list(source)
        source.close()


def test_files_that_lose_their_header_between_two_epochs_are_replaced(listing, opened, tmp_path) -> None:
    mine = copied(listing, tmp_path / "images")
    bad_files = BadFiles(mine, limit=1.0)
    source = opened(training_order(batch=IMAGES, groups=4, steps=1), PLAIN, mine, bad_files=bad_files, threads=2)
    assert len(by_index(list(source))) == IMAGES
    spoilt = set(range(0, IMAGES, 4))
    for index in spoilt:  # replaced, not overwritten: DALI may have mapped a file, and losing that is a bus error
        (tmp_path / "spoilt").write_bytes(bytes(10000))
        (tmp_path / "spoilt").replace(mine.path(index))
    list(source)  # its first groups were read ahead
    assert not spoilt & by_index(list(source)).keys()
    assert bad_files.known.keys() == spoilt


def test_an_error_that_is_no_files_fault_is_passed_on(listing, opened, tmp_path, monkeypatch) -> None:
    mine = copied(listing, tmp_path / "images")
    Image.new("RGB", (8, 8)).save(mine.path(0))
    monkeypatch.setattr(
        Replacement, "decoded", lambda self, index, content=None: Image.new("RGB", (8, 8))
    )  # nothing is found wrong
    with pytest.raises(RuntimeError) as caught:
        list(opened(EvaluationOrder(mine.indices, batch=4), EvaluationView(32, 40), mine))
    assert str(mine.path(0)) in caught.value.__notes__[0]


def test_a_place_within_a_step_is_refused(opened) -> None:
    source = opened(training_order())
    source.seek(0, 5)
    with pytest.raises(ValueError, match="whole number of steps"):
        next(iter(source))


@pytest.mark.parametrize("cut", ["dali", "cpu"])
def test_close_leaves_no_threads(listing, opened, cut) -> None:
    first = opened(training_order(), cut=cut)
    list(first)  # whatever the libraries start once and keep
    first.close()
    gc.collect()  # earlier tests' pipelines, if their tracebacks kept them: their threads end with them
    before = steady(thread_count)
    source = opened(training_order(), cut=cut, threads=3)
    batches = iter(source)
    next(batches)
    assert thread_count() > before
    source.close()
    source.close()
    assert comes_true(lambda: thread_count() <= before)
    with pytest.raises(RuntimeError, match="ended"):
        next(batches)
    with pytest.raises(RuntimeError, match="closed"):
        next(iter(source))
    DaliSource(listing, training_order(), PLAIN, Resources()).close()  # never used


# --- the GPU graph: defined, serialized, never run --------------------------------------------------------------------


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value, shift, at = value | (data[at] & 0x7F) << shift, shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of the top-level fields of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        match tag & 7:
            case 0:
                value, at = varint(data, at)
            case 2:
                length, at = varint(data, at)
                value, at = data[at : at + length], at + length
            case 5:
                value, at = data[at : at + 4], at + 4
            case kind:
                raise AssertionError(f"wire type {kind}")
        yield tag >> 3, value


def operators(serialized: bytes) -> list[tuple[str, dict[str, bytes | int]]]:
    """(operator, its arguments) of a serialized pipeline, after DALI's dali.proto: PipelineDef.op = 5."""
    found = []
    for number, op in fields(serialized):
        if number == 5:
            name = next(value for number, value in fields(op) if number == 1)
            arguments = {}
            for number, argument in fields(op):
                if number == 4:
                    parts = dict(fields(argument))
                    arguments[parts[1].decode()] = next((parts[key] for key in (3, 4, 5, 6) if key in parts), b"")
            found.append((name.decode(), arguments))
    return found


def test_gpu_graph() -> None:
    resources = Resources(device="cuda:0", threads=7, prefetch=3)
    options = DaliOptions(hw_decoder_load=0.25, preallocate_mb=48, threads=5, prefetch=4)
    views = TrainingViews(weak=2, strong=2)
    built = dali_graph.build(lambda: (), views, 48, resources, options)
    assert (built.device_id, built.num_threads, built.max_batch_size, built.prefetch_queue_depth) == (0, 5, 48, 4)

    # Serializing asks for a driver where the pipeline has a device, so the same graph goes into one that has none.
    pipeline = Pipeline(batch_size=48, num_threads=7, device_id=None)
    with pipeline:
        *finished, index = dali_graph.graph(lambda: (), views, resources, options)
        pipeline.set_outputs(*finished, index)
    assert [node.device for node in finished] == ["gpu"] * 4
    assert index.device == "cpu"
    graph = operators(pipeline.serialize())

    def devices(operator: str) -> list[str]:
        return [arguments["device"].decode() for name, arguments in graph if name.lower() == operator]

    assert devices("decoders__image") == ["mixed"]
    assert devices("resize") == ["gpu"] * 4
    assert devices("slice") == ["gpu"] * 8
    assert devices("flip") == ["gpu"] * 4
    (decoder,) = (arguments for name, arguments in graph if name == "decoders__Image")
    assert struct.unpack("<f", decoder["hw_decoder_load"]) == (0.25,)
    assert decoder["device_memory_padding"] == 48 << 20
    assert decoder["host_memory_padding"] == 24 << 20  # two per thread
    assert (decoder["adjust_orientation"], decoder["jpeg_fancy_upsampling"]) == (0, 1)


@pytest.mark.parametrize(
    ("views", "options", "expected"),
    [  # GPU, threads, groups ahead; who decodes; where the outputs lie
        (PLAIN, DaliOptions(), (0, 6, 5, "mixed", "gpu")),
        (PLAIN, DaliOptions(threads=20), (0, 7, 5, "mixed", "gpu")),  # never more than the source's
        (PLAIN, DaliOptions(decode="cpu"), (None, 7, 3, "cpu", "cpu")),
        (PLAIN, DaliOptions(decode="cpu", cut="dali"), (0, 7, 5, "cpu", "gpu")),
        (PLAIN, DaliOptions(cut="cpu"), (None, 7, 3, "cpu", "cpu")),
        (EvaluationView(), DaliOptions(), (None, 7, 3, "cpu", "cpu")),
        (EvaluationView(), DaliOptions(decode_evaluation="mixed", decode="cpu"), (0, 6, 5, "mixed", "gpu")),
    ],
)
def test_who_decodes_for_a_gpu(views, options, expected) -> None:
    resources = Resources(device="cuda:0", threads=7, prefetch=3)
    built = dali_graph.build(lambda: (), views, 8, resources, options)
    with Pipeline(batch_size=8, num_threads=7, device_id=None) as pipeline:
        *finished, index = dali_graph.graph(lambda: (), views, resources, options)
        pipeline.set_outputs(*finished, index)
    (decoder,) = (of["device"].decode() for name, of in operators(pipeline.serialize()) if name == "decoders__Image")
    lie = {node.device for node in finished}
    assert (built.device_id, built.num_threads, built.prefetch_queue_depth, decoder, *lie) == expected


def test_dalis_buffers_are_kept_until_their_copy_is_done(opened, monkeypatch) -> None:
    """The stream is a recorder: RandAugment, which needs them no more, is not waited for."""
    done = []

    class Stream:
        def synchronize(self) -> None:
            done.append("copied")

    class Buffer:
        def as_tensor(self) -> np.ndarray:
            return np.full((6, 96, 96, 3), 7, np.uint8)

    order = training_order()
    source = opened(order, TrainingViews(size=96, weak=1, strong=1))
    monkeypatch.setattr(source, "_stream", Stream())
    monkeypatch.setattr(source, "_augment_strong", lambda *_: done.append("augmented"))
    draws, listing = next(order.groups(0, 0)), source._listing
    planned = plan(source._views, draws, listing.heights[draws.index], listing.widths[draws.index])
    pixels = source._collect([Buffer(), Buffer()], planned)
    assert done == ["copied", "augmented"]
    assert pixels.shape == (2, 6, 96, 96, 3)
    assert (pixels == 7).all()


@pytest.mark.parametrize(("cut", "resizes"), [("dali", 3), ("auto", 0)])
def test_cpu_graph_decodes_once(cut, resizes) -> None:
    built = dali_graph.build(lambda: (), TrainingViews(weak=3), 8, Resources(), DaliOptions(cut=cut))
    names = [name for name, _ in operators(built.serialize())]
    assert built.device_id is None
    assert (names.count("decoders__Image"), names.count("Resize")) == (1, resizes)
