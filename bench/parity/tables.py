"""The tables of differences from Pillow."""

from bench.parity.compare import Difference
from bench.report import Section


def pipelines_section(rows: list[Difference]) -> Section:
    """Returns a row for each pipeline and kind of view."""
    header = ("", "views", "largest", "3 px from the edge", "mean", "bytes that differ", "bar", "")
    cells = [
        (
            *(row.what, str(row.views), str(row.largest), str(row.inner), f"{row.mean:.4f}", f"{row.differing:.2%}"),
            *(row.bar, "met" if row.met else "BROKEN"),
        )
        for row in rows
    ]
    return Section("Pipelines against Pillow, grey levels", (header, *cells))


def executors_section(rows: list[Difference]) -> Section:
    """Returns a row for each operation, two columns for each executor."""
    executors = list(dict.fromkeys(row.what.split(": ")[0] for row in rows))
    operations = list(dict.fromkeys(row.what.split(": ")[1] for row in rows))
    found = {row.what: row for row in rows}
    header = ("operation", *(heading for name in executors for heading in (f"{name}: largest", "mean")), "views each")
    cells = []
    for operation in operations:
        of = [found[f"{name}: {operation}"] for name in executors]
        cells.append(
            (operation, *(cell for row in of for cell in (str(row.largest), f"{row.mean:g}")), str(of[0].views))
        )
    return Section("Operations against Pillow on equal crops, all levels and signs, grey levels", (header, *cells))
