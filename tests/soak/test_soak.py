"""Long counts of what the other tests check a few times: python tests/soak/run.py (make soak) runs and reports them."""

import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import NAMES, open_source
from pipelines.augment import cpu, pillow
from pipelines.augment.policy import plan
from pipelines.order import Draws, Stream, TrainingOrder
from pipelines.samples.listing import list_images
from pipelines.sources.options import Resources
from pipelines.views import TrainingViews
from tests.support.damaged_betons import count_refused, of_every_kind
from tests.support.damaged_files import FILES, count_outcomes
from tests.support.image_kinds import SIDE
from tests.support.images import mixed_data
from tests.support.judged_images import assert_alike, judged, written
from tests.support.killed_conversion import assert_kills_do_not_matter
from tests.support.killed_rank import launch
from tests.support.leaks import assert_nothing_grows
from tests.support.mutated_jpegs import mutated
from tests.support.oracle_cases import CHOICES, FLOAT32, FLOAT64, check, draw
from tests.support.planes_of_sizes import assert_pillows_pixels, every_size
from tests.support.published_habits import VARIANTS, assert_equal_steps
from tests.support.runs import arguments, assert_same_bits, without_speed

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def test_twenty_kills_and_resumes_end_in_the_same_bits(demo_data, tmp_path):
    """kill -9 at random moments; every resume goes on from the last epoch's checkpoint, the end is bit-identical."""
    epochs = ["--set", "science.epochs=40"]
    train = [sys.executable, "-m", "debiaspl.train"]  # all in processes of their own: FFCV, once imported, sets threads
    whole = [*train, *arguments(demo_data, tmp_path / "whole", *epochs)]
    assert subprocess.run(whole, stdout=subprocess.DEVNULL, check=False).returncode == 0
    command = [*train, *arguments(demo_data, tmp_path / "killed", "--resume", "auto", *epochs)]
    moments = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=moments.uniform(4, 12))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL), process.stderr.read()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert_same_bits(tmp_path / "killed/last.pt", tmp_path / "whole/last.pt")
    assert without_speed(tmp_path / "killed/metrics.jsonl") == without_speed(tmp_path / "whole/metrics.jsonl")
    leftovers = [path.name for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")]
    assert len(leftovers) <= 20  # a kill while saving leaves its partial file, never a broken last.pt


@pytest.mark.parametrize("share", [0, 0.5, 0.75])
def test_a_killed_rank_is_started_again_and_ends_in_the_same_bits(demo_data, tmp_path, share):
    launch(demo_data, tmp_path / "whole")
    whole = without_speed(tmp_path / "whole/metrics.jsonl")
    launch(demo_data, tmp_path / "killed", kill_after=max(1, int(whole[-1]["step"] * share)))
    assert_same_bits(tmp_path / "killed/last.pt", tmp_path / "whole/last.pt")
    assert without_speed(tmp_path / "killed/metrics.jsonl") == whole


def test_fifty_kills_of_a_conversion_end_in_the_same_bytes(tmp_path):
    assert_kills_do_not_matter(mixed_data(tmp_path / "data"), kills=50)


@pytest.mark.parametrize("mode", ["jpeg", "planes"])
def test_two_thousand_damaged_betons_are_refused_or_trained_on(tmp_path, mode, record_property):
    listing, beton = of_every_kind(tmp_path, mode)
    refused = count_refused(listing, beton, copies=2000, seed=1)
    assert 600 < refused < 2000
    record_property(
        f"2,000 damaged .beton files ({mode}): refused, trained on, crashes", f"{refused}, {2000 - refused}, 0"
    )


def test_planes_of_every_size_up_to_forty_give_pillows_pixels(record_property):
    count = assert_pillows_pixels(every_size())
    assert count == 5 * 1600
    record_property("pictures of 1 … 40 pixels squared whose planes give Pillow's pixels", f"{count:,} of {count:,}")


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_five_hundred_damaged_copies(make, tmp_path, monkeypatch):
    """Each is refused in words, or means what the whole file means."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcomes = count_outcomes(make(tmp_path), copies=500, seed=1)
    assert outcomes == (0, 500) or outcomes.refused > 250


def test_two_thousand_mutated_jpegs_are_accepted_and_refused_alike(tmp_path):
    found = judged(written(tmp_path, mutated(2000, seed=1)), tmp_path / "mutated.beton", SIDE)
    assert 400 < len(found["torchvision"]) < 1600
    assert_alike(found)


def test_two_thousand_random_views_equal_pillow():
    rng = np.random.default_rng(0)
    for number in range(2000):
        height, width, size = rng.integers(8, 500), rng.integers(8, 500), int(rng.integers(8, 225))
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        draws = Draws(np.array([number]), np.array([0]), seed=0, stream=Stream.UNLABELED)
        views = TrainingViews(size=size, weak=1, strong=1)
        todo = plan(views, draws, np.array([height], np.int32), np.array([width], np.int32))
        ours, theirs = cpu.execute(image, todo, 0), pillow.execute(Image.fromarray(image), todo, 0)
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{number=} {todo}")


def test_two_thousand_random_steps_equal_the_oracle():
    rng = np.random.default_rng(0)
    for number in range(2000):
        choice = {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
        case = draw(number, choice)
        check(case, torch.float64, FLOAT64)
        check(case, torch.float32, FLOAT32)


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_four_hundred_steps_equal_the_published_habits(in_float64, changed):
    assert_equal_steps({**changed, "epochs": 80}, 400)


@pytest.mark.parametrize("pipeline", NAMES)
def test_fifty_epochs_cut_short_leave_nothing_behind(image_folder, load_script, pipeline):
    """No growth in threads, file descriptors or memory."""
    listing = list_images(image_folder)
    beton = image_folder.parent / "ffcv" / "train.beton"
    if pipeline == "ffcv" and not beton.exists():
        assert load_script("tools/convert_imagenet_to_ffcv.py").main(
            ["--data", str(image_folder.parent), "--split", "train"]
        ) == 0  # fmt: skip
    order = TrainingOrder(
        listing.indices, seed=0, stream=Stream.UNLABELED, batch=4, groups=1, steps=15, continuous=False
    )
    views = TrainingViews(size=64, weak=2, strong=2)
    source = open_source(pipeline, listing, order, views, Resources(threads=2, beton=beton))
    moments = random.Random(0)

    def cut_short(epoch: int) -> None:
        source.seek(epoch, 0)
        batches = iter(source)
        for _ in range(moments.randrange(1, 15)):
            next(batches)
        batches.close()

    try:
        assert_nothing_grows(cut_short, epochs=50, threads_of_a_pool=2)
    finally:
        source.close()
