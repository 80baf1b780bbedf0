"""What a run is: Science (changes results; hashed), and Engine and the pipelines' options (change speed only)."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from debiaspl.best import Metric
from debiaspl.science import Count, NotNegative, Share, near, require
from debiaspl.science import Science as Science
from pipelines import NAMES as PIPELINES
from pipelines.errors import ConfigError as ConfigError
from pipelines.samples.image_header import PIXELS_PER_BYTE
from pipelines.samples.reading import AS_TORCHVISION
from pipelines.sources.bounds import Above, AtLeast, Within, check_bounds
from pipelines.sources.options import DaliOptions, FfcvOptions


@dataclass(frozen=True)
class Engine:
    """How fast and where: the same expectation whatever stands here, though not always the same bits."""

    pipeline: str = "dali"
    data: str = "dataset/imagenet"
    """Root with train/, val/ and the files below."""
    out: str = ""
    """Folder of the run; empty: runs/<recipe>."""
    train: str = "train"
    """Folder, below the data root, of the training images, a folder for each class in it; '.': the root itself."""
    val: str = "val"
    """The same of the validation images; empty: a share of the labeled ones is held back."""
    held_back: Annotated[float, Above(0), Within(0, 1)] = 0.2
    """Share of each class that is held back, at least one image of a class that has two."""
    labeled_csv: tuple[str, ...] = ()
    """Index file of the labeled samples below the data root; the first that exists. None named: all are labeled."""
    unlabeled_csv: tuple[str, ...] = ()
    """The same of the unlabeled samples. None named: the labeled ones, without their labels."""
    unlabeled: str = ""
    """Folder, below the data root, of unlabeled images at any depth: all of them instead of unlabeled_csv's."""
    clip_file: str = ""
    """CLIP predictions below the data root, a row per unlabeled image in its order; empty: unlabeled_csv's columns."""
    train_beton: str = "ffcv/train.beton"
    """ffcv: the converted training images, below the data root."""
    unlabeled_beton: str = ""
    """ffcv: converted images of the folder 'unlabeled', below the data root; empty: ffcv/<its name>.beton beside it."""
    val_beton: str = "ffcv/val.beton"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What networks compute in; auto: bfloat16 on a GPU (an old one: float16, which may skip steps), else float32."""
    compile: Literal["auto", "on", "off", "cuda-graphs"] = "auto"
    """torch.compile of the two passes; auto: on a GPU. cuda-graphs: replayed, too (not run on a GPU yet)."""
    deterministic: bool = False
    """On a GPU: only kernels that give the same bits every time (slower). The CPU's always do."""
    threads: Annotated[int, AtLeast(0)] = 0
    """CPU threads of each source; 0: the cores of this process, shared with the ranks that are bound to the same."""
    bad_files: Share = 0.001
    """Share of the training files (at least 3 of them) that may be undecodable: they are replaced by the next samples
    of the epoch's order and named once; more stop the run. 0 (--strict): the first one does."""
    pixels_per_byte: Annotated[float, AtLeast(1)] = PIXELS_PER_BYTE
    """Most pixels that a JPEG may claim for each of its bytes, or it is a bad file; an all-white one has 64–256."""
    prefetch: Count = 2
    """Batches prepared ahead of the step."""
    eval_batch: Count = 100
    """Images per evaluation batch."""
    save_minutes: NotNegative = 10.0
    """Minutes between two checkpoints within an epoch, written in the background; each epoch's end is saved, too."""
    keep: Count = 2
    """Whole checkpoints that stay in the run's folder: last.pt and older ones to fall back on; best.pt comes on top."""
    best: Metric = "auto"
    """What best.pt is chosen by; auto: the balanced accuracy of the better of the two networks."""
    log_every: Count = 10
    """Steps between two readings of the metrics from the device."""
    reports: Annotated[int, AtLeast(0)] = 10
    """How often in a run report.html and the picture of its pseudo-labels are made, the end included; 0: never."""
    tracker: Literal["none", "wandb", "mlflow"] = "none"
    """Where records go, too, beside TensorBoard's file; its package is installed by hand."""

    def __post_init__(self) -> None:
        require(self.pipeline in PIPELINES, f"There is no pipeline {self.pipeline!r}{near(self.pipeline, PIPELINES)}")
        check_bounds("engine", self)


@dataclass(frozen=True)
class Recipe:
    """A named experiment."""

    name: str
    science: Science = field(default_factory=Science)
    engine: Engine = field(default_factory=Engine)
    dali: DaliOptions = field(default_factory=DaliOptions)
    ffcv: FfcvOptions = field(default_factory=FfcvOptions)

    @property
    def source_options(self) -> DaliOptions | FfcvOptions | None:
        """The options of the chosen pipeline; None where it has none."""
        return self.dali if self.engine.pipeline == "dali" else self.ffcv if self.engine.pipeline == "ffcv" else None

    def experiment(self, split_fingerprint: str) -> str:
        """Returns what a checkpoint belongs to: 16 hex digits over Science and the split."""
        science = asdict(self.science)
        for name, default in asdict(AS_TORCHVISION).items():  # older versions, which had no such fields, did as these
            if science[name] == default:
                del science[name]
        content = json.dumps([science, split_fingerprint], sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()[:16]
