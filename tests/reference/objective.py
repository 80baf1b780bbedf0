"""The objective and its gradients in numpy float64, written for reading: a loop per sum, derivatives by hand.

Nothing is shared with the code it checks; ``numbers`` is only read for the equation's numbers. With p = softmax(z),
d CE(z, y) / dz = p − onehot(y), and d f / dz = p ⊙ (∂f/∂p − p·∂f/∂p): every gradient below follows from these two.
"""

from typing import NamedTuple

import numpy as np


class Group(NamedTuple):
    """Logits of one group: labeled [B, C], weak (teacher) and strong (student) [v, U, C]."""

    labeled: np.ndarray
    labels: np.ndarray
    weak: np.ndarray
    strong: np.ndarray
    clip: tuple[np.ndarray, np.ndarray] | None  # labels [U] and confidences [U]


class Result(NamedTuple):
    """Of one group: L, L_x, L_u, L_cld, and the gradients of L with respect to the student's logits."""

    losses: np.ndarray
    labeled: np.ndarray
    strong: np.ndarray


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def cross_entropy(logits, label):
    """−log softmax(logits)[label], also where that probability underflows."""
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]


def cross_entropy_gradient(logits, label):
    gradient = softmax(logits)
    gradient[label] -= 1
    return gradient


def log_prior(phat):
    return np.log(np.maximum(phat, np.finfo(np.float32).tiny))


def target_sets(weak):
    """The mean view and each view, or the only view."""
    return weak if len(weak) == 1 else [weak.mean(0), *weak]


def debiased(numbers, weak, phat):
    """[k, U, C]: debiased probabilities of every target set."""
    return np.array([[softmax(w - numbers.tau * log_prior(phat)) for w in one] for one in target_sets(weak)])


def probabilities(weak):
    """[U, C]: raw probabilities of the mean view."""
    return np.array([softmax(w) for w in weak.mean(0)])


def cld_group(numbers, weak):
    """[U]: each sample's group."""
    pick = np.argmin if numbers.cld_assignment == "argmin" else np.argmax
    return [pick(p) for p in probabilities(weak)]


def updated_phat(numbers, phat, groups):
    """One row per group moves by itself, a single row by the mean over all groups' samples."""
    means = np.array([probabilities(group.weak).mean(0) for group in groups])
    if len(phat) == 1:
        means = means.mean(0, keepdims=True)
    return numbers.phat_momentum * phat + (1 - numbers.phat_momentum) * means


def total_loss(numbers, group, old_phat, new_phat):
    """Losses and gradients of one group; targets come from the old p̂, the margin from the new."""
    views, samples, _ = group.strong.shape
    q = debiased(numbers, group.weak, old_phat)
    targets, masks = q.argmax(-1), q.max(-1) >= numbers.threshold
    margined = group.strong + numbers.tau * log_prior(new_phat)

    l_x = np.mean([cross_entropy(x, y) for x, y in zip(group.labeled, group.labels, strict=True)])
    d_labeled = [cross_entropy_gradient(x, y) for x, y in zip(group.labeled, group.labels, strict=True)]

    l_u, d_u = 0.0, np.zeros_like(group.strong)
    for target, mask in zip(targets, masks, strict=True):
        for j in range(views):
            for i in np.flatnonzero(mask):
                l_u += cross_entropy(margined[j, i], target[i]) / (len(q) * views * samples)
                d_u[j, i] += cross_entropy_gradient(margined[j, i], target[i]) / (len(q) * views * samples)
    if group.clip is not None:
        l_u, d_u = l_u / 2, d_u / 2
        for i in range(samples):
            if group.clip[1][i] >= numbers.clip_gate and not masks[:, i].any():
                for j in range(views):
                    l_u += cross_entropy(margined[j, i], group.clip[0][i]) / (2 * views * samples)
                    d_u[j, i] += cross_entropy_gradient(margined[j, i], group.clip[0][i]) / (2 * views * samples)

    l_cld, d_cld = _cld(numbers, group, margined) if numbers.lambda_cld else (0.0, 0.0)
    return Result(
        np.array([l_x + numbers.lambda_u * l_u + numbers.lambda_cld * l_cld, l_x, l_u, l_cld]),
        np.array(d_labeled) / len(group.labels),
        numbers.lambda_u * d_u + numbers.lambda_cld * d_cld,
    )


def _cld(numbers, group, margined):
    """L_cld and its gradient with respect to every strong view."""
    views, samples, classes = group.strong.shape
    # Only the single view carries the margin here.
    student = margined[0] if views == 1 else group.strong.mean(0)
    p_weak, assigned = probabilities(group.weak), cld_group(numbers, group.weak)
    present = sorted(set(assigned))  # the other classes' centroids are zero
    centroids = np.array(
        [np.mean([p for p, own in zip(p_weak, assigned, strict=True) if own == c], axis=0) for c in present]
    )
    loss, gradient = 0.0, np.zeros_like(student)
    for i in range(samples):
        p = softmax(student[i])
        logits = np.zeros(classes)
        logits[present] = centroids @ p / numbers.cld_temperature
        loss += cross_entropy(logits, assigned[i]) / samples
        d_logits = cross_entropy_gradient(logits, assigned[i])[present] / samples
        d_p = centroids.T @ d_logits / numbers.cld_temperature
        gradient[i] = p * (d_p - p @ d_p)
    return loss, np.broadcast_to(gradient / views, group.strong.shape)


def step(numbers, groups, phat):
    """(mean losses over the groups, gradients of their mean by group, new p̂); p̂ [1 or groups, C]."""
    new = updated_phat(numbers, phat, groups)
    row = lambda rows, number: rows[number % len(rows)]  # noqa: E731
    results = [total_loss(numbers, group, row(phat, n), row(new, n)) for n, group in enumerate(groups)]
    mean = np.mean([result.losses for result in results], axis=0)
    gradients = [(result.labeled / len(groups), result.strong / len(groups)) for result in results]
    return mean, gradients, new


def distance_to_a_decision(numbers, group, phat):
    """How far the group is from any threshold or tie, where rounding would choose: the least of all margins."""
    q = debiased(numbers, group.weak, phat)
    logits = np.array([w - numbers.tau * log_prior(phat) for w in target_sets(group.weak)])
    first_two = np.sort(logits, -1)[..., -2:]
    mean = np.sort(group.weak.mean(0) * (-1 if numbers.cld_assignment == "argmin" else 1), -1)[:, -2:]
    margins = [np.abs(q.max(-1) - numbers.threshold), np.diff(first_two), np.diff(mean)]
    if group.clip is not None:
        margins.append(np.abs(group.clip[1] - numbers.clip_gate))
    return min(margin.min() for margin in margins)
