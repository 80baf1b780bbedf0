"""Files that went bad after they were listed: replaced alike in all pipelines and named once, or the run stops."""

import importlib
import shutil

import numpy as np
import pytest
import torch

from pipelines import open_source
from pipelines.errors import DataError
from pipelines.order import EvaluationOrder, Stream, TrainingOrder
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import list_images
from pipelines.sources.options import Resources
from pipelines.views import EvaluationView, TrainingViews

VIEWS = TrainingViews(size=32, weak=1, strong=1)


@pytest.fixture
def spoilt(image_folder, load_script, tmp_path):
    """A listing and its .beton, made before samples 3, 10 and 11 became unreadable in both."""
    root = tmp_path / "data" / "train"
    shutil.copytree(image_folder, root)
    listing = list_images(root)
    beton = tmp_path / "data/ffcv/train.beton"
    converter = load_script("tools/convert_imagenet_to_ffcv.py")
    assert converter.main(["--data", str(root.parent), "--split", "train"]) == 0
    stored = importlib.import_module("pipelines.beton.reader").open_beton(beton).stored
    for index in (3, 10, 11):
        listing.path(index).write_bytes(b"\xff\xd8 this was a picture")
        with beton.open("r+b") as file:
            file.seek(int(stored.offset[index]))
            file.write(bytes(int(stored.length[index])))
    return listing, beton


def order(world=1, rank=0, **changed):
    given = {"seed": 5, "stream": Stream.UNLABELED, "batch": 12, "groups": 2, "steps": 5, "continuous": False}
    return TrainingOrder(np.arange(60), **(given | changed), world=world, rank=rank)


def read(pipeline, spoilt, bad_files, of=None, seek=(0, 0)):
    listing, beton = spoilt
    options = Resources(threads=2, beton=beton, bad_files=bad_files)
    source = open_source(pipeline, listing, of or order(), VIEWS, options)
    try:
        source.seek(*seek)
        return list(source)
    finally:
        source.close()


def expected(epoch=0):
    """Indices of an epoch, group by group, with each bad sample replaced by the next good one of the order."""
    samples = np.concatenate([draws.index for draws in order().groups(epoch, 0)])
    good = [
        next(samples[(at + ahead) % 60] for ahead in range(60) if samples[(at + ahead) % 60] not in (3, 10, 11))
        for at in range(60)
    ]
    return [good[start : start + 6] for start in range(0, 60, 6)]


def test_the_next_good_sample_of_the_order_replaces_a_bad_one(pipeline, spoilt):
    bad_files = BadFiles(spoilt[0], limit=0.1)
    batches = read(pipeline, spoilt, bad_files)
    assert [batch.index.tolist() for batch in batches] == expected()
    assert set(bad_files.known) == {3, 10, 11}
    named = bad_files.news()
    assert sorted(line.split(": ")[0] for line in named) == sorted(str(spoilt[0].path(i)) for i in (3, 10, 11))
    assert bad_files.news() == []
    # a sample's pixels are its own wherever it stands in the epoch
    by_sample = {}
    for batch in batches:
        for at, index in enumerate(batch.index.tolist()):
            assert torch.equal(by_sample.setdefault(index, batch.pixels[:, at]), batch.pixels[:, at])
    again = read(pipeline, spoilt, bad_files)  # now known beforehand
    for one, other in zip(batches, again, strict=True):
        assert torch.equal(one.pixels, other.pixels)


def test_replacements_depend_on_neither_ranks_nor_resuming(pipeline, spoilt):
    whole = read(pipeline, spoilt, BadFiles(spoilt[0], 0.1))
    for rank in range(2):
        part = read(pipeline, spoilt, BadFiles(spoilt[0], 0.1), order(world=2, rank=rank))
        for mine, theirs in zip(part, whole[rank::2], strict=True):
            assert torch.equal(mine.index, theirs.index)
            assert torch.equal(mine.pixels, theirs.pixels)
    resumed = read(pipeline, spoilt, BadFiles(spoilt[0], 0.1), seek=(0, 24))
    assert [batch.index.tolist() for batch in resumed] == expected()[4:]


def test_too_many_bad_files_stop_the_run_with_the_list(pipeline, spoilt):
    message = r"2 of 60 files cannot be decoded, more than limit=0\.02 allows"
    with pytest.raises(DataError, match=message) as raised:
        read(pipeline, spoilt, BadFiles(spoilt[0], limit=0.02))
    assert sum(str(spoilt[0].path(i)) in str(raised.value) for i in (3, 10, 11)) == 2


def test_a_small_set_may_have_a_few_bad_files_whatever_their_share(spoilt):
    bad_files = BadFiles(spoilt[0], limit=0.001, least=3)
    bad_files.add({3: "gone", 10: "gone", 11: "gone"})
    with pytest.raises(DataError, match="4 of 60 files"):
        bad_files.add({12: "gone"})
    with pytest.raises(DataError, match="1 of 60 files"):
        BadFiles(spoilt[0], limit=0, least=3).add({3: "gone"})


def test_the_first_one_stops_a_strict_run(pipeline, spoilt):
    with pytest.raises(DataError, match="1 of 60 files cannot be decoded"):
        read(pipeline, spoilt, BadFiles(spoilt[0], limit=0))


def test_validation_images_are_never_replaced(pipeline, spoilt):
    listing, beton = spoilt
    options = Resources(threads=1, beton=beton, bad_files=BadFiles(listing, 1.0))
    evaluation = EvaluationOrder(listing.indices, batch=25)
    source = open_source(pipeline, listing, evaluation, EvaluationView(size=32, resize=36), options)
    try:
        with pytest.raises(DataError, match="Cannot decode"):
            list(source)
    finally:
        source.close()


def test_a_set_without_any_good_file_is_an_error(pipeline, spoilt):
    only_bad = TrainingOrder(
        np.array([3, 10]), seed=0, stream=Stream.LABELED, batch=2, groups=1, steps=3, continuous=True
    )
    with pytest.raises(DataError, match="No file of the labeled set can be decoded"):
        read(pipeline, spoilt, BadFiles(spoilt[0], limit=1.0), only_bad)
