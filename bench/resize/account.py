"""The resize bench's report: a table for each size, and whether ours is the fastest exact way."""

import argparse
from collections.abc import Sequence

from bench.arguments import command
from bench.environment import Environment
from bench.measure import Measurement
from bench.report import Rates, Reference, Report, Section, ratio
from bench.report.bars import verdict
from bench.resize import kernels
from bench.resize.compare import FromPillow
from bench.resize.kernels import OURS, PILLOW
from bench.resize.operations import microseconds
from bench.yardsticks.pillow_simd import version


def _cells(measured: Measurement, differences: dict[str, FromPillow]) -> dict[str, dict[str, str]]:
    """Returns heading → way → cell."""
    return {
        "µs a crop": {series.name: microseconds(series) for series in measured.series},
        "largest difference": {name: str(each.largest) for name, each in differences.items()},
        "mean": {name: f"{each.mean:.3g}" for name, each in differences.items()},
        "Pillow's bytes": {name: "yes" if each.exact else "no" for name, each in differences.items()},
    }


def size_section(size: int, measured: Measurement, differences: dict[str, FromPillow]) -> Section:
    """Returns the table of a further size."""
    columns = _cells(measured, differences)
    rows: list[tuple[str, ...]] = [("", "crops/s", "rate against Pillow", *columns)]
    for series in measured.series:
        rate, name = series.rate, series.name
        shown = f"{rate.median:,.0f} ({rate.low:,.0f}–{rate.high:,.0f})"
        rows.append((name, shown, ratio(series, measured[PILLOW], False), *(c[name] for c in columns.values())))
    return Section(f"Crops of {size} × {size}", tuple(rows), raw={"measurement": measured})


def bars_section(measured: dict[int, Measurement], differences: dict[int, dict[str, FromPillow]]) -> Section:
    """Returns whether what the pipelines use is the fastest of the ways that give Pillow's bytes."""
    rows: list[tuple[str, ...]] = [("", "ours gives Pillow's bytes", "fastest way that does", "ours is the fastest")]
    for size, of in measured.items():
        exact = [series for series in of.series if differences[size][series.name].exact]
        fastest = max(exact, key=lambda series: series.rate.median).name
        words = verdict(differences[size][OURS].exact), fastest, verdict(fastest == OURS)
        rows.append((f"{size} × {size}", *words))
    return Section("Bars", tuple(rows), "The fastest way that gives Pillow's bytes is kept in the pipelines.")


def report(
    arguments: argparse.Namespace,
    size: int,
    measured: Measurement,
    differences: dict[str, FromPillow],
    made: Environment,
    sections: Sequence[Section],
) -> Report:
    """Returns the report, whose main table is that of ``size``."""
    simd = arguments.pillow_simd
    words = [command("resize", arguments, "images", "crops", "rounds"), *(["--pillow-simd FOLDER"] if simd else [])]
    return Report(
        theme="resize",
        title=f"Crops of {size} × {size} from decoded images, one thread",
        command=" ".join(words),
        environment=made,
        settings={
            "images": arguments.images,
            "crops of each": arguments.crops,
            **({"Pillow-SIMD": version(simd)} if simd else {}),
        },
        rates=Rates(measured, (Reference("rate against Pillow", PILLOW),), _cells(measured, differences)),
        not_measured=kernels.not_measured(simd=simd is not None),
        sections=tuple(sections),
        notes=(
            "FromPillows: grey levels from Pillow's crop().resize(BILINEAR), which torchvision's RandomResizedCrop "
            "calls, over all crops and bytes.",
            "Crops: the random resized crops of the training views (area 0.08 to 1 of the image, ratio 3/4 to 4/3).",
            "Pillow's resize(box=…) saves the copy, but filters over pixels outside the box, too.",
            "torch's kernel is the one that torchvision resizes uint8 tensors with.",
            "cv2's INTER_LINEAR reads four pixels whatever the scale: where a crop shrinks, another picture.",
            "torch and cv2 are held to one thread; ours and cv2 write into memory allocated once. Pillow-SIMD, where "
            "it is measured, runs in a process of its own.",
        ),
    )
