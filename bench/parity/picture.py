"""The same views from Pillow and from each pipeline side by side, for a person to look at."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.four_views import UNLABELED_VIEWS
from bench.parity.compare import Expected, Pixels
from bench.report import Picture
from bench.report.chart import png
from pipelines.augment.ops import Op
from pipelines.names import readable

_IMAGES = 3
_GAIN = 128
"""How much the differences are magnified."""


def draw(expected: Expected, pipelines: dict[str, Pixels]) -> Picture:
    """Draws a row for each view of the first images; Pillow's picture, each pipeline's, and how far they are apart."""
    count, views = min(_IMAGES, len(expected.listing)), UNLABELED_VIEWS.count
    shown = {"Pillow": expected.finished, **pipelines}
    far = max(pipelines, key=lambda name: _apart(pipelines[name], expected).mean())
    columns = len(shown) + 1
    figure = Figure(figsize=(1.9 * columns + 1.6, 1.95 * count * views + 0.6), dpi=90, layout="constrained")
    grid = figure.subplots(count * views, columns, squeeze=False)
    for row, axes in enumerate(grid):
        image, view = divmod(row, views)
        for cell, (name, pixels) in zip(axes, shown.items(), strict=False):
            _show(cell, pixels[image, view], name if row == 0 else "")
        apart = np.clip(_GAIN * _apart(pipelines[far], expected)[image, view], 0, 255).astype(np.uint8)
        _show(axes[-1], apart, f"|{far} - Pillow| × {_GAIN}" if row == 0 else "")
        axes[0].set_ylabel(_label(expected, image, view), rotation=0, ha="right", va="center", fontsize=8)
    return Picture("The four views of some images from each pipeline", png(figure))


def _apart(pixels: Pixels, expected: Expected) -> Pixels:
    return np.abs(pixels[:_IMAGES].astype(np.int16) - expected.finished[:_IMAGES])


def _show(axes: Axes, pixels: Pixels, title: str) -> None:
    axes.imshow(pixels, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(readable(title, "mathtext"), fontsize=10)


def _label(expected: Expected, image: int, view: int) -> str:
    """Returns which view it is; for a strong one, its operations and levels."""
    name = f"image {image}"
    weak = UNLABELED_VIEWS.weak
    if view < weak:
        return f"{name}\nweak {view + 1}"
    drawn = zip(expected.planned.op[view, image].tolist(), expected.planned.level[view, image].tolist(), strict=True)
    return "\n".join([name, f"strong {view - weak + 1}", *(f"{Op(op).name} {level}" for op, level in drawn)])
