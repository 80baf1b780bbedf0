"""Batches on their way to a GPU: whose stream makes them, who waits, and from which memory they are copied."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import FfcvOptions, Resources, Stream, TrainingOrder, TrainingViews, list_images, open_source
from pipelines.batch import Source, Views
from pipelines.beton.convert import convert
from pipelines.beton.one_image import Encoding
from pipelines.sources.feed import Feed
from tests.support.leaks import comes_true
from tests.support.recorded_cuda import Call, RecordedCuda

VIEWS = TrainingViews(size=16, weak=1, strong=1)
GPU = "cuda:1"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> RecordedCuda:
    return RecordedCuda(monkeypatch)


class Numbered(Source):
    """Groups of one sample whose index is its place."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.made = 0

    def __len__(self) -> int:
        return self.length

    def seek(self, epoch: int, consumed: int) -> None: ...

    def __iter__(self) -> Iterator[Views]:
        for place in range(self.length):
            self.made += 1
            yield Views(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8), torch.tensor([place]))

    def close(self) -> None: ...


def test_the_feeds_thread_takes_its_device_before_anything_else(cuda: RecordedCuda) -> None:
    list(Feed(Numbered(2), Numbered(2), prefetch=2, device=GPU))
    of_the_thread = [call for call in cuda.calls if call.thread == "feed"]
    assert of_the_thread[:3] == [
        Call("feed", "set_device", "cuda:1"),
        Call("feed", "Stream", ("cuda:1", -1)),
        Call("feed", "synchronize", "side 0"),
    ]


def test_the_taker_waits_for_its_own_batch_and_the_maker_for_none(cuda: RecordedCuda) -> None:
    labeled = Numbered(6)
    batches = iter(Feed(labeled, Numbered(6), prefetch=3, device=GPU))
    for number in range(2):
        next(batches)
        assert comes_true(lambda ahead=number + 4: labeled.made >= ahead)  # later ones are made already
        mine = threading.current_thread().name
        assert cuda.named("wait_event") == [Call(mine, "wait_event", ("default", event)) for event in range(number + 1)]
    assert cuda.named("record_stream") == [Call(mine, "record_stream", "default")] * 8  # four tensors a batch
    batches.close()  # type: ignore[attr-defined]


def test_on_a_cpu_nothing_of_cuda_is_called(cuda: RecordedCuda) -> None:
    assert len(list(Feed(Numbered(3), Numbered(3), prefetch=1))) == 3
    assert cuda.calls == []


@pytest.mark.parametrize(
    ("pipeline", "options"), [("torchvision", None), ("ffcv", FfcvOptions(cache="page", strong_on="source"))]
)
def test_a_source_copies_from_pinned_memory_on_its_own_stream(
    cuda: RecordedCuda, image_folder: Path, tmp_path: Path, pipeline: str, options: FfcvOptions | None
) -> None:
    """And what it yields is ready on the stream of whoever iterates it, such as an evaluation."""
    listing, beton = list_images(image_folder), tmp_path / "train.beton"
    if pipeline == "ffcv":
        convert(listing, beton, Encoding(), workers=2)
    order = TrainingOrder(
        listing.indices, seed=0, stream=Stream.UNLABELED, batch=4, groups=1, steps=2, continuous=False
    )
    expected = open_source("torchvision", listing, order, VIEWS)
    source = open_source(pipeline, listing, order, VIEWS, Resources(device="cuda:1", beton=beton), options)
    try:
        for views, same in zip(source, expected, strict=True):
            assert torch.equal(views.pixels, same.pixels)
            assert np.array_equal(views.index, same.index)
    finally:
        source.close()
        expected.close()
    assert [call.about for call in cuda.named("Stream")] == [("cuda:1", -1)]
    on_the_gpu = [call.about for call in cuda.named("copy") if call.about[1] == "cuda:1"]
    assert on_the_gpu == [("side 0", "cuda:1", True, True)] * 4  # pixels and index of two batches
    assert [call.about for call in cuda.named("wait_event")] == [("default", 0), ("default", 1)]
    assert [call.about for call in cuda.named("record_stream")] == ["default"] * 4
