"""Small charts as SVG text, made in milliseconds: lines, grouped bars with a reference, and a matrix of shares.

A run's report is drawn while the run waits for it; matplotlib would take a second or more. Names may hold anything.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from pipelines.names import readable

BLUE, RED, GREY = "#4c72b0", "#c44e52", "#7f7f7f"
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 34
_STYLE = (
    "<style>text{font:11px sans-serif;fill:#1c1e21}.title{font-size:12px}.ground{fill:#fff}.grid{stroke:#d9dde3}"
    ".ink{stroke:#000;fill:#000}@media(prefers-color-scheme:dark){text{fill:#e6e8eb}.ground{fill:#17181b}"
    ".grid{stroke:#3a3d42}.ink{stroke:#fff;fill:#fff}}</style>"
)
"""The page's colours, light and dark: a picture in a page asks for them by itself."""
_MOST_POINTS = 400
Line = tuple[str, Sequence[tuple[float, float]]]
"""Colour, and points (x, y)."""


def lines(title: str, drawn: Mapping[str, Line], x_name: str, width: int = 900, height: int = 230) -> str:
    """Returns a chart of lines by what they are called; the y axis holds all finite values."""
    thinned = {name: (colour, _thinned(points)) for name, (colour, points) in drawn.items()}
    every = [point for _, points in thinned.values() for point in points] or [(0.0, 0.0)]
    x_axis, y_axis = _ticks([x for x, _ in every]), _ticks([y for _, y in every])
    frame = _Frame(x_axis, y_axis, width, height)
    parts = [*frame.grid(x_name)]
    for at, (name, (colour, points)) in enumerate(thinned.items()):
        spots = [f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points]
        if len(spots) == 1:
            x, y = spots[0].split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        parts.append(f'<polyline points="{" ".join(spots)}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts += _legend(at, name, colour, width)
    return _svg(title, parts, width, height)


def bars(
    title: str,
    names: Sequence[str],
    groups: Mapping[str, tuple[str, NDArray[np.float64]]],
    reference: NDArray[np.float64] | None,
    width: int = 900,
    height: int = 280,
) -> str:
    """Returns grouped bars over ``names`` in percent; ``reference``, where it is known, is a black line over each."""
    tops = [values for _, values in groups.values()] + ([] if reference is None else [reference])
    foot = 50 if len(names) <= 30 else 0
    frame = _Frame([0.0, float(len(names))], _ticks([0.0, *np.concatenate(tops).tolist()]), width, height, foot)
    parts = [*frame.grid("", with_x=False)]
    wide = 0.8 / len(groups)
    for at, (name, (colour, values)) in enumerate(groups.items()):
        for place, value in enumerate(values.tolist()):
            left, right = frame.x(place + 0.1 + at * wide), frame.x(place + 0.1 + (at + 1) * wide)
            size = f'width="{right - left:.2f}" height="{frame.y(0.0) - frame.y(value):.1f}"'
            parts.append(f'<rect x="{left:.2f}" y="{frame.y(value):.1f}" {size} fill="{colour}"/>')
        parts += _legend(at, name, colour, width)
    if reference is not None:
        for place, value in enumerate(reference.tolist()):
            ends = f'x1="{frame.x(place + 0.0):.2f}" x2="{frame.x(place + 1.0):.2f}"'
            parts.append(f'<line {ends} y1="{frame.y(value):.1f}" y2="{frame.y(value):.1f}" class="ink"/>')
        parts += _legend(len(groups), "true share", "", width)
    if foot:
        parts += [_slanted(name, frame.x(place + 0.5), height - foot - 20) for place, name in enumerate(names)]
    return _svg(title, parts, width, height)


def matrix(title: str, names: Sequence[str], shares: NDArray[np.float64]) -> str:
    """Returns a square of cells, [c, c] shares in percent: rows are true classes, columns what they are taken for."""
    side, margin = max(14, min(36, 720 // max(1, len(names)))), 130
    size = margin + side * len(names) + 10
    parts = []
    for row, cells in enumerate(shares.tolist()):
        for column, share in enumerate(cells):
            if share > 0:
                place = f'x="{margin + column * side}" y="{margin + row * side}"'
                hint = f"<title>{_text(names[row])} → {_text(names[column])}: {share:.1f} %</title>"
                cell = f'width="{side - 1}" height="{side - 1}" fill="{BLUE}" fill-opacity="{share / 100:.3f}"'
                parts.append(f"<rect {place} {cell}>{hint}</rect>")
    for at, name in enumerate(names):
        middle = margin + at * side + side / 2
        parts.append(f'<text x="{margin - 6}" y="{middle + 4}" text-anchor="end">{_text(_short(name))}</text>')
        turned = f'transform="translate({middle + 4},{margin - 6}) rotate(-60)"'
        parts.append(f"<text {turned}>{_text(_short(name))}</text>")
    return _svg(title, parts, size, size)


class _Frame:
    """Holds where values stand in a chart."""

    def __init__(self, x: Sequence[float], y: Sequence[float], width: int, height: int, foot: int = 0) -> None:
        self._x, self._y, self._width, self._height = x, y, width, height - foot

    def x(self, value: float) -> float:
        low, high = self._x[0], self._x[-1]
        return _LEFT + (value - low) / (high - low) * (self._width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y[0], self._y[-1]
        return self._height - _BOTTOM - (value - low) / (high - low) * (self._height - _TOP - _BOTTOM)

    def grid(self, x_name: str, *, with_x: bool = True) -> list[str]:
        """Returns the lines and numbers of the axes."""
        right, bottom = self._width - _RIGHT, self._height - _BOTTOM
        parts = []
        for value in self._y:
            at = self.y(value)
            parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value in self._x if with_x else ():
            parts.append(f'<text x="{self.x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<text x="{right}" y="{bottom + 29}" text-anchor="end">{_text(x_name)}</text>')
        return parts


def _ticks(values: Sequence[float]) -> list[float]:
    """Returns three to seven round numbers, equally far apart, around all finite values."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns finite points only, and of very many every n-th and the last."""
    finite = [point for point in points if all(map(math.isfinite, point))]
    every = max(1, len(finite) // _MOST_POINTS)
    return finite[::every] + (finite[-1:] if finite and (len(finite) - 1) % every else [])


def _legend(at: int, name: str, colour: str, width: int) -> list[str]:
    x, drawn = width - _RIGHT - 120 * (at + 1), f'fill="{colour}"' if colour else 'class="ink"'
    return [
        f'<rect x="{x}" y="{_TOP - 14}" width="10" height="10" {drawn}/>',
        f'<text x="{x + 14}" y="{_TOP - 5}">{_text(name)}</text>',
    ]


def _slanted(name: str, x: float, y: int) -> str:
    return f'<text text-anchor="end" transform="translate({x:.1f},{y}) rotate(-30)">{_text(_short(name))}</text>'


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _text(name: str) -> str:
    return escape(readable(name))


def _svg(title: str, parts: Sequence[str], width: int, height: int) -> str:
    heading = f'<text x="4" y="16" class="title">{_text(title)}</text>'
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    ground = '<rect width="100%" height="100%" class="ground"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{_STYLE}{ground}{heading}{"".join(parts)}</svg>'
