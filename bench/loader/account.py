"""The loader's report: the main table, the further tables that were asked for, and the bars."""

import argparse
from collections.abc import Sequence

from tqdm import tqdm

from bench import corpus as corpora
from bench.arguments import LABELED, STEP, UNLABELED, command
from bench.environment import Environment
from bench.four_views import LABELED_VIEWS, PLANES, UNLABELED_VIEWS, VIEWS
from bench.loader import bars, cores, further, reading, stages
from bench.loader.bars import DECODE_LIMIT, FFCV_LOADER, LEFT, PUBLISHED, STOCK
from bench.loader.further import Corpus, FurtherTable
from bench.measure import Measurement
from bench.report import Rates, Reference, Report
from pipelines import NAMES
from pipelines.errors import UserError
from pipelines.names import readable
from pipelines.samples.listing import Listing


def further_tables(wanted: Sequence[str], corpus: Corpus) -> tuple[list[FurtherTable], dict[str, str]]:
    """Measures the further tables and returns them, and table → why it cannot be measured here."""
    tables = {
        "stages": stages.table,
        "threads-scaling": cores.scaling,
        "cold": further.cold,
        "ten-times": further.ten_times,
    }
    made: list[FurtherTable] = []
    failed: dict[str, str] = {}
    with tqdm(wanted, "further tables", unit=" tables", disable=None if wanted else True) as progress:
        for name in progress:
            progress.set_description(f"further tables: {name}")
            try:
                made.append(tables[name](corpus))
            except UserError as error:
                failed[name] = str(error)
    return made, failed


def report(
    arguments: argparse.Namespace,
    wanted: Sequence[str],
    corpus: Corpus,
    measured: Measurement,
    made: Environment,
    not_measured: dict[str, str],
    tables: Sequence[FurtherTable],
) -> Report:
    """Returns the whole report, the bars above the further tables."""
    views = {s.name: f"{s.rate.median * VIEWS / STEP:,.0f}" for s in measured.series if s.name != DECODE_LIMIT}
    references = (
        Reference("vs published style", PUBLISHED),
        Reference("of the decode limit", DECODE_LIMIT, percent=True),
    )
    decodes = {each.name: {PLANES: "0", FFCV_LOADER: "a view"}.get(each.name, "1") for each in measured.series}
    judged = [row for table in tables for row in table.judged]
    return Report(
        theme="loader",
        title="From JPEG files to finished views on the CPU",
        command=" ".join([_command(arguments), *(f"--{name}" for name in wanted)]),
        environment=made,
        settings={
            "images per round": arguments.images,
            **({"data": str(arguments.data)} if arguments.data else {}),
            "mean size": f"{corpora.mean_bytes(corpus.root) / 1000:.1f} kB",
            "threads": arguments.threads,
            "rounds of the further tables": arguments.part_rounds,
            "step": f"{LABELED} labeled × {LABELED_VIEWS.count} view + {UNLABELED} unlabeled × "
            f"{UNLABELED_VIEWS.count} views (2 weak, 2 strong) of 224 px",
        },
        rates=Rates(measured, references, {"views/s": views, "decodes per sample": decodes}),
        not_measured=not_measured,
        sections=(
            bars.section(measured, _planning(measured, corpus.listing), judged),
            reading.section(corpus, measured),
            *(table.section for table in tables),
        ),
        notes=(*impossible(measured), *_notes(arguments)),
    )


def impossible(measured: Measurement) -> list[str]:
    """Returns what is wrong with the rates: whatever delivers a JPEG's picture has to decode it first."""
    limit = measured[DECODE_LIMIT].rate.median
    return [
        f"NOT CREDIBLE: {each.name} is faster than decoding alone ({each.rate.median:,.0f} > {limit:,.0f} images/s)."
        for each in measured.series
        if each.rate.median > limit and each.name != PLANES
    ]


def _planning(measured: Measurement, listing: Listing) -> tuple[str, float]:
    """Returns the fastest of our pipelines, and the share that planning is of its time."""
    ours = [series for series in measured.series if series.name in NAMES]
    fastest = max(ours, key=lambda series: series.rate.median)
    return fastest.name, stages.planning_seconds(listing) * fastest.rate.median / STEP


def _images(arguments: argparse.Namespace) -> str:
    if arguments.data:
        return f"Images: a sample of {readable(arguments.data)}, as many of each class as there are."
    return (
        f"Corpus: {arguments.images} pieces of {len(corpora.PHOTOGRAPHS)} photographs, never scaled, at ImageNet's "
        "usual sizes; half 4:2:0, half 4:4:4."
    )


def _command(arguments: argparse.Namespace) -> str:
    names = ["images", "rounds", "threads", *(["data"] if arguments.data else [])]
    return command("loader", arguments, *names)


def _notes(arguments: argparse.Namespace) -> tuple[str, ...]:
    threads = arguments.threads
    return (
        "Each contestant decodes each sample once and cuts all its views from that picture, the published-style loader "
        "and DALI's stock graph too (by construction, not counted), but for two:",
        f"{PLANES}: the file holds the planes of each JPEG, decoded at conversion; what is left is to upsample chroma "
        "and to convert colours. So it may be faster than decoding alone.",
        f"{FFCV_LOADER}: RandomResizedCropRGBImageDecoder (fast DCT) and RandomHorizontalFlip for each view, over our "
        ".beton; it has no RandAugment, so its strong views are plain. In a process of its own.",
        "Checked: our pipelines' views of one whole epoch against the torchvision reference, before timing; every "
        "round of every contestant, that each image of the corpus was loaded once.",
        f"Published style: two DataLoaders (labeled, unlabeled) with {threads} worker processes each, Pillow, "
        "float32 NCHW, normalised on the CPU. Ours: uint8 NHWC, normalised later, inside the model.",
        f"{STOCK}: readers.file, decoders.image, and per view random_resized_crop and flip, for strong ones "
        "rand_augment(n=2, m=10) with its own operations; uint8 NHWC as ours.",
        f"{LEFT}: all of the loader's work up to the copy (strong views cut and flipped, their parameters ready), "
        "none of the device's.",
        "A contestant's time ends when its process is quiet, so that batches made ahead are paid for.",
        f"Decode-only limit: tjDecompress2, flags 0, {threads} threads, file bytes and output already in memory.",
        "All files are in the page cache after the warm-up round.",
        _images(arguments),
    )
