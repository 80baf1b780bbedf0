"""Converts a data folder as the command does, and reads the result with FFCV's own code where that is installed."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.beton import session
from pipelines.samples.listing import Listing
from tools import convert_imagenet_to_ffcv as converter


def convert(data: Path, *arguments: str) -> int:
    return converter.main(["--data", str(data), *arguments])


def convert_interrupted(monkeypatch: pytest.MonkeyPatch, data: Path, *arguments: str) -> int:
    """Converts until Ctrl-C comes after some commits."""
    add, calls = session.Session.add, iter(range(100))

    def interrupted(self: session.Session, images: object) -> None:
        if next(calls) == 2:
            self._wait()
            raise KeyboardInterrupt
        add(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(session, "COMMIT_BYTES", 1)
        patch.setattr(session.Session, "add", interrupted)
        patch.setattr("pipelines.beton.convert._TASK", 3)
        return convert(data, *arguments)


def stored(beton: Path) -> tuple[np.ndarray, list[bytes]]:
    """FFCV's own view of a file: its metadata, and each sample's bytes by row. Skips the test without ffcv."""
    pytest.importorskip("ffcv", reason="read with ffcv itself: pip install -e '.[ffcv]'")
    from ffcv.reader import Reader

    reader = Reader(str(beton))
    size_at = dict(zip(reader.alloc_table["ptr"].tolist(), reader.alloc_table["size"].tolist(), strict=True))
    content = beton.read_bytes()
    starts = reader.metadata["f0"]["data_ptr"].tolist()
    return reader.metadata, [content[start : start + size_at[start]] for start in starts]


def originals(listing: Listing) -> list[bytes]:
    return [listing.path(index).read_bytes() for index in range(len(listing))]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
