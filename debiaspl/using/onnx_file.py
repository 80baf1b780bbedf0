"""A network as an ONNX file, compared with PyTorch before it is kept. The only file that imports ONNX's packages."""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.errors import UserError, requires
from pipelines.files import replacing

with requires("onnx", "pip install -e '.[export]'", "--format onnx"):
    import onnx
with requires("onnxscript", "pip install -e '.[export]'", "--format onnx"):
    import onnxscript  # noqa: F401 (torch.onnx needs it)
with requires("onnxruntime", "pip install -e '.[export]'", "--format onnx"):
    import onnxruntime

TOLERANCE = 1e-5
"""Largest difference between the logits of onnxruntime and PyTorch, as a share of the largest if that is above 1."""


def write_onnx(path: Path, network: nn.Module, pixels: Tensor, notes: dict[str, str]) -> float:
    """Writes the network, with a batch of any size, and ``notes`` as its metadata; returns the largest difference.

    ``pixels`` uint8 [n, h, w, 3] are what the two are compared on. Raises UserError where they differ by more than
    TOLERANCE, or torch cannot export the network; OSError where the file cannot be written.
    """
    with torch.no_grad():
        expected = network(pixels)
    with replacing(path) as building:
        try:
            _export(building, network, pixels)
        except OSError:
            raise
        except Exception as error:  # torch.onnx raises whatever a network's code makes it raise
            first = str(error).partition("\n")[0]
            raise UserError(f"The network cannot be exported to ONNX: {first}.") from error
        _annotate(building, notes)
        found = torch.from_numpy(_run(building, pixels))
        difference = float((found - expected).abs().max())
        if difference > TOLERANCE * max(1.0, float(expected.abs().max())):
            raise UserError(f"onnxruntime's logits differ from PyTorch's by {difference:.1e}: the file is not kept.")
    return difference


def _export(path: Path, network: nn.Module, pixels: Tensor) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts, about each other
        program = torch.onnx.export(
            network,
            (pixels,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)


def _annotate(path: Path, notes: dict[str, str]) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _run(path: Path, pixels: Tensor) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {"pixels": pixels.numpy()})[0]
    return logits
