"""One contract for all pipelines: the same views in the same order, wherever, however and how often it is opened."""

import random
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from pipelines import EvaluationView, Listing, Resources, TrainingViews, open_source
from pipelines.augment import pillow
from pipelines.batch import Source, Views
from pipelines.beton.convert import convert as write
from pipelines.beton.one_image import Encoding
from pipelines.order import EvaluationOrder, Order, Stream, TrainingOrder
from pipelines.samples.listing import list_images
from tests.support.devices import DEVICES
from tests.support.installed import INSTALL, PACKAGE, installed
from tests.support.leaks import assert_nothing_grows, comes_true, steady, thread_count

VIEWS = TrainingViews(size=48, weak=2, strong=2)
EVALUATION = EvaluationView(size=40, resize=52)
COUNT = 60
Open = Callable[..., Source]


@pytest.fixture(scope="module", params=["torchvision", "dali", "ffcv", "ffcv, planes"])
def variant(request: pytest.FixtureRequest) -> str:
    """A pipeline, and what its files hold where there is a choice."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def name(variant: str) -> str:
    wanted = variant.partition(",")[0]
    if not installed(PACKAGE[wanted]):
        pytest.skip(f"The pipeline {wanted} needs {PACKAGE[wanted]}, which is not installed: {INSTALL[wanted]}")
    return wanted


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Where the finished views lie."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def listing(image_folder: Path) -> Listing:
    found = list_images(image_folder)
    assert len(found) == COUNT
    return found


@pytest.fixture(scope="module")
def convert(variant: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Listing], Path]:
    """The .beton of a listing: with planes, a file of all kinds, for the pictures are of many."""

    def convert(of: Listing) -> Path:
        beton: Path = tmp_path_factory.mktemp("ffcv") / "train.beton"
        write(of, beton, Encoding(mode="planes" if variant == "ffcv, planes" else "jpeg"), workers=2)
        return beton

    return convert


@pytest.fixture(scope="module")
def beton(name: str, listing: Listing, convert: Callable[[Listing], Path]) -> Path | None:
    return convert(listing) if name == "ffcv" else None


@pytest.fixture
def opened(name: str, device: str, listing: Listing, beton: Path | None) -> Iterator[Open]:
    """Opens sources of the pipeline under test, and closes them after the test."""
    sources: list[Source] = []

    def opened(
        order: Order | None = None,
        views: TrainingViews | EvaluationView = VIEWS,
        *,
        of: Listing = listing,
        pipeline: str = name,
        **resources: Any,
    ) -> Source:
        given = Resources(**{"device": device, "beton": beton, **resources})
        sources.append(open_source(pipeline, of, order or training(), views, given))
        return sources[-1]

    yield opened
    for source in sources:
        source.close()


@pytest.fixture
def pillows_pixels(name: str, device: str) -> None:
    """Skips where the pipeline does not promise Pillow's bytes."""
    if name == "dali" and device == "cuda":
        pytest.skip("DALI decodes and cuts on the GPU, whose pixels are not Pillow's byte for byte")


def training(**changed: Any) -> TrainingOrder:
    """All 60 samples in 5 steps of 12, in groups of 2."""
    given = {"indices": np.arange(COUNT), "seed": 8, "stream": Stream.UNLABELED, "batch": 12, "groups": 6, "steps": 5}
    return TrainingOrder(**{**given, "continuous": False, **changed})


def by_sample(batches: list[Views]) -> dict[int, NDArray[np.uint8]]:
    """Index → its views [v, size, size, 3]; no index twice."""
    found = {int(index): batch.pixels[:, at].cpu().numpy() for batch in batches for at, index in enumerate(batch.index)}
    assert len(found) == sum(len(batch.index) for batch in batches)
    return found


def assert_same(got: list[Views], wanted: list[Views]) -> None:
    assert [batch.index.tolist() for batch in got] == [batch.index.tolist() for batch in wanted]
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one.pixels, other.pixels)


def assert_same_samples(got: dict[int, NDArray[np.uint8]], wanted: dict[int, NDArray[np.uint8]]) -> None:
    assert got.keys() == wanted.keys()
    for index, pixels in got.items():
        np.testing.assert_array_equal(pixels, wanted[index], f"sample {index}")


@pytest.fixture(scope="module")
def epochs(name: str, device: str, listing: Listing, beton: Path | None) -> list[list[Views]]:
    """Epochs 0, 1 and 2 of training(), each from a source of its own."""
    found = []
    for epoch in range(3):
        source = open_source(name, listing, training(), VIEWS, Resources(device, beton=beton))
        source.seek(epoch, 0)
        found.append(list(source))
        source.close()
    return found


# --- what is yielded ------------------------------------------------------------------------------------------------


def test_shapes_types_and_layout(opened: Open, device: str) -> None:
    source = opened()
    assert isinstance(source, Source)
    batches = list(source)
    assert len(batches) == len(source) == 30
    for batch in batches:
        assert isinstance(batch, Views)
        assert batch.pixels.shape == (4, 2, 48, 48, 3)
        assert batch.index.shape == (2,)
        assert (batch.pixels.dtype, batch.index.dtype) == (torch.uint8, torch.int64)
        assert batch.pixels.device.type == batch.index.device.type == device
        assert batch.pixels.is_contiguous()
        weak = batch.pixels[:2].flatten(0, 1)  # all w1, then all w2
        assert weak.data_ptr() == batch.pixels.data_ptr()
        assert torch.equal(weak[2], batch.pixels[1, 0])
        images = weak.permute(0, 3, 1, 2)
        assert images.shape == (4, 3, 48, 48)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.data_ptr() == batch.pixels.data_ptr()


def test_what_was_yielded_is_not_overwritten(opened: Open) -> None:
    kept: list[Views] = []
    copies: list[Views] = []
    for batch in opened(prefetch=1):
        kept.append(batch)
        copies.append(Views(batch.pixels.clone(), batch.index.clone()))
    assert_same(kept, copies)


@pytest.mark.parametrize("views", [VIEWS, TrainingViews(size=33, weak=1), EVALUATION], ids=repr)
def test_the_index_belongs_to_the_pixels(opened: Open, listing: Listing, views: TrainingViews | EvaluationView) -> None:
    """Each sample's first view is nearest to the reference's view of that very sample."""
    order = EvaluationOrder(listing.indices, batch=16) if isinstance(views, EvaluationView) else training()
    got, reference = (
        by_sample(list(opened(order, views))),
        by_sample(list(opened(order, views, pipeline="torchvision"))),
    )
    assert got.keys() == reference.keys() == set(range(COUNT))
    names = sorted(got)
    ours, theirs = (np.stack([pixels[index][0] for index in names]).astype(np.float32) for pixels in (got, reference))
    distance = np.stack([np.abs(theirs - one).mean((1, 2, 3)) for one in ours])
    assert distance.argmin(1).tolist() == list(range(COUNT))
    assert np.diag(distance).max() < 5 < np.sort(distance, 1)[:, 1].min()


def test_the_order_is_that_of_the_order(opened: Open) -> None:
    expected = [draws.index.tolist() for draws in training().groups(0, 0)]
    assert [batch.index.tolist() for batch in opened()] == expected


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_sample_once_over_the_ranks_with_the_same_bytes(
    opened: Open, epochs: list[list[Views]], world: int
) -> None:
    got: dict[int, NDArray[np.uint8]] = {}
    for rank in range(world):
        source = opened(training(rank=rank, world=world))
        assert len(source) == 30 // world
        part = by_sample(list(source))
        assert len(part) == COUNT // world
        assert not got.keys() & part.keys()
        got |= part
    assert got.keys() == set(range(COUNT))
    assert_same_samples(got, by_sample(epochs[0]))


@pytest.mark.parametrize(("batch", "groups"), [(60, 1), (60, 60), (20, 2), (6, 3), (4, 1)])
def test_the_layout_of_batches_changes_no_byte(
    opened: Open, epochs: list[list[Views]], batch: int, groups: int
) -> None:
    order = training(batch=batch, groups=groups, steps=COUNT // batch)
    assert_same_samples(by_sample(list(opened(order))), by_sample(epochs[0]))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_threads_and_prefetch_change_no_byte(
    opened: Open, epochs: list[list[Views]], threads: int, prefetch: int
) -> None:
    assert_same(list(opened(threads=threads, prefetch=prefetch)), epochs[0])


def test_a_labeled_set_smaller_than_a_batch(opened: Open) -> None:
    """The same sample several times in one group, each time in another pass: other crops of the same image."""
    few = np.array([50, 3, 17, 30, 41])
    order = training(indices=few, stream=Stream.LABELED, batch=12, groups=1, steps=2, continuous=True)
    source = opened(order, TrainingViews(size=48))
    first, second = list(source)
    draws = list(order.groups(0, 0))
    assert [first.index.tolist(), second.index.tolist()] == [group.index.tolist() for group in draws]
    assert first.index.tolist().count(3) >= 2
    pixels = torch.cat([first.pixels, second.pixels], dim=1)[0]
    assert len({view.cpu().numpy().tobytes() for view in pixels}) == 24
    third, _ = list(source)  # the next epoch goes on; here with the passes from 24 // 5 on
    assert third.index.tolist() == next(order.groups(1, 0)).index.tolist()


# --- epochs, seeks and ends -----------------------------------------------------------------------------------------


def test_epochs_follow_each_other_and_differ(opened: Open, epochs: list[list[Views]]) -> None:
    source = opened()
    for expected in epochs:
        assert_same(list(source), expected)
    assert [batch.index.tolist() for batch in epochs[0]] != [batch.index.tolist() for batch in epochs[1]]
    one, other = by_sample(epochs[0]), by_sample(epochs[1])
    assert all((one[index][view] != other[index][view]).any() for index in one for view in range(4))


@pytest.mark.parametrize(("epoch", "consumed"), [(0, 0), (0, 12), (1, 36), (2, 48), (1, 60)])
def test_seek_is_skip(opened: Open, epochs: list[list[Views]], epoch: int, consumed: int) -> None:
    source = opened()
    source.seek(epoch, consumed)
    assert_same(list(source), epochs[epoch][consumed // 2 :])
    assert len(source) == 30
    if epoch < 2:
        assert_same(list(source), epochs[epoch + 1])  # and stands at the start of the next epoch


def test_seek_on_a_rank_counts_all_ranks_samples(opened: Open) -> None:
    whole = list(opened(training(rank=1, world=3)))
    source = opened(training(rank=1, world=3))
    source.seek(0, 24)
    assert_same(list(source), whole[4:])


@pytest.mark.parametrize("taken", [1, 7])
def test_an_abandoned_iteration_leaves_the_place_as_it_was(opened: Open, epochs: list[list[Views]], taken: int) -> None:
    source = opened()
    assert_same(list(islice(source, taken)), epochs[0][:taken])
    assert_same(list(source), epochs[0])
    assert_same(list(islice(source, taken)), epochs[1][:taken])
    source.seek(2, 24)
    assert_same(list(source), epochs[2][12:])


def test_a_place_within_a_step_is_refused(opened: Open) -> None:
    source = opened()
    source.seek(0, 5)
    with pytest.raises(ValueError, match="whole number of steps"):
        next(iter(source))


def test_close_may_be_repeated_and_leaves_no_thread(opened: Open) -> None:
    list(opened()).clear()  # whatever libraries start once and keep
    first = opened()
    next(iter(first))
    first.close()
    before = steady(thread_count)
    for finish in (False, True):
        source = opened(threads=3)
        batches = iter(source)
        next(batches)
        if finish:
            list(batches)
        source.close()
        source.close()
    del batches, source
    opened(threads=3).close()  # never used
    assert comes_true(lambda: thread_count() <= before), [thread.name for thread in threading.enumerate()]


def test_twenty_epochs_cut_short_leave_nothing_behind(opened: Open) -> None:
    """No growth in threads, file descriptors or memory, wherever an epoch is left (tests/soak cuts fifty)."""
    source = opened(training(batch=6, groups=1, steps=10), TrainingViews(size=160, weak=2, strong=2), threads=2)
    moments = random.Random(0)

    def cut_short(epoch: int) -> None:
        source.seek(epoch, 0)
        batches = iter(source)
        for _ in range(moments.randrange(1, 10)):
            next(batches)
        batches.close()

    assert_nothing_grows(cut_short, epochs=20, threads_of_a_pool=2)


# --- evaluation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_sample_once_with_a_short_last_batch(opened: Open, listing: Listing, world: int) -> None:
    got: dict[int, NDArray[np.uint8]] = {}
    indices = listing.indices[:-1]  # 59: uneven over the ranks, too
    for rank in range(world):
        order = EvaluationOrder(indices, batch=8, rank=rank, world=world)
        source = opened(order, EVALUATION)
        own = indices[rank::world]
        batches = list(source)
        assert len(batches) == len(source) == -(-len(own) // 8)
        assert [len(batch.index) for batch in batches] == [8] * (len(own) // 8) + (
            [len(own) % 8] if len(own) % 8 else []
        )
        assert torch.cat([batch.index for batch in batches]).tolist() == own.tolist()
        assert all(batch.pixels.shape == (1, len(batch.index), 40, 40, 3) for batch in batches)
        assert all(batch.pixels.is_contiguous() for batch in batches)
        assert_same(list(source), batches)  # again the same, in the next epoch
        got |= by_sample(batches)
    assert got.keys() == set(range(59))
    whole = by_sample(list(opened(EvaluationOrder(indices, batch=59), EVALUATION)))
    assert_same_samples(got, whole)


@pytest.mark.usefixtures("pillows_pixels")
def test_evaluation_is_torchvisions(opened: Open, listing: Listing) -> None:
    """Byte for byte, of the PNG among the JPEGs, too."""
    views = EvaluationView()
    got = by_sample(list(opened(EvaluationOrder(listing.indices, batch=16), views)))
    transform = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for index in range(COUNT):
        with Image.open(listing.path(index)) as image:
            expected = np.asarray(transform(image.convert("RGB")))
        np.testing.assert_array_equal(got[index][0], expected, listing.paths[index])


# --- the pipelines against the reference ------------------------------------------------------------------------------


@pytest.mark.usefixtures("pillows_pixels")
def test_parity_with_the_reference(opened: Open, epochs: list[list[Views]]) -> None:
    """On a CPU every pipeline gives the same bytes; DALI's own operators are bounded in test_dali_source.py."""
    reference = opened(pipeline="torchvision")
    reference.seek(1, 0)
    assert_same_samples(by_sample(epochs[1]), by_sample(list(reference)))


@pytest.mark.usefixtures("pillows_pixels")
def test_decoded_pixels_are_pillows(
    opened: Open,
    name: str,
    tmp_path: Path,
    convert: Callable[[Listing], Path],
    make_picture: Callable[..., Image.Image],
) -> None:
    """Square images of the view's own size: nothing is cut or resized, and the decoder shows through."""
    (tmp_path / "images" / "class").mkdir(parents=True)
    kinds: list[dict[str, Any]] = [{"subsampling": kind} for kind in ("4:2:0", "4:2:2", "4:4:4")]
    kinds += [{"progressive": True}, {"optimize": True, "quality": 30}, {"quality": 100}]
    for number, how in enumerate(kinds):
        make_picture(77, 77, number).save(tmp_path / "images" / "class" / f"{number}.jpg", **how)
    make_picture(77, 77, 9).convert("L").save(tmp_path / "images" / "class" / "grey.jpg")
    squares = list_images(tmp_path / "images")
    source = opened(
        EvaluationOrder(squares.indices, batch=7),
        EvaluationView(77, 77),
        of=squares,
        beton=convert(squares) if name == "ffcv" else None,
    )
    (batch,) = source
    for index, path in enumerate(squares.paths):
        expected = np.asarray(pillow.decode(squares.path(index)))
        np.testing.assert_array_equal(batch.pixels[0, index].cpu().numpy(), expected, path)
