"""The tensors of a weights file, torch.save's or .safetensors, by name. Nothing in the file is executed."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.errors import UserError, requires
from pipelines.files import open_regular, replacing, verify_archive
from pipelines.names import readable


class WeightsError(UserError):
    """A weights file that cannot be used."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the file's tensors by name; those in tables within tables by the dotted path to them.

    Raises WeightsError where it is missing, unreadable or damaged, or holds anything but tensors and plain values;
    MissingDependency for a .safetensors file without that package.
    """
    load = _safetensors_loader(path) if path.suffix == ".safetensors" else _load_torch
    try:
        tensors = _flat(load(path))
    except FileNotFoundError as error:
        raise WeightsError(
            f"There is no weights file {readable(path)}. Put it there, name another with --init, or start from "
            "random weights "
            "with --init ''"
        ) from error
    except OSError as error:
        raise WeightsError(f"Cannot read {readable(path)}: {error.strerror or error}.") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{readable(path)} cannot be read as weights: it holds more than tensors, none of which is run "
            "here, or is damaged. "
            "If you trust it, save its table of tensors alone: "
            "content = torch.load(FILE, weights_only=False); torch.save(content['state_dict'], 'weights.pth')"
        ) from error
    except Exception as error:  # the libraries raise whatever the damage makes them raise
        raise WeightsError(
            f"{readable(path)} cannot be read as weights: it is damaged ({type(error).__name__}). Fetch it again."
        ) from error
    if not tensors:
        raise WeightsError(f"{readable(path)} holds no table of weights.")
    return tensors


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes tensors by name, and texts about them. Raises OSError, MissingDependency without that package."""
    with requires("safetensors", "pip install -e '.[export]'", f"Writing {path.name}"):
        from safetensors import torch as safetensors  # optional: only for such files

    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as building:
        building.write_bytes(safetensors.save(dense, metadata))


def _load_torch(path: Path) -> Any:
    with open_regular(path) as file:
        verify_archive(file)
        return torch.load(file, map_location="cpu", weights_only=True)


def _safetensors_loader(path: Path) -> Callable[[Path], Any]:
    with requires("safetensors", "pip install -e '.[timm]' (it comes with timm)", str(path)):
        from safetensors import torch as safetensors  # optional: only for such files

    def load(file: Path) -> Any:
        open_regular(file).close()  # load_file would wait for a pipe
        return safetensors.load_file(file)

    return load


def _flat(table: Any, prefix: str = "") -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{key}"] = value
        else:
            tensors |= _flat(value, f"{prefix}{key}.")
    return tensors
