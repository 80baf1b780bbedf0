"""Published weights into our names, with a complete account: what was used, what was left, what stays random.

Read are MoCo-EMAN checkpoints (``module.encoder_q.…``), torchvision's ResNets and our own checkpoints' students.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelines.errors import UserError

# Tried in order; the first that any key starts with is the model that is meant, all other keys are left.
_PREFIXES = ("module.encoder_q.", "trunk.", "module.", "")
_HEADS = ("fc.", "head.")


class WeightsError(UserError):
    """A weights file that cannot be used."""


class Account(NamedTuple):
    """What became of the file's and the trunk's tensors, by name."""

    used: list[str]  # trunk names that were filled
    left: list[str]  # file names that were not used (heads, key encoders, queues)
    random: list[str]  # trunk names that the file does not have

    def __str__(self) -> str:
        return f"{len(self.used)} tensors used, {len(self.left)} left, {len(self.random)} of the trunk not in the file"


def import_weights(trunk: nn.Module, path: Path) -> Account:
    """Fill ``trunk`` from a weights file. Nothing in the file is executed.

    Raises WeightsError where the file is missing or unreadable, or does not hold all of the trunk's weights in the
    right shapes (then the trunk is unchanged).
    """
    source = _read(path)
    prefix = next(p for p in _PREFIXES if p == "" or any(key.startswith(p) for key in source))
    named = {
        key.removeprefix(prefix): (key, value)
        for key, value in source.items()
        if key.startswith(prefix) and not key.removeprefix(prefix).startswith(_HEADS)
    }
    wanted = trunk.state_dict()
    wrong = [
        f"{name} is {tuple(named[name][1].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in named and named[name][1].shape != tensor.shape
    ]
    missing = [name for name in wanted if name not in named]
    # Counters are absent from older files and do not matter.
    if wrong or any(not name.endswith("num_batches_tracked") for name in missing):
        problem = "; ".join(wrong[:3] or [f"no {name}" for name in missing[:3]])
        raise WeightsError(
            f"{path} does not fit the trunk: {problem} ({len(wrong)} wrong shapes, {len(missing)} missing of "
            f"{len(wanted)}). Set science.arch to the network it was made for, or give another --init."
        )
    trunk.load_state_dict({name: named[name][1] for name in wanted if name in named}, strict=False)
    used = [name for name in wanted if name in named]
    taken = {named[name][0] for name in used}
    return Account(used, [key for key in source if key not in taken], missing)


def _read(path: Path) -> dict[str, Tensor]:
    """The file's tensors by name."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(
            f"There is no weights file {path}. Put it there, name another with --init, or start from random weights "
            "with --init ''"
        ) from error
    except Exception as error:  # torch.load raises whatever the damage makes it raise
        raise WeightsError(
            f"{path} cannot be read as weights ({type(error).__name__}: damaged, or it holds more than tensors)."
        ) from error
    for key in ("state_dict", "student", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError(f"{path} holds no table of weights.")
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no weights.")
    return tensors
