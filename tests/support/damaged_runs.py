"""What a run leaves and reads again (checkpoint, records, .beton), each with a reader, for damage drawn from a seed."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiaspl.build import build_state
from debiaspl.checkpoint import Progress, capture, restore
from debiaspl.checkpoint_file import CheckpointError, packed, read, unpacked
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.records import Record, Records
from debiaspl.step import State
from pipelines.beton.format import OF_IMAGES, rows_and_table
from pipelines.beton.reader import beton_of
from pipelines.errors import DataError
from pipelines.samples.listing import list_images
from tests.support.damaged_files import Readable
from tests.support.images import photo
from tests.support.runs import ABOUT, small_recipe

_SPLIT = "split"


def small_state() -> tuple[Recipe, State]:
    """Returns the demo's recipe and its networks, as they begin."""
    recipe = small_recipe(Path("data"))
    return recipe, build_state(recipe, 10, Ranks())


def tensors_of(state: State) -> list[Tensor]:
    """Returns copies of all that a checkpoint may change."""
    momenta = [slot["momentum_buffer"] for slot in state.optimizer.state.values()]
    networks = [*state.student.state_dict().values(), *state.teacher.state_dict().values()]
    return [tensor.clone() for tensor in [*networks, *momenta, state.phat, state.pseudo_labels]]


def whole_content() -> dict[str, Any]:
    """Returns what a checkpoint holds after some steps and an evaluation."""
    recipe, state = small_state()
    generator = torch.Generator().manual_seed(0)
    for slot in state.optimizer.state.values():
        slot["momentum_buffer"].normal_(generator=generator)
    accuracy = {name: {"epoch": 1.0, "top1": 50.0, "balanced": 40.0} for name in ("student", "teacher")}
    return capture(state, Progress(5, 3, 2, accuracy, accuracy), recipe, _SPLIT, ABOUT, Ranks())


def checkpoint(folder: Path) -> Readable:
    """A checkpoint: it means its tensors and how far the run was."""
    path = folder / "last.pt"
    path.write_bytes(packed(whole_content()))

    def meaning() -> list[Any]:
        recipe, state = small_state()
        progress = restore(path, read(path), state, recipe, _SPLIT, Ranks())
        return [progress, *(tensor.tolist() for tensor in tensors_of(state)[-4:])]

    return Readable(path, meaning)


def records(folder: Path) -> Readable:
    """Ten records: whole lines mean what they meant, and lost ones are counted, which is their refusal."""
    path = folder / "metrics.jsonl"
    whole = [Record(step, 1e9 + step, {"train/total": step / 3, "train/lr": 0.1}) for step in range(10)]
    for record in whole:
        Records(folder).append(record)

    def meaning() -> list[Record]:
        ours = Records(folder)
        lost = ours.keep(step=9, evaluated=True, count=10)
        found, damaged = ours.read()
        assert all(record in whole for record in found)
        assert damaged == 0
        if lost:
            raise DataError(f"{path}: {lost} records are damaged or gone")
        return found

    return Readable(path, meaning)


def beton(folder: Path) -> Readable:
    """The header and tables of a .beton, taken out of the file into one of their own, which is what gets damaged."""
    from tools.convert_imagenet_to_ffcv import main

    data = folder / "data"
    for number, name in enumerate(("ant/0.jpg", "ant/1.jpg", "bee/0.jpg", "bee/1.jpg")):
        (data / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        photo(40 + number, 50, number).save(data / "train" / name)
    assert main(["--data", str(data), "--split", "train"]) == 0
    file, listing = data / "ffcv/train.beton", list_images(data / "train")
    content = file.read_bytes()
    rows, table = rows_and_table(content)
    begins = OF_IMAGES.start + rows * OF_IMAGES.metadata.itemsize
    images, tables = content[begins:table], folder / "tables"
    tables.write_bytes(content[:begins] + content[table:])

    def meaning() -> list[Any]:
        changed = tables.read_bytes()
        file.write_bytes(changed[:begins] + images + changed[begins:])
        found = beton_of(listing, file)
        return [found.index.tolist(), found.label.tolist(), *(column.tolist() for column in found.stored)]

    return Readable(tables, meaning)


FILES = [checkpoint, records, beton]


def restructured(content: dict[str, Any], copies: int, seed: int) -> Iterator[dict[str, Any]]:
    """Copies of a checkpoint's content in which one to three entries are gone, renamed, added or of another kind."""
    draw = random.Random(seed)
    for _ in range(copies):
        changed = copy.deepcopy(content)
        for _ in range(draw.choice((1, 1, 2, 3))):
            _restructure(changed, draw)
        yield changed


def _restructure(part: Any, draw: random.Random) -> None:
    """Changes one entry, at any depth, of a dict or list."""
    keys = list(part) if isinstance(part, dict) else list(range(len(part)))
    if not keys:
        return
    key = draw.choice(keys)
    if isinstance(part[key], dict | list) and part[key] and draw.random() < 0.8:
        _restructure(part[key], draw)
        return
    match draw.randrange(8):
        case 0:
            del part[key]
        case 1 if isinstance(part, dict):
            part[f"{key}x"] = part.pop(key)
        case 2 if isinstance(part, dict):
            part[draw.choice(("new", 7, "scaler"))] = draw.choice((1, {"a": 1}, torch.zeros(1)))
        case _:
            part[key] = _another(part[key], draw)


def _another(value: Any, draw: random.Random) -> Any:
    """Returns what ``value`` is not: of another type, shape, dtype or layout, or not finite."""
    plain = (
        None,
        -1,
        3,
        2**70,
        0.5,
        float("nan"),
        float("inf"),
        True,
        "x",
        b"x",
        [],
        {},
        [1],
        {"a": 1},
        torch.zeros(2),
    )
    if not isinstance(value, Tensor) or draw.random() < 0.3:
        return draw.choice(plain)
    kinds = [
        value.flatten()[:0],
        value[None],
        value.to(torch.float64),
        value.to(torch.int8),
        value.to(torch.complex64),
        value.to(torch.bfloat16),
        torch.full_like(value.float(), float("nan")),
        torch.full_like(value.float(), float("inf")),
        value.float().to_sparse(),
        value.expand(2, *value.shape),
    ]
    return draw.choice(kinds)


def count_refused(copies: int, seed: int) -> int:
    """Loads contents of other structures, sealed as whole ones; returns how many are refused.

    Raises AssertionError where one that is refused has changed the state; whatever else is raised beside
    CheckpointError passes through.
    """
    recipe, state = small_state()
    before, refused = tensors_of(state), 0
    for content in restructured(whole_content(), copies, seed):
        try:
            restore(Path("last.pt"), unpacked(packed(content), "last.pt"), state, recipe, _SPLIT, Ranks())
        except CheckpointError:
            refused += 1
            assert all(map(torch.equal, before, tensors_of(state)))
        else:  # means something, such as another step
            recipe, state = small_state()
    return refused
