"""Where a source image's time goes: CPU milliseconds of each stage of ffcv, from JPEGs and planes, and of torchvision.

Every stage runs on one thread over the same images and plans as the pipeline, from memory to memory. The
whole is the pipeline with one thread; what no stage explains (memory for the batches, handing them from thread to
thread) is the rest. CPU time of the process, not time on the wall: the pipelines plan beside their threads' work.
"""

import io
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.arguments import STEP
from bench.four_views import LABELED_VIEWS, PLANES, UNLABELED_VIEWS, beton, epoch_of, open_feed, orders
from bench.loader import bars
from bench.loader.converting import converting
from bench.loader.further import Corpus, FurtherTable
from bench.measure import Contestant, Measurement, Spread, measure
from bench.report import Section
from bench.report.bars import NONE, Judged
from bench.report.contents import Cells
from bench.yardsticks.decode_only import DecodeOnly
from pipelines.augment import compiled_policy, pillow, policy
from pipelines.augment.operation_tables import operation_tables
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan
from pipelines.beton.decode_and_cut import decode_and_cut
from pipelines.beton.reader import open_beton
from pipelines.order import Draws
from pipelines.samples.listing import Listing

_STEPS = 5
CONVERT = "upsample + colour"
STAGES = ("read", "decode", CONVERT, "plan", "crop", "strong")
_BEFORE_CROP = {"ffcv": "decode", PLANES: CONVERT}
"""Pipeline that is compiled in one → the stage that makes the picture."""
_WHOLE_PICTURES = "whole pictures"
REST = "hand-over and the rest"


class _Group(NamedTuple):
    """One group of one stream, and what its stages start from."""

    draws: Draws
    planned: Plan
    plain: Plan  # planned without RandAugment
    strong: slice  # its strong views


def planning_seconds(listing: Listing, steps: int = 50) -> float:
    """Returns the median time that one thread takes to plan a step as ffcv does: its own, not what others took it."""
    taken = []
    for step in range(steps):
        begin = time.thread_time()
        _plan(listing, step % (len(listing) // STEP), compiled_policy.plan)
        taken.append(time.thread_time() - begin)
    return float(np.median(taken))


def _plan(listing: Listing, step: int, plan: Callable[..., Plan]) -> list[tuple[Draws, Plan]]:
    """Returns the labeled and the unlabeled group of a step, with their plans: ``plan`` is the function of a source."""
    groups = []
    for order, views in zip(orders(listing), (LABELED_VIEWS, UNLABELED_VIEWS), strict=True):
        draws = order.draws(0, step * order.batch, order.batch)
        sizes = listing.heights[draws.index], listing.widths[draws.index]
        groups.append((draws, plan(views, draws, *sizes)))
    return groups


def table(corpus: Corpus) -> FurtherTable:
    """Measures the stages of ffcv and torchvision, where they can be opened: a row for each, two columns a pipeline."""
    listing, root, names = corpus.listing, corpus.root, corpus.names
    groups = _groups(listing, min(_STEPS, len(listing) // STEP))
    with ExitStack() as opened:
        stages: dict[str, dict[str, Contestant]] = {}
        if "ffcv" in names:
            stages |= {name: _of_ffcv(name, groups, corpus, opened) for name in _BEFORE_CROP}
        if "torchvision" in names:
            stages["torchvision"] = _of_torchvision(groups, listing)
        for name, own in stages.items():
            feed = open_feed(name, listing, root, threads=1, steps=len(groups) // 2)
            opened.callback(feed.close)
            own["whole"] = Contestant("whole", _counted(groups, epoch_of(feed)), partial(feed.seek, 0, 0, 0))
        contestants = [
            Contestant(f"{name}: {stage}", each.run, each.setup)
            for name, own in stages.items()
            for stage, each in own.items()
        ]
        measured = measure(contestants, unit="images/s of CPU time", rounds=corpus.rounds, clock=time.process_time)
    judged = _judged(measured) if "ffcv" in names else ()
    section = Section(
        "Stages, CPU ms per source image",
        _rows(measured, list(stages)),
        "Median and quartiles, each stage on one thread over the same images and plans; ffcv's crop and strong: what "
        "the compiled function takes longer with them than without. Strong: RandAugment of two of an unlabeled image's "
        f"four views. {REST.capitalize()}: the whole pipeline with one thread, less its stages (fresh memory for the "
        "batches, queues, threads).",
        {"measurement": measured},
    )
    return FurtherTable(section, judged)


def _judged(measured: Measurement) -> tuple[Judged, ...]:
    """Returns the rows of the bars on what planes cost, against JPEGs."""
    jpegs, planes = (Spread.of(1000 / np.array(measured[f"{name}: whole"].rates)) for name in _BEFORE_CROP)
    decode = Spread.of(1000 / np.array(measured["ffcv: decode"].rates))
    convert = Spread.of(1000 / np.array(measured[f"{PLANES}: {_WHOLE_PICTURES}"].rates))
    return bars.cost(bars.KERNEL, convert, decode), bars.cost(bars.CORE_MS, planes, jpegs)


def _rows(measured: Measurement, names: list[str]) -> tuple[Cells, ...]:
    columns = []
    for name in names:
        each = _milliseconds(measured, name)
        whole = float(np.median(each["whole"]))
        spreads = {stage: Spread.of(values) for stage, values in each.items()}
        shown = {stage: f"{ms.median:.3f} ({ms.low:.3f}–{ms.high:.3f})" for stage, ms in spreads.items()}
        shares = {stage: f"{ms.median / whole:.1%}" for stage, ms in spreads.items()}
        columns += [[column.get(stage, NONE) for stage in (*STAGES, REST, "whole")] for column in (shown, shares)]
    header = ("stage", *(heading for name in names for heading in (name, "share")))
    return (header, *zip((*STAGES, REST, "whole"), *columns, strict=True))


def _milliseconds(measured: Measurement, name: str) -> dict[str, NDArray[np.float64]]:
    """Returns stage → CPU milliseconds of an image in each round."""
    rates = {series.name: np.array(series.rates) for series in measured.series}
    found = [stage for stage in (*STAGES, "whole") if f"{name}: {stage}" in rates]
    each = {stage: 1000 / rates[f"{name}: {stage}"] for stage in found}
    if name in _BEFORE_CROP:  # there, crop and strong include what comes before them
        each["strong"] = each["strong"] - each["crop"]
        each["crop"] = each["crop"] - each[_BEFORE_CROP[name]] - each["read"]
    whole = each.pop("whole")
    return {**each, REST: whole - sum(each.values()), "whole": whole}


def _groups(listing: Listing, steps: int) -> list[_Group]:
    groups = []
    for step in range(steps):
        drawn = _plan(listing, step, compiled_policy.plan)
        for (draws, planned), views in zip(drawn, (LABELED_VIEWS, UNLABELED_VIEWS), strict=True):
            plain = planned._replace(op=np.full_like(planned.op, Op.Identity))
            groups.append(_Group(draws, planned, plain, slice(views.weak, views.count)))
    return groups


def _planning(groups: list[_Group], listing: Listing, plan: Callable[..., Plan]) -> Callable[[], object]:
    return lambda: [_plan(listing, step, plan) for step in range(len(groups) // 2)]


def _counted(groups: list[_Group], work: Callable[[], object]) -> Callable[[], int]:
    """Returns ``work``, which does all of the groups' images, as a contestant's round."""

    def run() -> int:
        work()
        return sum(len(group.draws.index) for group in groups)

    return run


def _of_ffcv(name: str, groups: list[_Group], corpus: Corpus, opened: ExitStack) -> dict[str, Contestant]:
    """Returns the stages of ffcv, from JPEGs or from planes.

    In the pipeline a view is cut from an image that is still in the processor's cache, which a stage by itself would
    not meet: so "crop" is decoding and cutting, "strong" is all three, and ``_milliseconds`` takes the differences.
    """
    listing, path = corpus.listing, beton(corpus.root, corpus.threads, planes=name == PLANES)
    file, table = open_beton(path), operation_tables(UNLABELED_VIEWS.size, UNLABELED_VIEWS.size)
    stored = [file.stored.at(group.draws.index) for group in groups]
    cut = [
        np.zeros((len(g.planned.crop), len(g.draws.index), g.planned.size, g.planned.size, 3), np.uint8) for g in groups
    ]

    def read() -> None:
        for of_group in stored:
            for offset, length in zip(of_group.offset.tolist(), of_group.length.tolist(), strict=True):
                file.content[offset : offset + length].copy()

    def decode_and(plans: list[Plan]) -> Callable[[], None]:
        def work() -> None:
            for planned, of_group, views in zip(plans, stored, cut, strict=True):
                count = len(of_group.kind)
                failed = np.zeros(count, np.bool_)
                decode_and_cut(file.content, of_group, planned, table, 0, count, views, failed)
                assert not failed.any()

        return work

    works: dict[str, Callable[[], object]] = {
        "read": read,
        "plan": _planning(groups, listing, compiled_policy.plan),
        "crop": decode_and([group.plain for group in groups]),
        "strong": decode_and([group.planned for group in groups]),
    }
    if name == PLANES:
        whole = [np.stack([of.height * 0, of.height * 0, of.height, of.width], -1)[None] for of in stored]
        works[CONVERT] = converting(file.content, stored, [group.plain.crop for group in groups])
        works[_WHOLE_PICTURES] = converting(file.content, stored, whole)
    else:
        paths = [listing.path(index) for group in groups for index in group.draws.index.tolist()]
        decoding = DecodeOnly(paths, threads=1)
        opened.callback(decoding.close)
        works["decode"] = decoding.epoch
    return {stage: Contestant(stage, _counted(groups, work)) for stage, work in works.items()}


def _of_torchvision(groups: list[_Group], listing: Listing) -> dict[str, Contestant]:
    samples = [(group, at) for group in groups for at in range(len(group.draws.index))]
    paths = [listing.path(int(group.draws.index[at])) for group, at in samples]
    encoded = [path.read_bytes() for path in paths]
    images = [pillow.decode(path) for path in paths]
    planned: list[tuple[Image.Image, list[tuple[int, int]]]] = []  # strong crops, and what to do with them
    for (group, at), image in zip(samples, images, strict=True):
        for view, cut in list(enumerate(pillow.execute(image, group.plain, at)))[group.strong]:
            drawn = zip(group.planned.op[view, at].tolist(), group.planned.level[view, at].tolist(), strict=True)
            planned.append((Image.fromarray(cut), list(drawn)))

    def decode() -> None:
        for jpeg in encoded:
            Image.open(io.BytesIO(jpeg)).convert("RGB")

    def crop() -> None:
        for (group, at), image in zip(samples, images, strict=True):
            pillow.execute(image, group.plain, at)

    def augment() -> None:
        for cut, drawn in planned:
            for op, level in drawn:
                cut = pillow.apply(Op(op), level, cut)

    return {
        "read": Contestant("read", _counted(groups, lambda: [path.read_bytes() for path in paths])),
        "decode": Contestant("decode", _counted(groups, decode)),
        "plan": Contestant("plan", _counted(groups, _planning(groups, listing, policy.plan))),
        "crop": Contestant("crop", _counted(groups, crop)),
        "strong": Contestant("strong", _counted(groups, augment)),
    }
