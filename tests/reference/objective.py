"""The objective in numpy float64, written for reading: a loop per sum, nothing shared with the code it checks."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def cross_entropy(logits, label):
    return -np.log(softmax(logits)[label])


def total_loss(
    labeled,
    labels,
    weak,
    strong,
    phat,
    *,
    tau,
    threshold,
    momentum,
    lambda_u,
    lambda_cld,
    temperature,
    assignment,
    clip=None,
    clip_gate=0.4,
):
    """(L, L_x, L_u, L_cld, new p̂) of one group; weak and strong [v, U, C], clip = (labels [U], confidences [U])."""
    views, samples, classes = weak.shape
    mean_weak, mean_strong = weak.mean(0), strong.mean(0)
    sets = [weak[0]] if views == 1 else [mean_weak, *weak]
    log_phat = np.log(np.maximum(phat, np.finfo(np.float32).tiny))

    targets = [[softmax(w[i] - tau * log_phat).argmax() for i in range(samples)] for w in sets]
    masks = [[softmax(w[i] - tau * log_phat).max() >= threshold for i in range(samples)] for w in sets]

    probability = np.stack([softmax(mean_weak[i]) for i in range(samples)])
    new_phat = momentum * phat + (1 - momentum) * probability.mean(0)
    margined = strong + tau * np.log(np.maximum(new_phat, np.finfo(np.float32).tiny))

    l_x = np.mean([cross_entropy(labeled[i], labels[i]) for i in range(len(labels))])
    terms = [
        np.mean([cross_entropy(margined[j, i], target[i]) * mask[i] for i in range(samples)])
        for target, mask in zip(targets, masks, strict=True)
        for j in range(views)
    ]
    l_u = np.mean(terms)
    if clip is not None:
        open_gate = [clip[1][i] >= clip_gate and not any(mask[i] for mask in masks) for i in range(samples)]
        l_clip = np.mean(
            [
                np.mean([cross_entropy(margined[j, i], clip[0][i]) * open_gate[i] for i in range(samples)])
                for j in range(views)
            ]
        )
        l_u = (l_u + l_clip) / 2

    l_cld = 0.0
    if lambda_cld:
        student = margined[0] if views == 1 else mean_strong
        pick = np.argmin if assignment == "argmin" else np.argmax
        group = [pick(probability[i]) for i in range(samples)]
        centroids = np.zeros((classes, classes))
        for c in range(classes):
            members = [probability[i] for i in range(samples) if group[i] == c]
            if members:
                centroids[c] = np.mean(members, axis=0)
        l_cld = np.mean(
            [cross_entropy(centroids @ softmax(student[i]) / temperature, group[i]) for i in range(samples)]
        )
    return l_x + lambda_u * l_u + lambda_cld * l_cld, l_x, l_u, l_cld, new_phat
