"""SGD, and the learning rate as a function of the step."""

import math

import torch
from torch import nn
from torch.optim import SGD

from debiaspl.config import Science


def build_optimizer(model: nn.Module, science: Science) -> SGD:
    """Returns SGD with momentum, without Nesterov, with weight decay on all parameters, biases and BatchNorm too.

    It is fused, and its learning rate is a 0-d tensor: a new rate neither reads the device nor recompiles anything.
    Momentum begins as zeros: SGD itself would make it within the first step, and not at all where float16 skips that.
    """
    parameters = list(model.parameters())
    optimizer = SGD(parameters, lr=science.lr, momentum=science.momentum, weight_decay=science.weight_decay, fused=True)
    for group in optimizer.param_groups:  # set afterwards: the constructor would read a tensor's value to check it
        group["lr"] = torch.tensor(science.lr, device=parameters[0].device)
    for parameter in parameters:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def learning_rate(science: Science, step: int, steps_per_epoch: int) -> float:
    """Returns the rate of a step: linear over the warm-up's steps, then cosine per *epoch* down to almost 0."""
    warmup_steps = science.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return science.lr * (step + 1) / warmup_steps
    epoch = step // steps_per_epoch
    progress = (epoch - science.warmup_epochs) / (science.epochs - science.warmup_epochs)
    return 0.5 * science.lr * (1 + math.cos(math.pi * progress))
