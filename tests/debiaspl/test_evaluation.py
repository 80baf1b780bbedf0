"""Accuracy, kNN and bias against numbers worked out by hand; the evaluate command."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from debiaspl import evaluate as command
from debiaspl.distributed import Ranks
from debiaspl.evaluation.accuracy import evaluate
from debiaspl.evaluation.bias import draw_pseudo_labels, imbalance
from debiaspl.evaluation.guesses import guess
from pipelines.batch import Views


class FixedSource:
    """Seven one-pixel images whose red value is the class that FirstPixel predicts."""

    predictions = (0, 0, 1, 1, 2, 0, 2)

    def __iter__(self):
        for start in (0, 3, 6):
            reds = torch.tensor(self.predictions[start : start + 3], dtype=torch.uint8)
            pixels = torch.zeros(1, len(reds), 1, 1, 3, dtype=torch.uint8)
            pixels[0, :, 0, 0, 0] = reds
            yield Views(pixels, torch.arange(start, start + len(reds)))

    def __len__(self):
        return 3

    def seek(self, epoch, consumed):
        assert (epoch, consumed) == (0, 0)

    def close(self):
        pass


class FirstPixel(nn.Module):
    def forward(self, pixels):
        return torch.eye(4)[pixels[:, 0, 0, 0].long()]


def test_accuracy_counts_every_sample_once():
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 2])  # class 3 has no image
    model = FirstPixel().train()
    result = evaluate({"model": model}, FixedSource(), labels, 4, Ranks())["model"]
    assert result.top1 == pytest.approx(100 * 5 / 7)
    assert result.balanced == pytest.approx(100 * (2 / 3 + 1 + 2 / 3) / 3)
    assert model.training


def test_imbalance_by_hand():
    even = imbalance(np.array([5.0, 5, 5, 5]))
    assert even == pytest.approx((0, 0, 0))
    one = imbalance(np.array([8.0, 0, 0, 0]))
    assert one == pytest.approx((0.75, np.log(4), 3))
    skew = imbalance(np.array([3.0, 1.0]), reference=np.array([30.0, 10.0]))
    assert skew == pytest.approx((0.25, 0, 0))
    assert imbalance(np.zeros(3)).missing == 3


@pytest.mark.parametrize("classes", [4, 100])
def test_the_picture_is_drawn_for_few_and_many_classes(tmp_path, classes):
    counts = np.random.default_rng(0).integers(0, 9, (2, 2, classes)).astype(float)
    for truth in (None, np.arange(classes) + 1.0):
        draw_pseudo_labels(tmp_path / "p.png", counts, tuple(f"<class {c}>" for c in range(classes)), truth)
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_knn_votes_by_similarity():
    knn = pytest.importorskip("debiaspl.evaluation.knn", reason="faiss is not installed", exc_type=ImportError)
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    labels = torch.tensor([2, 2, 0])
    queries = torch.tensor([[5.0, 0.1], [0.1, 3.0], [1.0, 0.2]])
    truth = torch.tensor([2, 0, 0])
    assert knn.knn_accuracy(bank, labels, queries, truth, classes=3, k=2) == pytest.approx(200 / 3)
    assert knn.knn_accuracy(bank, labels, queries, truth, classes=3, k=50) == pytest.approx(200 / 3)


def test_evaluate_command_repeats_the_training_s_numbers(trained_run, capsys):
    pytest.importorskip("faiss", reason="faiss is not installed")
    rows = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    assert command.main([str(trained_run / "last.pt"), "--knn"]) == 0
    out = capsys.readouterr().out
    student = next(line for line in out.splitlines() if "student" in line)
    assert f"{rows[-1]['val/student_top1']:.2f}" in student
    assert "above the threshold, after" in out


@pytest.mark.parametrize("flags", [["none.pt"], ["last.pt", "--set", "science.tau=0"]])
def test_evaluate_says_what_is_wrong(trained_run, capsys, flags):
    assert command.main([str(trained_run / flags[0]), *flags[1:]]) == 2
    assert capsys.readouterr().err.startswith("error: ")


class InTurns(Ranks):
    """A rank of several that are threads of this process: sums over all of them."""

    meeting: "Meeting"

    def sum_(self, tensor):
        return tensor.copy_(self.meeting.sum(tensor))


class Meeting:
    """Where threads wait for each other and add their tensors up."""

    def __init__(self, world: int) -> None:
        self._barrier, self._lock, self._given = threading.Barrier(world), threading.Lock(), []

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._lock:
            self._given.append(tensor.clone())
        self._barrier.wait(timeout=60)
        total = torch.stack(self._given).sum(0)
        if self._barrier.wait(timeout=60) == 0:
            self._given.clear()
        self._barrier.wait(timeout=60)
        return total


def on_ranks(world: int, work) -> list:
    """What ``work(ranks)`` returns on each of so many ranks, which run at the same time."""
    meeting = Meeting(world)

    def rank(number: int):
        ranks = InTurns(number, world)
        object.__setattr__(ranks, "meeting", meeting)
        return work(ranks)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(rank, range(world)))


class ShareOfSource(FixedSource):
    """The samples of a rank: every world-th, in batches of two."""

    def __init__(self, ranks):
        self._own = list(range(ranks.rank, 7, ranks.world))

    def __len__(self):
        return -(-len(self._own) // 2)

    def __iter__(self):
        for start in range(0, len(self._own), 2):
            index = self._own[start : start + 2]
            pixels = torch.zeros(1, len(index), 1, 1, 3, dtype=torch.uint8)
            pixels[0, :, 0, 0, 0] = torch.tensor([self.predictions[at] for at in index], dtype=torch.uint8)
            yield Views(pixels, torch.tensor(index))


def test_all_ranks_get_the_guesses_for_all_images():
    whole = guess({"model": FirstPixel()}, FixedSource(), 8, 4, Ranks())["model"]
    assert whole.label[:7, 0].tolist() == list(FixedSource.predictions)
    assert whole.label.shape == (8, 4)
    assert whole.label[0].tolist() == [0, 1, 2, 3]  # equally likely ones by number, as argmax takes the first
    assert whole.confidence[:7, 0] == pytest.approx(np.e / (np.e + 3))
    assert whole.seen.tolist() == [True] * 7 + [False]
    for found in on_ranks(2, lambda ranks: guess({"model": FirstPixel()}, ShareOfSource(ranks), 8, 4, ranks)["model"]):
        assert all(map(np.array_equal, found, whole))


def test_only_classes_that_come_into_question_are_guessed():
    only = guess({"model": FirstPixel()}, FixedSource(), 7, 4, Ranks(), among=torch.tensor([1, 3]))["model"]
    assert only.label[:, 0].tolist() == [1] * 7  # of 1 and 3, neither of which is likelier but for 1
    assert only.label.shape == (7, 2)
    assert only.confidence[2, 0] == pytest.approx(np.e / (np.e + 1))
    assert only.confidence[0, 0] == pytest.approx(0.5)


def test_ranks_share_the_bank_and_the_queries_of_knn():
    knn = pytest.importorskip("debiaspl.evaluation.knn", reason="faiss is not installed", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(21, 3, generator=generator), torch.randn(11, 3, generator=generator)
    labels, truth = torch.arange(21) % 4, torch.arange(11) % 4
    alone = knn.knn_accuracy(bank, labels, queries, truth, 4, k=3)

    def shared(ranks):
        mine = slice(ranks.rank, None, ranks.world)
        whole = [knn.whole_bank(own[mine], ranks) for own in (bank, labels)]
        assert torch.equal(whole[0], bank)
        return knn.knn_accuracy(*whole, queries[mine], truth[mine], 4, k=3, ranks=ranks)

    assert 0 < alone < 100
    assert on_ranks(2, shared) == [pytest.approx(alone)] * 2
