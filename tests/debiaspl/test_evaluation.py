"""Accuracy, kNN and bias against numbers worked out by hand; the evaluate command."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from debiaspl import evaluate as command
from debiaspl.distributed import Ranks
from debiaspl.evaluation.accuracy import evaluate
from debiaspl.evaluation.bias import draw_pseudo_labels, imbalance
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
