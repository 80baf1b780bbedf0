"""Which samples a file is to hold: a subset's, or those of one of several machines."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.samples.index_file import read_index_file
from pipelines.samples.listing import Listing


def part_path(beton: Path, shard: str) -> Path:
    """Returns where a part lies; without a shard, the file itself."""
    return beton.with_name(f"{beton.name}.part-{shard.replace('/', '-of-')}") if shard else beton


def indices_of(listing: Listing, subset: Path | None, shard: str) -> NDArray[np.int64]:
    """Returns sorted indices: consecutive ones, so that a machine reads few folders."""
    chosen = listing.indices if subset is None else np.sort(read_index_file(subset, listing).index)
    if not shard:
        return chosen
    part, parts = map(int, shard.split("/"))
    if parts > len(chosen):
        raise DataError(f"There are fewer images ({len(chosen)}) than shards: --shard {shard}. Use fewer.")
    return chosen[len(chosen) * (part - 1) // parts : len(chosen) * part // parts]
