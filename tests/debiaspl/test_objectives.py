"""What the objective must do, read from small cases, and the one test that a famous wrong port would have failed."""

import dataclasses

import numpy as np
import pytest
import torch

from debiaspl.objectives import ClipTargets, Objective, teacher_targets, total_loss, updated_phat

DEBIASED = Objective(
    tau=0.4,
    threshold=0.8,
    phat_momentum=0.99,
    lambda_u=10.0,
    lambda_cld=0.3,
    cld_temperature=0.07,
    cld_assignment="argmax",
    clip_gate=0.4,
)


def random_group(seed, classes=10, views=2, labeled=4, unlabeled=12, scale=4.0):
    """Logits of one group, float64: labeled, labels, weak, strong, p̂ and CLIP's guesses."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(scale=scale, size=shape)  # noqa: E731
    phat = rng.dirichlet(np.full(classes, 0.5))
    return (
        draw(labeled, classes),
        rng.integers(0, classes, labeled),
        draw(views, unlabeled, classes),
        draw(views, unlabeled, classes),
        phat,
        (rng.integers(0, classes, unlabeled), rng.uniform(size=unlabeled)),
    )


def ours(objective, labeled, labels, weak, strong, phat, clip):
    """Losses, new p̂ and the gradients with respect to the student's logits."""
    labeled, strong = torch.tensor(labeled, requires_grad=True), torch.tensor(strong, requires_grad=True)
    phat = torch.tensor(phat)
    teacher = teacher_targets(torch.tensor(weak), phat, objective.tau, objective.threshold)
    phat = updated_phat(phat, teacher.probability.mean(0), objective.phat_momentum)
    clip = None if clip is None else ClipTargets(torch.tensor(clip[0]), torch.tensor(clip[1]))
    losses = total_loss(objective, labeled, torch.tensor(labels), strong, teacher, phat, clip)
    losses.total.backward()
    return losses, phat, labeled.grad, strong.grad


def test_phat_moves_per_class_and_debiasing_differs_from_fixmatch():
    """A widely used port averages p̂'s update over all classes: p̂ stays uniform and the method becomes FixMatch."""
    labeled, labels, weak, strong, _, _ = random_group(3)
    weak[..., 0] += 4.0  # the teacher favours class 0
    uniform = np.full(10, 0.1)
    fixmatch = dataclasses.replace(DEBIASED, tau=0.0, lambda_cld=0.0)
    debiased = dataclasses.replace(DEBIASED, lambda_cld=0.0)

    phat = uniform
    for _ in range(50):
        debiased_losses, phat, _, debiased_grad = ours(debiased, labeled, labels, weak, strong, phat, None)
        phat = phat.numpy()
    fixmatch_losses, _, _, fixmatch_grad = ours(fixmatch, labeled, labels, weak, strong, uniform, None)

    assert phat[0] > 0.2  # from 0.1
    assert phat.sum() == pytest.approx(1)
    assert debiased_losses.total.item() != pytest.approx(fixmatch_losses.total.item(), rel=1e-2)
    assert (debiased_grad - fixmatch_grad).abs().max() > 1e-3


def test_phat_counts_masked_samples_too():
    weak = torch.zeros(1, 6, 3)
    weak[0, :, 2] = 0.1  # far below any threshold
    teacher = teacher_targets(weak, torch.full((3,), 1 / 3), tau=0.4, threshold=0.99)
    assert teacher.mask.sum() == 0
    phat = updated_phat(torch.full((3,), 1 / 3), teacher.probability.mean(0), 0.9)
    assert phat[2] > phat[1] == phat[0]


@pytest.mark.parametrize("views", [1, 2])
def test_vanished_class_and_empty_masks_stay_finite(views):
    labeled, labels, weak, strong, _, clip = random_group(5, views=views, scale=60.0)
    phat = np.zeros(10)
    phat[0] = 1.0
    for objective in (DEBIASED, dataclasses.replace(DEBIASED, threshold=1.1)):
        losses, new_phat, labeled_grad, strong_grad = ours(objective, labeled, labels, weak, strong, phat, clip)
        for value in (*losses, new_phat, labeled_grad, strong_grad):
            assert torch.isfinite(value).all()


def test_clip_labels_count_only_where_no_pseudo_label_fires():
    weak = torch.full((2, 3, 4), -9.0)
    weak[:, 0, 1] = 9.0  # fires
    weak[:, 1:] = 0.0  # silent
    clip = ClipTargets(torch.tensor([2, 2, -1]), torch.tensor([0.9, 0.9, 0.0]))
    teacher = teacher_targets(weak, torch.full((4,), 0.25), 0.4, 0.8)
    strong = torch.zeros(2, 3, 4, requires_grad=True)
    losses = total_loss(DEBIASED, torch.zeros(1, 4), torch.tensor([0]), strong, teacher, torch.full((4,), 0.25), clip)
    assert losses.clip_rate.item() == pytest.approx(1 / 3)
    objective = dataclasses.replace(DEBIASED, lambda_cld=0.0)
    losses = total_loss(objective, torch.zeros(1, 4), torch.tensor([0]), strong, teacher, torch.full((4,), 0.25), clip)
    losses.total.backward()
    assert strong.grad[:, 0].argmin(-1).tolist() == [1, 1]  # pushed to the pseudo-label, not to CLIP's
    assert strong.grad[:, 1].argmin(-1).tolist() == [2, 2]
    assert strong.grad[:, 2].abs().max() == 0
