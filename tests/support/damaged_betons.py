"""A small .beton of every kind of sample, and copies with damaged tables or samples, read as training reads them."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.beton import writer
from pipelines.beton.convert import convert
from pipelines.beton.format import ALLOC_TABLE_TYPE, HEADER, LONGEST_START, layout_of, rows_and_table
from pipelines.beton.one_image import Encoding
from pipelines.beton.reader import open_beton
from pipelines.errors import DataError
from pipelines.order import Stream, TrainingOrder
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing, list_images
from pipelines.sources.ffcv_source import FfcvSource
from pipelines.sources.options import FfcvOptions, Resources
from pipelines.views import TrainingViews
from tests.support.image_kinds import image_kinds
from tests.support.images import photo
from tests.support.planes_of_sizes import jpeg

_NUMBERS = (0, 1, 2, 255, 65535, 65536, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""What damage writes into a table's cell besides anything."""


def of_every_kind(folder: Path, mode: str) -> tuple[Listing, Path]:
    """Returns a listing and its .beton: JPEGs, pixels and, in the mode planes, planes of every subsampling."""
    images = folder / "images/class"
    images.mkdir(parents=True)
    for number, subsampling in enumerate(("4:2:0", "4:4:4", "4:2:2", "4:4:0", "grey")):
        (images / f"{number}.jpg").write_bytes(jpeg(29 + number, 40 - number, subsampling))
    photo(21, 33, 5).save(images / "5.png")
    (images / "6.jpg").write_bytes(image_kinds()["JPEG RGB"])
    listing, beton = list_images(folder / "images"), folder / "whole.beton"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "PAGE", 1 << 15)  # less padding, so that damage hits what is read
        convert(listing, beton, Encoding(mode=mode), 1)
    assert len(set(open_beton(beton).stored.kind.tolist())) == (7 if mode == "planes" else 2)
    return listing, beton


def count_refused(listing: Listing, beton: Path, copies: int, seed: int) -> int:
    """Trains one epoch on each damaged copy; returns how many were refused as a whole.

    The others give views of the right shape; samples that cannot be decoded are replaced. Whatever is raised beside
    DataError passes through. There is no sidecar, which would refuse all damaged tables.
    """
    order = TrainingOrder(
        listing.indices, seed=0, stream=Stream.UNLABELED, batch=len(listing), groups=1, steps=1, continuous=False
    )
    damaged, refused = beton.with_name("damaged.beton"), 0
    for content in _copies(beton.read_bytes(), copies, seed):
        damaged.unlink(missing_ok=True)
        damaged.write_bytes(content)
        resources = Resources(threads=1, beton=damaged, bad_files=BadFiles(listing, 1.0))
        source = None
        try:
            with warnings.catch_warnings(action="ignore"):
                source = FfcvSource(listing, order, TrainingViews(8, weak=1), resources, FfcvOptions(cache="page"))
                (batch,) = source
            assert batch.pixels.shape == (1, len(listing), 8, 8, 3)
        except DataError as error:
            refused += bool(str(error))
        finally:
            if source is not None:
                source.close()
    return refused


def _copies(whole: bytes, copies: int, seed: int) -> Iterator[bytes]:
    """Yields copies with one to three numbers written over, in a cell or anywhere, or with their end cut off."""
    draw, places = random.Random(seed), _Places(whole)
    for _ in range(copies):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 3))):
            number = draw.choice((*_NUMBERS, draw.getrandbits(64), draw.getrandbits(16))).to_bytes(8, "little")
            if draw.random() < 0.1:
                del content[draw.randrange(len(content)) :]
            at, longest = places.drawn(draw)
            cell = number[: draw.choice((1, 2, longest))]
            content[at : at + len(cell)] = cell[: max(0, len(content) - at)]
        yield bytes(content)


class _Places:
    """Where damage can hit a file."""

    def __init__(self, whole: bytes) -> None:
        self._layout, (self._rows, self._table) = layout_of(whole[:LONGEST_START]), rows_and_table(whole)
        self._samples = self._layout.start + self._rows * self._layout.metadata.itemsize
        self._used = np.flatnonzero(np.frombuffer(whole, np.uint8))  # not padding

    def drawn(self, draw: random.Random) -> tuple[int, int]:
        """Returns a byte, and how many bytes at most to write over there."""
        match draw.randrange(6):
            case 0:
                return draw.randrange(HEADER.itemsize), 8
            case 1:
                return draw.randrange(self._layout.start), 1
            case 2 | 3:
                row, columns = draw.randrange(self._rows), self._layout.metadata
                offset = draw.choice([columns.fields[name][1] for name in columns.names])
                return self._layout.start + row * columns.itemsize + offset + draw.choice((0, 0, 2, 4, 8)), 8
            case 4:
                return self._table + draw.randrange(self._rows) * ALLOC_TABLE_TYPE.itemsize + draw.choice((8, 16)), 8
            case _:
                return int(self._used[draw.randrange(len(self._used))]), 8
