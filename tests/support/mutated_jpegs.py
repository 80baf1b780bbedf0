"""JPEGs with a few damaged bytes each, drawn from a seed."""

import io
import random
from collections.abc import Iterator
from typing import Any

from tests.support.image_kinds import SIDE
from tests.support.images import photo

_KINDS: list[dict[str, Any]] = [
    {"quality": 90},
    {"quality": 75, "subsampling": "4:4:4", "optimize": True},
    {"quality": 85, "progressive": True},
    {"quality": 80, "restart_marker_rows": 1},
    {"quality": 95, "subsampling": "4:2:2"},
    {"quality": 60, "grey": True},
]

_MARKERS = b"\xc0\xc4\xd0\xd8\xd9\xda\xdb\xdd\xe1\xfe"


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Yields ``count`` JPEGs of several kinds with one to three changes each."""
    draw = random.Random(seed)
    for number in range(count):
        kind = dict(_KINDS[number % len(_KINDS)])
        image = photo(SIDE, SIDE, number)
        buffer = io.BytesIO()
        (image.convert("L") if kind.pop("grey", False) else image).save(buffer, "JPEG", **kind)
        content = bytearray(buffer.getvalue())
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            _mutate(content, draw)
        yield bytes(content)


def _mutate(content: bytearray, draw: random.Random) -> None:
    """Makes one change: a bit, a byte, an end cut off with or without a new one, a marker put in, a stretch taken out
    or doubled."""
    scan = content.find(b"\xff\xda") + 14
    at = (
        draw.randrange(2, len(content))
        if draw.random() < 0.3
        else draw.randrange(min(scan, len(content) - 1), len(content))
    )
    until = min(len(content), at + draw.choice((1, 2, 10, 100)))
    match draw.randrange(8):
        case 0:
            content[at] ^= 1 << draw.randrange(8)
        case 1:
            content[at] = draw.randrange(256)
        case 2:
            del content[at:]
        case 3:
            content[at:] = b"\xff\xd9"
        case 4:
            content[at:at] = bytes((0xFF, draw.randrange(256)))
        case 5:
            content[at : at + 2] = bytes(
                (0xFF, draw.choice((0xC0, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1, 0xFE)))
            )
        case 6:
            del content[at:until]
        case 7:
            content[at:at] = content[at:until]
