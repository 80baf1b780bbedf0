"""Weights from other people's files into a trunk, with a complete account: what was used, left, and not in the file.

No layout is written down here. Tables within tables are read as one, with dotted names; the trunk is wherever all of
its names follow one prefix, such as ``state_dict.module.encoder_q.`` (MoCo and MoCo-EMAN), ``state_dict.module.main.
backbone.`` (semi-supervised EMAN and DebiasPL), ``student.trunk.`` (our checkpoints) or none (torchvision, timm).
"""

import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from debiaspl.models.trunks import TRUNKS
from pipelines.errors import MissingDependency, UserError
from pipelines.files import replacing

# Where a file holds the trunk several times, the first of these is taken: trained networks before their averages.
_TRAINED = ("encoder_q", "base_encoder", "main", "student", "model")
_AVERAGED = ("ema", "model_ema", "state_dict_ema", "encoder_k", "momentum_encoder", "teacher")
# Parts of names that are a classifier's or projection's, which may sit within a module that the trunk has too.
_HEADS = {"fc", "head", "head_dist", "heads", "classifier"}


class WeightsError(UserError):
    """A weights file that cannot be used."""


class Account(NamedTuple):
    """What became of the file's and the trunk's tensors, by name."""

    prefix: str  # what stands before the trunk's names in the file
    used: list[str]  # trunk names that were filled
    renamed: dict[str, str]  # file name → trunk name, where they differ
    left: list[str]  # file names that were not used (heads, key encoders, queues)
    random: list[str]  # trunk names that the file does not have

    def __str__(self) -> str:
        left = ", ".join(group if count == 1 else f"{count} of {group}" for group, count in self.left_groups().items())
        return (
            f"{len(self.used)} tensors used{f', from {self.prefix}*' if self.prefix else ''}; {len(self.left)} left"
            f"{f' ({left})' if left else ''}; {len(self.random)} of the trunk not in the file"
        )

    def left_groups(self) -> Counter[str]:
        """How many tensors were left, by the part of their names at which they part from the trunk's."""
        trunk = self.prefix.split(".")
        groups: Counter[str] = Counter()
        for name in self.left:
            parts = name.split(".")
            groups[next((part for at, part in enumerate(parts) if trunk[at : at + 1] != [part]), name)] += 1
        return groups

    def write(self, path: Path, weights: str) -> None:
        """Every name, as JSON."""
        content = {"weights": weights, **self._asdict()}
        with replacing(path) as building:
            building.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def import_weights(trunk: nn.Module, path: Path) -> Account:
    """Fill ``trunk`` from a weights file, whatever floating-point type that has. Nothing in the file is executed.

    Raises WeightsError where the file is missing or unreadable, does not hold all of the trunk's weights in the right
    shapes, or holds those of a deeper network (then the trunk is unchanged); MissingDependency for a .safetensors file
    without that package.
    """
    source, wanted = _read(path), trunk.state_dict()
    prefix = _prefix(source, wanted)
    if problem := _misfit(source, wanted, prefix):
        raise WeightsError(f"{path} does not fit the trunk: {problem}. {_remedy(source)}")
    found = {name: prefix + name for name in wanted if prefix + name in source}
    trunk.load_state_dict({name: source[key] for name, key in found.items()}, strict=False)
    taken = set(found.values())
    return Account(
        prefix,
        used=list(found),
        renamed={key: name for name, key in found.items() if key != name},
        left=[key for key in source if key not in taken],
        random=[name for name in wanted if name not in found],
    )


def _prefix(source: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """The prefix under which the file has most of the trunk's names; of several, the best by _TRAINED and _AVERAGED."""
    found: Counter[str] = Counter()
    for key in source:
        parts = key.split(".")
        for at in range(len(parts)):
            name = ".".join(parts[at:])
            if name in wanted and not _is_counter(name):
                found[key.removesuffix(name)] += 1
    most = max(found.values(), default=0)
    return min((prefix for prefix, count in found.items() if count == most), key=_rank, default="")


def _rank(prefix: str) -> int:
    """Of a network by its prefix, best first; one of unknown standing comes between trained ones and averages."""
    order = (*_TRAINED, "", *_AVERAGED)
    return max((order.index(part) for part in prefix.split(".")[:-1] if part in order), default=order.index(""))


def _misfit(source: dict[str, Tensor], wanted: dict[str, Tensor], prefix: str) -> str:
    """Why the tensors under ``prefix`` are not the trunk's; empty where they are."""
    # Counters are absent from older files and do not matter.
    missing = [name for name in wanted if prefix + name not in source and not _is_counter(name)]
    wrong = [
        f"{name} is {tuple(source[prefix + name].shape)} there and {tuple(tensor.shape)} in the trunk"
        for name, tensor in wanted.items()
        if prefix + name in source and source[prefix + name].shape != tensor.shape
    ]
    modules = {name.split(".")[0] for name in wanted}
    more = [
        name
        for name in (key.removeprefix(prefix) for key in source if key.startswith(prefix))
        if name not in wanted and name.endswith(".weight")
        if name.split(".")[0] in modules and not _HEADS & set(name.split("."))
    ]
    problems = {
        f"{len(missing)} of its {len(wanted)} tensors missing": missing,
        f"{len(wrong)} of other shapes": wrong,
        f"{len(more)} that it does not have": more,
    }
    return "; ".join(f"{what} ({_some(names)})" for what, names in problems.items() if names)


def _remedy(source: dict[str, Tensor]) -> str:
    """What to set instead: our networks that the file does fit."""
    fitting = []
    for arch, build in TRUNKS.items():
        with torch.device("meta"):
            wanted = build().state_dict()
        if not _misfit(source, wanted, _prefix(source, wanted)):
            fitting.append(f"science.arch={arch}")
    if fitting:
        return f"It fits {' and '.join(fitting)}"
    return (
        "Set science.arch (and science.size, if that shapes the network) to what the file was made for, or give "
        f"another --init; it holds {_some(list(source))}"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _read(path: Path) -> dict[str, Tensor]:
    """The file's tensors by name; those in tables within tables by the dotted path to them."""
    load = _safetensors_loader(path) if path.suffix == ".safetensors" else _load_torch
    try:
        content = load(path)
    except FileNotFoundError as error:
        raise WeightsError(
            f"There is no weights file {path}. Put it there, name another with --init, or start from random weights "
            "with --init ''"
        ) from error
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}.") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} cannot be read as weights: it holds more than tensors, none of which is run here, or is damaged. "
            "If you trust it, save its table of tensors alone: "
            "content = torch.load(FILE, weights_only=False); torch.save(content['state_dict'], 'weights.pth')"
        ) from error
    except Exception as error:  # the libraries raise whatever the damage makes them raise
        raise WeightsError(f"{path} cannot be read as weights: it is damaged ({type(error).__name__}).") from error
    tensors = _flat(content)
    if not tensors:
        raise WeightsError(f"{path} holds no table of weights.")
    return tensors


def _load_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors_loader(path: Path) -> Callable[[Path], Any]:
    try:
        from safetensors.torch import load_file  # optional: only for such files
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "safetensors":
            raise
        raise MissingDependency(
            f"{path} needs safetensors, which is not installed. Run: pip install -e '.[timm]' (it comes with timm)"
        ) from error
    return load_file


def _flat(table: Any, prefix: str = "") -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{key}"] = value
        else:
            tensors |= _flat(value, f"{prefix}{key}.")
    return tensors
