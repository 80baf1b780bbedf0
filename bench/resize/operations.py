"""RandAugment's operations one by one, ours and Pillow's."""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.measure import Contestant, Series, measure
from bench.report import Section, ratio
from pipelines.augment import ops, pillow
from pipelines.augment.operation_tables import operation_tables
from pipelines.augment.ops import Op
from pipelines.augment.randaugment import augment


def section(views: list[NDArray[np.uint8]], rounds: int) -> Section:
    """Measures the microseconds of each operation on finished views, ours and Pillow's, levels and signs in turn."""
    levels = [*range(1, ops.LEVELS + 1), *range(-ops.LEVELS, 0)]
    pictures = [Image.fromarray(view) for view in views]
    table = operation_tables(*views[0].shape[:2])
    out, spare = np.empty_like(views[0]), np.empty_like(views[0])

    def ours(op: Op) -> int:
        which, level = np.array([op], np.uint8), np.empty(1, np.int8)
        for number, view in enumerate(views):
            np.copyto(out, view)  # ours works in place, Pillow's makes a picture
            level[0] = levels[number % len(levels)]
            augment(out, which, level, table, spare)
        return len(views)

    def theirs(op: Op) -> int:
        for number, picture in enumerate(pictures):
            pillow.apply(op, levels[number % len(levels)], picture)
        return len(pictures)

    makers = {"ours": ours, "Pillow": theirs}
    contestants = [Contestant(f"{op.name}, {by}", partial(make, op)) for op in Op for by, make in makers.items()]
    measured = measure(contestants, unit="views/s", rounds=rounds)
    rows: list[tuple[str, ...]] = [("operation", "ours, µs a view", "Pillow, µs a view", "rate against Pillow")]
    for op in Op:
        mine, its = measured[f"{op.name}, ours"], measured[f"{op.name}, Pillow"]
        rows.append((op.name, microseconds(mine), microseconds(its), ratio(mine, its, False)))
    note = (
        "One thread, 224 × 224 views, all levels and signs in turn; ours with a copy of the view, because it works in "
        "place. Both give the same bytes (python -m bench parity). Pillow's SolarizeAdd adds with NumPy, and its "
        "Identity does nothing."
    )
    return Section("RandAugment, operation by operation", tuple(rows), note, {"measurement": measured})


def microseconds(series: Series) -> str:
    """Returns the median time of one picture, in µs."""
    return f"{1e6 / series.rate.median:.1f}"
