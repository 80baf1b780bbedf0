"""A trained network for other programs: safetensors, a program of torch.export, ONNX; and the lines that use each."""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from debiaspl.config import Science
from debiaspl.distributed import Ranks
from debiaspl.models.classifier import Classifier
from debiaspl.models.trunks import classifier_name, pixel_statistics
from debiaspl.using import snippets
from debiaspl.using.snippets import SUFFIXES
from debiaspl.using.trained import Trained, open_trained
from debiaspl.weights_file import write_safetensors
from pipelines import console
from pipelines.errors import UserError
from pipelines.files import replacing
from pipelines.names import readable

_IMAGES = 4
"""Random images that a program is traced, and compared, with."""


class Exported(NamedTuple):
    """A network that is to be written, and what is written beside its weights."""

    network: Classifier
    science: Science
    notes: dict[str, str]  # classes, mean and std as JSON; size, resize, arch


def export(options: argparse.Namespace) -> None:
    """Writes the file that debiaspl.export's ``options`` ask for, and prints how it is used. Raises UserError."""
    trained = open_trained(options.run, f"{options.which}.pt")
    model = trained.choice(options.model)
    path = options.out or trained.path.with_name(f"model{SUFFIXES[options.format]}")
    if path.suffix != SUFFIXES[options.format]:
        raise UserError(f"A file of --format {options.format} ends in {SUFFIXES[options.format]}, but --out is {path}.")
    exported = Exported(trained.network(model, Ranks()), trained.recipe.science, _notes(trained))
    try:
        {"safetensors": _write_weights, "torch": _write_program, "onnx": _write_onnx}[options.format](path, exported)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}. Name another with --out.") from error
    console.say(f"{model} of {readable(trained.path)} → {readable(path)}")
    console.say("It is used so:\n")
    console.say(snippets.of(options.format, path, exported.science, len(trained.classes)))


def _notes(trained: Trained) -> dict[str, str]:
    """Returns what a program that uses the network has to know, as texts."""
    science, about = trained.recipe.science, trained.about
    mean, std = (about.mean, about.std) if about else pixel_statistics(science.arch)
    values: dict[str, Any] = {"classes": trained.classes, "mean": mean, "std": std}
    values |= {"size": science.size, "resize": science.eval_resize}
    return {"arch": science.arch, **{name: json.dumps(value) for name, value in values.items()}}


def published_tensors(network: Classifier, arch: str) -> dict[str, Tensor]:
    """Returns the network's tensors by the names that torchvision, or timm for its own networks, gives them.

    Raises UserError for a network of timm that has several last layers.
    """
    last = classifier_name(arch)
    if not last:
        raise UserError(f"science.arch={arch} has several last layers in timm. Export it with --format torch or onnx.")
    found = {}
    for name, tensor in network.state_dict().items():
        part, _, rest = name.partition(".")
        found[rest if part == "trunk" else f"{last}.{rest}"] = tensor
    return found


def _write_weights(path: Path, exported: Exported) -> None:
    write_safetensors(path, published_tensors(exported.network, exported.science.arch), exported.notes)


def _write_program(path: Path, exported: Exported) -> None:
    pixels = _random_pixels(exported)
    try:
        program: ExportedProgram = torch.export.export(
            exported.network, (pixels,), dynamic_shapes={"pixels": {0: Dim("batch")}}
        )
    except Exception as error:  # torch.export raises whatever a network's code makes it raise
        first = str(error).partition("\n")[0]
        raise UserError(f"science.arch={exported.science.arch} cannot be exported by torch: {first}.") from error
    with replacing(path) as building, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights on another device; all are on the CPU
        torch.export.save(program, building, extra_files=exported.notes)


def _write_onnx(path: Path, exported: Exported) -> None:
    from debiaspl.using.onnx_file import write_onnx  # needs optional packages: only where it is asked for

    difference = write_onnx(path, exported.network, _random_pixels(exported), exported.notes)
    console.say(f"onnxruntime's logits differ from PyTorch's by at most {difference:.1e}, on {_IMAGES} random images")


def _random_pixels(exported: Exported) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = exported.science.size
    return torch.randint(0, 256, (_IMAGES, size, size, 3), dtype=torch.uint8, generator=generator)
