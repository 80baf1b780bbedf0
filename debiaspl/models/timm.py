"""timm's backbones as trunks, by timm's names and with its parameter names. The only file that imports timm."""

from functools import cache

import timm
import torch
from torch import nn


def names() -> list[str]:
    """Returns the names of all networks that timm builds."""
    return timm.list_models()


def build(name: str, size: int) -> tuple[nn.Module, int]:
    """Returns a backbone with random weights, from images [n, 3, size, size] to pooled features, and their length.

    Transformers and others whose weights depend on the images' size are built for ``size``.
    """
    backbone = timm.create_model(name, num_classes=0, **({"img_size": size} if is_fixed(name) else {}))
    # Not num_features: some networks have a last layer between pooling and classifier (MobileNetV3: 576, then 1024).
    return backbone, backbone.head_hidden_size


def is_fixed(name: str) -> bool:
    """Returns whether a network's weights depend on the images' size."""
    return bool(timm.get_pretrained_cfg(name).fixed_input_size)


def statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the channel means and deviations, of pixels in 0..1, that a backbone's published weights expect."""
    config = timm.get_pretrained_cfg(name)
    return config.mean, config.std


def classifier_name(name: str) -> str:
    """Returns what timm calls a network's last layer; empty where it has several."""
    found = timm.get_pretrained_cfg(name).classifier
    return found if isinstance(found, str) else ""


@cache
def misfit(name: str, size: int) -> str:
    """Returns why a backbone is no trunk for images of ``size`` (too small, no multiple of its patches), or ""."""
    try:
        with torch.device("meta"):  # shapes alone: no memory, no arithmetic
            backbone, length = build(name, size)
            features = backbone.eval()(torch.empty(2, 3, size, size))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:  # whatever its layers raise
        return str(error).partition("\n")[0] or "its layers do not divide them"
    return "" if features.shape == (2, length) else f"its features, {tuple(features.shape)}, are not pooled"
