"""Features of images: what a network's trunk makes of them, before any head."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from debiaspl.models.classifier import Classifier
from pipelines.batch import Source


def extract_features(
    model: Classifier, source: Source, device: torch.device
) -> tuple[Float[Tensor, "n f"], Int64[Tensor, "n"]]:
    """Returns pooled features and index of every image of ``source``, on the CPU; wants a model in eval mode."""
    features, index = [], []
    source.seek(0, 0)
    with torch.no_grad():
        for views in source:
            features.append(model.features(views.pixels[0].to(device)).float().cpu())
            index.append(views.index.cpu())
    return torch.cat(features), torch.cat(index)
