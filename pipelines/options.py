"""How a source works, not what it yields: changing any of these changes speed, never the samples or their order."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.bad_files import BadFiles


@dataclass(frozen=True)
class SourceOptions:
    """Handed to every source as a whole; each reads what concerns it."""

    device: torch.device = torch.device("cpu")
    """Where the finished views are to lie."""
    threads: int = 2
    """CPU threads of this source."""
    beton: Path | None = None
    """ffcv: the converted file of the listing (tools/convert_imagenet_to_ffcv.py)."""
    bad_files: BadFiles | None = None
    """Where a source notes the files that it cannot decode and replaces; None: the first one is an error."""
    prefetch: int = 2
    """dali, ffcv: batches that the source itself prepares ahead."""
    dali_hw_decoder_load: float = 0.65
    """dali on a GPU: share of the images that go to the hardware JPEG decoder, where the GPU has one."""
    dali_preallocate_mb: int = 64
    """dali on a GPU: decoder memory allocated up front, MiB per thread, so that none is allocated while training."""
