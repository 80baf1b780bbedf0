"""What each contestant reads: bytes an image, and megabytes a second at the rate that it was measured at."""

import numpy as np

from bench import corpus as corpora
from bench.four_views import PLANES, beton
from bench.loader.bars import FFCV_LOADER, LEFT
from bench.loader.further import Corpus
from bench.measure import Measurement
from bench.report import Section
from pipelines.beton.reader import open_beton

_NOTE = "From the page cache here. At a GPU's rate the disk, or the memory that holds the file, must deliver as much."


def section(corpus: Corpus, measured: Measurement) -> Section:
    """Returns a row for each contestant."""
    files = corpora.mean_bytes(corpus.root)
    rows: list[tuple[str, ...]] = [("", "kB an image", "images/s", "MB/s")]
    for series in measured.series:
        size = files
        if series.name in ("ffcv", LEFT, FFCV_LOADER, PLANES):
            path = beton(corpus.root, corpus.threads, planes=series.name == PLANES)
            size = float(np.mean(open_beton(path).stored.length))
        rate = series.rate.median
        rows.append((series.name, f"{size / 1000:.1f}", f"{rate:,.0f}", f"{size * rate / 1e6:,.0f}"))
    return Section("What is read", tuple(rows), _NOTE)
