"""How a source works, not what it yields: changing any of these changes speed, never the samples or their order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipelines.samples.bad_files import BadFiles


@dataclass(frozen=True)
class SourceOptions:
    """Handed to every source as a whole; each reads what concerns it."""

    device: torch.device = torch.device("cpu")
    """Where the finished views are to lie."""
    threads: int = 2
    """CPU threads of this source."""
    beton: Path | None = None
    """ffcv: the converted file of the listing (tools/convert_imagenet_to_ffcv.py)."""
    cache: Literal["auto", "page", "memory"] = "auto"
    """ffcv: what keeps the file's bytes, the system's page cache or a copy of each process's own, read in background;
    auto: a copy, where those of all ``processes`` take at most half of the available memory."""
    processes: int = 1
    """ffcv: processes on this machine that open the same file."""
    bad_files: BadFiles | None = None
    """Where a source notes the files that it cannot decode and replaces; None: the first one is an error."""
    prefetch: int = 2
    """dali, ffcv: batches that the source itself prepares ahead."""
    strong_on: Literal["auto", "source", "device"] = "auto"
    """ffcv: who applies RandAugment to the strong views, its threads or the device that the views are copied to; auto:
    the device where it is a GPU. The same bytes. dali augments where its pixels lie, torchvision at the source."""
    dali_cut: Literal["auto", "dali", "cpu"] = "auto"
    """dali: who cuts the views, its own operators or our CPU executor, which gives Pillow's bytes and is several times
    faster on a CPU; auto: its own on a GPU."""
    dali_hw_decoder_load: float = 0.65
    """dali on a GPU: share of the images that go to the hardware JPEG decoder, where the GPU has one."""
    dali_preallocate_mb: int = 64
    """dali on a GPU: decoder memory allocated up front, MiB per thread, so that none is allocated while training."""

    @property
    def dali_cuts(self) -> bool:
        """Whether DALI cuts the views; otherwise it only decodes, on the CPU."""
        return self.device.type == "cuda" if self.dali_cut == "auto" else self.dali_cut == "dali"

    @property
    def strong_left_to_device(self) -> bool:
        """Whether a source that has the choice leaves RandAugment to the device."""
        return self.device.type == "cuda" if self.strong_on == "auto" else self.strong_on == "device"
