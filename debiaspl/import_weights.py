"""Weights from other people's files into a trunk, with a complete account: what was used, left, and not in the file.

No layout is written down here. Tables within tables are read as one, with dotted names; the trunk is wherever all of
its names follow one prefix, such as ``state_dict.module.encoder_q.`` (MoCo and MoCo-EMAN), ``state_dict.module.main.
backbone.`` (semi-supervised EMAN and DebiasPL), ``student.trunk.`` (our checkpoints) or none (torchvision, timm).
A file that holds the trunk several times gives the trained network, not its moving average; words in the names tell.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from debiaspl.models.trunks import TRUNKS
from debiaspl.weights_file import WeightsError, read_tensors
from pipelines.errors import first_few
from pipelines.files import replacing
from pipelines.names import readable

# Words that a prefix of a moving average has: EMA, MoCo's key encoder, BYOL's target, a teacher, SWA, DINO, timm …
_AVERAGED = {
    *("ema", "eman", "swa", "avg", "average", "averaged", "averaging", "moving", "shadow", "polyak"),
    *("momentum", "target", "teacher", "k", "key"),
}
# Words that a prefix of the trained network has where it is told from another one.
_TRAINED = {"q", "query", "online", "student", "main", "base"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of names with dots, underscores or capitals between words
# Parts of names that are a classifier's or projection's, which may sit within a module that the trunk has too.
_HEADS = {"fc", "head", "head_dist", "heads", "classifier"}


class Account(NamedTuple):
    """What became of the file's and the trunk's tensors, by name."""

    prefix: str  # what stands before the trunk's names in the file
    why: str  # why those were taken; empty where the file holds one network, whose name is not that of an average
    used: list[str]  # trunk names that were filled
    renamed: dict[str, str]  # file name → trunk name, where they differ
    left: list[str]  # file names that were not used (heads, key encoders, queues)
    random: list[str]  # trunk names that the file does not have

    def __str__(self) -> str:
        left = ", ".join(group if count == 1 else f"{count} of {group}" for group, count in self.left_groups().items())
        return (
            f"{len(self.used)} tensors used{f', from {self.prefix}*' if self.prefix else ''}"
            f"{f' ({self.why})' if self.why else ''}; {len(self.left)} left"
            f"{f' ({left})' if left else ''}; {len(self.random)} of the trunk not in the file"
        )

    def left_groups(self) -> Counter[str]:
        """Counts the tensors that were left, by the part of their names at which they part from the trunk's."""
        trunk = self.prefix.split(".")
        groups: Counter[str] = Counter()
        for name in self.left:
            parts = name.split(".")
            groups[next((part for at, part in enumerate(parts) if trunk[at : at + 1] != [part]), name)] += 1
        return groups

    def write(self, path: Path, weights: str) -> None:
        """Writes every name, as JSON."""
        content = {"weights": weights, **self._asdict()}
        with replacing(path) as building:
            building.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def import_weights(trunk: nn.Module, path: Path) -> Account:
    """Fills ``trunk`` from a weights file, whatever floating-point type that has. Nothing in the file is executed.

    Raises WeightsError where the file is missing or unreadable, does not hold all of the trunk's weights in the right
    shapes, as finite floating-point numbers, or holds those of a deeper network (then the trunk is unchanged);
    MissingDependency for a .safetensors file without that package.
    """
    source, wanted = read_tensors(path), trunk.state_dict()
    prefix, why = _prefix(source, wanted)
    if problem := _misfit(source, wanted, prefix):
        raise WeightsError(f"{readable(path)} does not fit the trunk: {problem}. {_remedy(source)}")
    found = {name: prefix + name for name in wanted if prefix + name in source}
    if problem := _nonsense({key: (source[key], wanted[name]) for name, key in found.items()}):
        raise WeightsError(f"{readable(path)} cannot be used: {problem} Or give another --init.")
    trunk.load_state_dict({name: source[key] for name, key in found.items()}, strict=False)
    taken = set(found.values())
    return Account(
        prefix,
        why,
        used=list(found),
        renamed={key: name for name, key in found.items() if key != name},
        left=[key for key in source if key not in taken],
        random=[name for name in wanted if name not in found],
    )


def _prefix(source: dict[str, Tensor], wanted: dict[str, Tensor]) -> tuple[str, str]:
    """Returns the prefix under which the file has most of the trunk's names, and why this one where there are several.

    Of several the trained network's is taken, by words in the prefixes, then the one that stands first.
    """
    found: Counter[str] = Counter()
    for key in source:
        parts = key.split(".")
        for at in range(len(parts)):
            name = ".".join(parts[at:])
            if name in wanted and not _is_counter(name):
                found[key.removesuffix(name)] += 1
    most = max(found.values(), default=0)
    networks = sorted((prefix for prefix, count in found.items() if count == most), key=_rank)
    return (networks[0], _why(networks)) if networks else ("", "")


def _why(networks: list[str]) -> str:
    """Says why the first of these prefixes was taken."""
    first, others = networks[0], [f"{prefix}*" for prefix in networks[1:]]
    if _is_average(first):
        return "; ".join(["a moving average by its name", *([f"before {first_few(others, 3)}"] if others else [])])
    averages = [f"{prefix}*" for prefix in networks if _is_average(prefix)]
    equals = [f"{prefix}*" for prefix in networks[1:] if _rank(prefix) == _rank(first)]
    reasons = [f"the trained network, before its moving average {first_few(averages, 3)}"] if averages else []
    reasons += [f"the first of several, before {first_few(equals, 3)}"] if equals else []
    return "; ".join(reasons) or (f"the trained network by its name, before {first_few(others, 3)}" if others else "")


def _words(prefix: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(prefix)}


def _is_average(prefix: str) -> bool:
    return bool(_words(prefix) & _AVERAGED)


def _rank(prefix: str) -> int:
    """Returns a network's standing, best first: trained by its name, unknown, a moving average."""
    return 2 if _is_average(prefix) else 0 if _words(prefix) & _TRAINED else 1


def _nonsense(pairs: dict[str, tuple[Tensor, Tensor]]) -> str:
    """Says what is wrong with the values of (given, wanted) tensors, by the file's names, and what to do about it."""
    problems = {name: _wrong_values(given, wanted) for name, (given, wanted) in pairs.items()}
    first = next((problem for problem in problems.values() if problem), None)
    if first is None:
        return ""
    names = [name for name, problem in problems.items() if problem == first]
    return f"{first.what} in {first_few(names, 3)}. {first.remedy}."


class _Problem(NamedTuple):
    what: str
    remedy: str


def _wrong_values(given: Tensor, wanted: Tensor) -> _Problem | None:
    if given.layout != torch.strided or given.is_meta:
        return _Problem("no plain table of numbers (sparse, or without values)", "Save the network's dense weights")
    if given.is_complex():
        return _Problem(f"complex numbers ({given.dtype})", "Save the network's real weights")
    if wanted.is_floating_point() and not given.is_floating_point():
        return _Problem(f"{given.dtype}, not floating-point numbers,", "Save the weights as before quantisation")
    # In the trunk's type: what is too large for it would be infinite there.
    if given.is_floating_point() and not given.to(torch.float32).isfinite().all():
        return _Problem("NaN or infinite numbers", "Take a file from before its training diverged")
    return None


def _misfit(source: dict[str, Tensor], wanted: dict[str, Tensor], prefix: str) -> str:
    """Says why the tensors under ``prefix`` are not the trunk's; empty where they are."""
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
    return "; ".join(f"{what} ({first_few(names, 3)})" for what, names in problems.items() if names)


def _remedy(source: dict[str, Tensor]) -> str:
    """Says what to set instead: our networks that the file does fit."""
    fitting = []
    for arch, build in TRUNKS.items():
        with torch.device("meta"):
            wanted = build().state_dict()
        if not _misfit(source, wanted, _prefix(source, wanted)[0]):
            fitting.append(f"science.arch={arch}")
    if fitting:
        return f"It fits {' and '.join(fitting)}"
    return (
        "Set science.arch (and science.size, if that shapes the network) to what the file was made for, or give "
        f"another --init; it holds {first_few(list(source), 3)}"
    )


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
