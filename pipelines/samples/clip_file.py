"""CLIP's ranked predictions, a published ``…_clip_predictions_ranked.pth.tar``: its labels and their probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.errors import DataError
from pipelines.files import open_regular, verify_archive
from pipelines.names import readable

_NUMPY_ARRAYS: list[Any] = [
    np.empty(0).__reduce__()[0],
    np.ndarray,
    np.dtype,
    bytes,
    *(type(np.dtype(kind)) for kind in "fdlib"),
]
"""What a file may hold beside tensors and lists: arrays of floats and integers, as numpy pickles them."""


def read_clip_file(path: Path, rows: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns label [rows] and confidence [rows] from the file's ``preds_list`` and ``probs_list``.

    These are tables [rows, classes], ranked by probability. Raises DataError for a file that cannot be read or that
    holds other shapes, types or values.
    """
    ranked, probabilities = _tables(path)
    if ranked.ndim != 2 or ranked.shape != probabilities.shape or len(ranked) != rows or not ranked.numel():
        raise DataError(
            f"{readable(path)} must hold preds_list and probs_list of {rows} rows each, one per row of the "
            "unlabeled index file "
            f"or image of the unlabeled folder (got {tuple(ranked.shape)} and {tuple(probabilities.shape)})."
        )
    if ranked.is_complex() or ranked.dtype == torch.bool or not probabilities.is_floating_point():
        raise DataError(
            f"{readable(path)} must hold whole numbers in preds_list and floating-point ones in probs_list "
            f"(got {ranked.dtype} "
            f"and {probabilities.dtype})."
        )
    label = ranked[:, 0]
    wrong = ~((label >= 0) & (label < classes) & (label == label.floor()))
    if wrong.any():
        raise DataError(
            f"{readable(path)} predicts class {label[wrong][0].item()}, but the data has {classes} classes."
        )
    lowest, confidence = (bound.float() for bound in probabilities.aminmax(dim=1))  # NaN passes through to both
    outside = ~((lowest >= 0) & (confidence <= 1))
    if outside.any():
        row = int(outside.nonzero()[0])
        raise DataError(
            f"{readable(path)}: probabilities must lie within 0 and 1 (row {row} has {lowest[row].item():g} to "
            f"{confidence[row].item():g})."
        )
    return label.long().numpy(), confidence.numpy()


def _tables(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with open_regular(path) as file, torch.serialization.safe_globals(_NUMPY_ARRAYS):
            verify_archive(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        return torch.as_tensor(content["preds_list"]), torch.as_tensor(content["probs_list"])
    except FileNotFoundError as error:
        raise DataError(
            f"There is no CLIP predictions file {readable(path)}. Make it with: python -m debiaspl clip-targets"
        ) from error
    except OSError as error:
        raise DataError(
            f"Cannot read the CLIP predictions file {readable(path)}: {error.strerror or error}."
        ) from error
    except Exception as error:  # torch.load raises whatever the damage makes it raise
        raise DataError(
            f"{readable(path)} is not a CLIP predictions file with preds_list and probs_list ({type(error).__name__}: "
            "damaged, or it holds more than tables)."
        ) from error
