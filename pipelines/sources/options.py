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
    compile: bool = True
    """On a GPU: whether torch.compile makes RandAugment's kernels, in the background of the first batches."""
    bad_files: BadFiles | None = None
    """Where the source notes the files that it cannot decode and replaces; None: the first one is an error."""

    @property
    def on_gpu(self) -> bool:
        """Whether the finished views are to lie on a GPU."""
        return self.device.partition(":")[0] == "cuda"


@dataclass(frozen=True)
class DaliOptions:
    """How the dali pipeline works.

    The defaults of threads, prefetch and hw_decoder_load are those of NVIDIA's ResNet-50 record on H100 (MLPerf
    Training 3.1, config_DGXH100.sh).
    """

    decode: Literal["mixed", "cpu"] = "mixed"
    """On a GPU: who decodes training images, nvJPEG with the GPU's decoding engines (mixed), or the CPU, to Pillow's
    bytes. Without a GPU the CPU does."""
    decode_evaluation: Literal["mixed", "cpu"] = "cpu"
    """The same for an evaluation. With cpu it sees Pillow's bytes, so that an accuracy depends neither on the pipeline
    nor on which images the GPU's engines happen to decode."""
    cut: Literal["auto", "dali", "cpu"] = "auto"
    """Who cuts the views, DALI's own operators or our CPU executor, which gives Pillow's bytes and is several times
    faster on a CPU; auto: DALI's own where the GPU decodes. With cpu, the CPU decodes as well."""
    threads: Annotated[int, AtLeast(1)] = 6
    """Where the GPU decodes: DALI's own CPU threads in each pipeline, at most the source's; each holds memory."""
    prefetch: Annotated[int, AtLeast(1)] = 5
    """Where DALI cuts on a GPU: groups that each pipeline prepares ahead, in the GPU's memory."""
    hw_decoder_load: Annotated[float, Within(0, 1)] = 0.99
    """Where the GPU decodes: share of the images that go to its hardware JPEG decoder, if it has one."""
    preallocate_mb: Annotated[int, AtLeast(0)] = 16
    """Where the GPU decodes: MiB of its memory that each of DALI's threads sets aside (DALI's own default), and as much
    of the host's pinned memory."""

    def __post_init__(self) -> None:
        check_bounds("dali", self)

    def gpu_decodes(self, evaluates: bool, on_gpu: bool) -> bool:
        """Whether a GPU decodes the images of an evaluation or, otherwise, of training."""
        return on_gpu and self.cut != "cpu" and (self.decode_evaluation if evaluates else self.decode) == "mixed"

    def dali_cuts(self, evaluates: bool, on_gpu: bool) -> bool:
        """Whether DALI cuts the views; otherwise it only decodes, on the CPU."""
        return self.gpu_decodes(evaluates, on_gpu) if self.cut == "auto" else self.cut == "dali"


@dataclass(frozen=True)
class FfcvOptions:
    """How the ffcv pipeline works."""

    cache: Literal["auto", "page", "memory"] = "auto"
    """What keeps the .beton's bytes, the system's page cache or a copy of each process's own, read in the background;
    auto: a copy, where those of all processes of the machine take at most half of the available memory."""
    strong_on: Literal["auto", "source", "device"] = "auto"
    """Who applies RandAugment to the strong views, the source's threads or, after the copy, the device; auto: a GPU for
    which it is compiled, since it takes hundreds of small kernels otherwise. The same bytes either way. (dali augments
    where its pixels lie, torchvision at the source.)"""

    def __post_init__(self) -> None:
        check_bounds("ffcv", self)

    def strong_left_to_device(self, resources: Resources) -> bool:
        """Whether the source leaves RandAugment to the device."""
        return resources.on_gpu and resources.compile if self.strong_on == "auto" else self.strong_on == "device"
