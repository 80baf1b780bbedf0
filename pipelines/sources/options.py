"""What a user may choose about a source, and what a run hands to it: both change speed, never samples or their order.

Each pipeline that has options states them here once, in a dataclass named after it: type, bounds, default, meaning.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pipelines.samples.bad_files import BadFiles
from pipelines.sources.bounds import AtLeast, Within, check_bounds


@dataclass(frozen=True)
class Resources:
    """What a run hands to each of its sources, whatever the pipeline."""

    device: str = "cpu"
    """PyTorch's name of the device on which the finished views are to lie."""
    threads: int = 2
    """CPU threads of this source."""
    prefetch: int = 2
    """dali, ffcv: batches that the source itself prepares ahead."""
    processes: int = 1
    """ffcv: processes on this machine that open the same .beton."""
    beton: Path | None = None
    """ffcv: the converted file of the listing (tools/convert_imagenet_to_ffcv.py)."""
    bad_files: BadFiles | None = None
    """Where the source notes the files that it cannot decode and replaces; None: the first one is an error."""

    @property
    def on_gpu(self) -> bool:
        """Whether the finished views are to lie on a GPU."""
        return self.device.partition(":")[0] == "cuda"


@dataclass(frozen=True)
class DaliOptions:
    """How the dali pipeline works."""

    cut: Literal["auto", "dali", "cpu"] = "auto"
    """Who cuts the views, DALI's own operators or our CPU executor, which gives Pillow's bytes and is several times
    faster on a CPU; auto: DALI's own on a GPU."""
    hw_decoder_load: Annotated[float, Within(0, 1)] = 0.65
    """On a GPU: share of the images that go to the hardware JPEG decoder, where the GPU has one."""
    preallocate_mb: Annotated[int, AtLeast(0)] = 64
    """On a GPU: decoder memory allocated up front, MiB per thread, so that none is allocated while training."""

    def __post_init__(self) -> None:
        check_bounds("dali", self)

    def dali_cuts(self, on_gpu: bool) -> bool:
        """Whether DALI cuts the views; otherwise it only decodes, on the CPU."""
        return on_gpu if self.cut == "auto" else self.cut == "dali"


@dataclass(frozen=True)
class FfcvOptions:
    """How the ffcv pipeline works."""

    cache: Literal["auto", "page", "memory"] = "auto"
    """What keeps the .beton's bytes, the system's page cache or a copy of each process's own, read in the background;
    auto: a copy, where those of all processes of the machine take at most half of the available memory."""
    strong_on: Literal["auto", "source", "device"] = "auto"
    """Who applies RandAugment to the strong views, the source's threads or, after the copy, the device; auto: a GPU, if
    it is one. The same bytes either way. (dali augments where its pixels lie, torchvision at the source.)"""

    def __post_init__(self) -> None:
        check_bounds("ffcv", self)

    def strong_left_to_device(self, on_gpu: bool) -> bool:
        """Whether the source leaves RandAugment to the device."""
        return on_gpu if self.strong_on == "auto" else self.strong_on == "device"
