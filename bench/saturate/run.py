"""Says how many GPUs of a kind this host could keep busy, before they are bought.

One process for each emulated accelerator opens the real pipeline with its share of the cores; its step sleeps as long
as the device's takes, and after each step all ranks meet. Where a host has too few cores for one device, --scale 0.25
slows the device down to a quarter, and --largest searches for the scale.
"""

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import STEP, add_corpus, add_images, add_out, add_quick, cores, positive
from pipelines import console
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.report import Report
    from bench.saturate.account import Trial
    from bench.saturate.rank import RankSetting

PIPELINES = ("torchvision", "dali", "ffcv", "planes")
_QUICK_ACCELERATORS, _QUICK_STEPS, _QUICK_WITHIN = 2, 20, 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench saturate``."""
    parser.add_argument("--accelerators", type=positive, default=8, metavar="N", help="1, 2, 4 … up to so many")
    parser.add_argument("--device", default="h100", metavar="NAME", help="a100-pytorch, a100 or h100")
    parser.add_argument("--step-ms", type=float, metavar="MS", help="a step's milliseconds, instead of --device")
    parser.add_argument("--scale", type=float, default=1.0, metavar="SHARE", help="of the device's speed, such as 0.25")
    parser.add_argument("--largest", action="store_true", help="find the fastest device that is kept busy for 98 %%")
    parser.add_argument("--pipelines", nargs="+", choices=PIPELINES, default=["ffcv", "planes"], metavar="NAME")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="data root; without it the bench's own images")
    parser.add_argument(
        "--steps", type=positive, default=60, metavar="N", help="counted steps of each rank, after half as many"
    )
    add_images(parser)
    add_quick(parser)
    add_out(parser)
    add_corpus(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints the table, and returns 0."""
    from bench import environment, samples
    from bench.plan.devices import named
    from bench.report import publish
    from bench.saturate import account

    name, seconds, source = named(arguments.device, arguments.step_ms)
    if not 0 < arguments.scale <= 1:
        raise UserError(f"--scale must be a share above 0, at most 1 (got {arguments.scale:g}).")
    if arguments.largest and arguments.scale != 1:
        raise UserError(f"--largest searches for the scale: leave out --scale {arguments.scale:g}.")
    if seconds <= 0:
        raise UserError(f"--step-ms must be above 0 (got {arguments.step_ms:g}).")
    made = environment.record(arguments.data)
    if arguments.quick:
        arguments.accelerators = min(arguments.accelerators, 1 if arguments.largest else _QUICK_ACCELERATORS)
        arguments.steps = min(arguments.steps, _QUICK_STEPS)
    with ExitStack() as opened:
        root = samples.root_of(arguments.data, arguments.corpus, arguments.images, opened)
        if arguments.largest:
            publish(_largest(arguments, root, (name, seconds, source), made), arguments.out)
            return 0
        trials, not_measured = _trials(arguments, root, seconds / arguments.scale)
    if not trials:
        raise UserError("No pipeline can be opened: " + "; ".join(not_measured.values()))
    device = (name, seconds / arguments.scale, source)
    publish(account.report(arguments, device, trials, not_measured, made.ended()), arguments.out)
    return 0


def _trials(arguments: argparse.Namespace, root: Path, step: float) -> "tuple[list[Trial], dict[str, str]]":
    """Returns what was measured, and pipeline → why it, or its first pass from the disk, was not."""
    from bench.four_views import PLANES
    from bench.loader.cores import counts
    from bench.saturate.account import Trial
    from bench.saturate.processes import measure

    trials: list[Trial] = []
    not_measured: dict[str, str] = {}
    for name in arguments.pipelines:
        pipeline = PLANES if name == "planes" else name
        try:
            for ranks in counts(arguments.accelerators):
                console.say(f"{pipeline}: {ranks} × {1000 * step:.1f} ms", error=True)
                trials.append(Trial(pipeline, measure(_setting(arguments, pipeline, root, ranks, step))))
            cold = _cold(_setting(arguments, pipeline, root, 1, step), arguments.images)
            trials.append(Trial(pipeline, measure(cold), cold=True))
        except UserError as error:
            not_measured[pipeline] = str(error)
    return trials, not_measured


def _largest(
    arguments: argparse.Namespace, root: Path, device: tuple[str, float, str], made: "Environment"
) -> "Report":
    """Returns the report of the largest device for each pipeline and number of accelerators, up to one a core."""
    from bench.four_views import PLANES
    from bench.loader.cores import counts
    from bench.saturate import largest, search
    from bench.saturate.processes import measure

    found: list[search.Largest] = []
    not_measured: dict[str, str] = {}
    within = _QUICK_WITHIN if arguments.quick else search.WITHIN
    for name in arguments.pipelines:
        pipeline = PLANES if name == "planes" else name
        try:
            for ranks in counts(min(arguments.accelerators, cores())):
                console.say(f"{pipeline}: the largest of {ranks}", error=True)
                setting = _setting(arguments, pipeline, root, ranks)
                found.append(search.largest(setting, measure, within))
        except UserError as error:
            not_measured[pipeline] = str(error)
    if not found:
        raise UserError("No pipeline can be measured: " + "; ".join(not_measured.values()))
    return largest.report(arguments, device, found, not_measured, made.ended())


def _setting(arguments: argparse.Namespace, pipeline: str, root: Path, ranks: int, step: float = 0.0) -> "RankSetting":
    """Returns what so many ranks do; uncounted steps come first, in which a loader can get its batches ahead.

    One that is a tenth faster than the step gains a batch in ten steps, and is to be two or three ahead.
    """
    from bench.saturate.rank import RankSetting, cores_of_each

    return RankSetting(
        pipeline, root, ranks, cores_of_each(ranks), step, arguments.steps, warm_up=max(4, arguments.steps // 2)
    )


def _cold(setting: "RankSetting", images: int) -> "RankSetting":
    """Makes the next reading of a pipeline's files come from the disk; returns the setting for one pass over them.

    Raises DataError where the files stay in memory all the same.
    """
    from bench.four_views import PLANES, beton
    from bench.loader import page_cache

    files = [path.resolve() for path in (setting.root / "train").glob("*/*")]
    if setting.pipeline.startswith("ffcv"):
        files = [beton(setting.root, setting.threads, planes=setting.pipeline == PLANES)]
    page_cache.drop(files)
    return replace(setting, warm_up=0, steps=max(1, images // STEP))
