"""What became of a file that was converted: the status that records, list of files and summary state."""

from enum import IntEnum

import numpy as np

from pipelines.beton.format import JPEG, PLANES, RAW


class Status(IntEnum):
    """What became of a file: what is in the .beton for it. The number is stored in the records."""

    KEPT = 0  # a JPEG's own bytes
    ENCODED = 1  # a new JPEG
    PIXELS = 2
    SKIPPED = 3  # nothing: it could not be read
    GREY_PLANE = 4  # this and what follows: planes, in the order of format.PLANES
    FULL_PLANES = 5
    HALF_COLUMNS_PLANES = 6
    QUARTER_PLANES = 7
    HALF_ROWS_PLANES = 8

    @property
    def words(self) -> str:
        """The status as messages, sidecar, journal and list of files have it, in every version."""
        return _WORDS[self]

    @classmethod
    def of_planes(cls, kind: int) -> "Status":
        """Returns the status of a file that is stored as planes of a kind."""
        return cls(KINDS.tolist().index(kind, cls.GREY_PLANE))


_WORDS = (
    "kept as it is",
    "encoded as JPEG",
    "stored as pixels",
    "left out",
    *(f"stored as planes, {subsampling}" for subsampling in PLANES),
)
KINDS = np.array([JPEG, JPEG, RAW, JPEG, *PLANES.values()], np.uint8)
"""Status → what the stored bytes are, one of format's kinds; that of a skipped file means nothing."""
