"""k-nearest-neighbour accuracy: how good features are without any head. The only file that imports faiss."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from debiaspl.distributed import Ranks
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
    ranks: Ranks | None = None,
) -> float:
    """Returns the percentage of queries whose k nearest bank features, by cosine similarity, vote for the right class.

    A vote weighs exp(similarity / temperature), as in Wu et al. 2018 (arXiv 1805.01978). With several ``ranks``, each
    has queries of its own and the whole bank; all get the percentage over all queries.
    """
    k, ranks = min(k, len(bank)), ranks or Ranks()
    index = _on_gpus(faiss.IndexFlatIP(bank.shape[1]), ranks)
    index.add(_unit(bank))
    similarity, neighbour = index.search(_unit(queries), k)
    votes = np.zeros((len(queries), classes))
    row = np.arange(len(queries))[:, None]
    np.add.at(votes, (row, bank_labels.numpy()[neighbour]), np.exp(similarity / temperature))
    right = (votes.argmax(1) == query_labels.numpy()).sum()
    counted = ranks.sum_(torch.tensor([float(right), float(len(queries))], dtype=torch.float64, device=ranks.device))
    return 100 * float(counted[0] / counted[1])


def _on_gpus(index: Any, ranks: Ranks) -> Any:
    """Returns an index on this rank's GPU, or on all GPUs for a single rank; on the CPU without faiss-gpu."""
    if ranks.device.type != "cuda" or not hasattr(faiss, "index_cpu_to_all_gpus"):
        return index
    if ranks.world == 1:
        return faiss.index_cpu_to_all_gpus(index)  # never run on a GPU
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), ranks.device.index, index)  # never run on a GPU


def whole_bank(own: Tensor, ranks: Ranks) -> Tensor:
    """Returns all rows, of which each rank has its share as in an EvaluationOrder, on the CPU of every rank."""
    if ranks.world == 1:
        return own
    count = int(ranks.sum_(torch.tensor(len(own), device=ranks.device)))
    whole = torch.zeros(count, *own.shape[1:], dtype=own.dtype, device=ranks.device)
    whole[ranks.rank :: ranks.world] = own.to(ranks.device)
    return ranks.sum_(whole).cpu()


def _unit(features: Float[Tensor, "n f"]) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(features).numpy()
