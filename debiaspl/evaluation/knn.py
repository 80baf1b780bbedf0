"""k-nearest-neighbour accuracy: how good features are without any head. The only file that imports faiss."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from debiaspl.models.classifier import Classifier
from pipelines.batch import Source
from pipelines.errors import requires

with requires("faiss", "pip install -e '.[knn]' (or '.[gpu]')", "kNN accuracy"):
    import faiss


def knn_accuracy(
    bank: Float[Tensor, "n f"],
    bank_labels: Int64[Tensor, "n"],
    queries: Float[Tensor, "m f"],
    query_labels: Int64[Tensor, "m"],
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Returns the percentage of queries whose k nearest bank features, by cosine similarity, vote for the right class.

    A vote weighs exp(similarity / temperature), as in Wu et al. 2018 (arXiv 1805.01978).
    """
    k = min(k, len(bank))
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(_unit(bank))
    similarity, neighbour = index.search(_unit(queries), k)
    votes = np.zeros((len(queries), classes))
    row = np.arange(len(queries))[:, None]
    np.add.at(votes, (row, bank_labels.numpy()[neighbour]), np.exp(similarity / temperature))
    return 100 * float((votes.argmax(1) == query_labels.numpy()).mean())


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


def _unit(features: Float[Tensor, "n f"]) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(features).numpy()
