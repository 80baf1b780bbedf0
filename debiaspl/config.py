"""What a run is: Science (changes results; hashed), and Engine and the pipelines' options (change speed only)."""

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from debiaspl.best import Metric
from debiaspl.models.trunks import known_trunks, misfit
from pipelines import NAMES as PIPELINES
from pipelines.errors import ConfigError as ConfigError
from pipelines.errors import first_few, requires
from pipelines.samples.image_header import PIXELS_PER_BYTE
from pipelines.sources.bounds import Above, AtLeast, Within, check_bounds
from pipelines.sources.options import DaliOptions, FfcvOptions
from pipelines.views import EvaluationView, TrainingViews

if TYPE_CHECKING:
    import debiaspl.objectives  # imports torch, which no recipe needs

Share = Annotated[float, Within(0, 1)]
Count = Annotated[int, AtLeast(1)]
NotNegative = Annotated[float, AtLeast(0)]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class Science:
    """Everything that changes results, but for the data itself, which is hashed beside it."""

    seed: Annotated[int, Within(0, 2**64 - 1)] = 0  # a word of a key
    size: int = 224
    """Height and width of every view, pixels."""
    eval_resize: int = 256
    """Short side before the centre crop of evaluation, pixels."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a random crop covers."""
    flip: bool = True
    """Mirror half of the training views."""
    multi_view: bool = True
    """Two weak and two strong views of each unlabeled image; one of each otherwise."""
    # --- model
    arch: str = "resnet50"
    """Trunk: a name of debiaspl/models/trunks.py, or timm/ and any name that timm knows."""
    init: str = ""
    """Weights file that the trunk starts from; empty: random."""
    dropout: Share = 0.45
    """Share of the student's pooled features that is dropped in training."""
    ema: Share = 0.999
    """Momentum of the teacher."""
    # --- batches
    labeled_batch: Count = 64
    """Labeled images per step, over all ranks."""
    mu: Count = 5
    """Unlabeled images per labeled one."""
    group: Count = 8
    """Labeled images (with mu times as many unlabeled) that share one BatchNorm batch, and one p̂ under 'upstream'."""
    # --- objective
    tau: NotNegative = 0.4
    """Strength of debiasing and of the adaptive margin; 0 is FixMatch."""
    threshold: Share = 0.8
    """Probability from which a pseudo-label counts."""
    phat_momentum: Share = 0.999
    """Momentum of the running class distribution p̂."""
    lambda_u: NotNegative = 10.0
    """Weight of the unsupervised loss."""
    lambda_cld: NotNegative = 0.3
    """Weight of cross-level discrimination."""
    cld_temperature: Annotated[float, Above(0)] = 0.07
    clip: bool = False
    """Train on CLIP's label where no pseudo-label fires."""
    clip_gate: Share = 0.4
    """CLIP's probability from which its label counts."""
    compat: Literal["upstream", "paper"] = "paper"
    """What 'auto' means below: 'upstream' as the published code does it, 'paper' as the paper defines it."""
    cld_assignment: Literal["auto", "argmin", "argmax"] = "auto"
    """CLD's group of a sample: its least (upstream) or most (paper) likely class."""
    phat_scope: Literal["auto", "group", "all"] = "auto"
    """One p̂ per group (upstream) or one for all groups (paper)."""
    # --- optimisation
    lr: Annotated[float, Above(0)] = 0.003
    momentum: Share = 0.9
    weight_decay: NotNegative = 1e-4
    epochs: Count = 50
    """Passes over the unlabeled set."""
    warmup_epochs: int = 5

    def __post_init__(self) -> None:
        _require_trunk(self.arch, self.size)
        check_bounds("science", self)
        rising, all_ = self.warmup_epochs, self.epochs
        _require(0 <= rising <= all_, f"science.warmup_epochs must be within 0 and epochs={all_} (got {rising}).")
        _require(
            self.labeled_batch % self.group == 0,
            f"science.labeled_batch={self.labeled_batch} does not divide into groups of science.group={self.group}. "
            f"Valid groups: {_divisors(self.labeled_batch)}.",
        )
        _ = self.evaluation_view, self.labeled_views  # check themselves

    @property
    def groups(self) -> int:
        """BatchNorm groups per step."""
        return self.labeled_batch // self.group

    @property
    def phat_rows(self) -> int:
        """How many running class distributions there are."""
        scope = {"upstream": "group", "paper": "all"}[self.compat] if self.phat_scope == "auto" else self.phat_scope
        return self.groups if scope == "group" else 1

    @property
    def objective(self) -> "debiaspl.objectives.Objective":
        """The losses' numbers, 'auto' resolved."""
        from debiaspl.objectives import Objective

        default: Literal["argmin", "argmax"] = "argmin" if self.compat == "upstream" else "argmax"
        return Objective(
            tau=self.tau,
            threshold=self.threshold,
            phat_momentum=self.phat_momentum,
            lambda_u=self.lambda_u,
            lambda_cld=self.lambda_cld,
            cld_temperature=self.cld_temperature,
            cld_assignment=default if self.cld_assignment == "auto" else self.cld_assignment,
            clip_gate=self.clip_gate,
        )

    @property
    def labeled_views(self) -> TrainingViews:
        """Says what is cut from each labeled image: one weak view."""
        return TrainingViews(size=self.size, weak=1, strong=0, scale=self.crop_scale, flip=self.flip)

    @property
    def unlabeled_views(self) -> TrainingViews:
        """What is cut from each unlabeled image: as many weak as strong views."""
        each = 2 if self.multi_view else 1
        return TrainingViews(size=self.size, weak=each, strong=each, scale=self.crop_scale, flip=self.flip)

    @property
    def evaluation_view(self) -> EvaluationView:
        """What is cut from each validation image."""
        return EvaluationView(size=self.size, resize=self.eval_resize)

    def accumulation(self, world: int) -> int:
        """Returns how many groups each of ``world`` ranks computes one after the other in a step."""
        _require(
            self.groups % world == 0,
            f"{world} processes cannot share {self.groups} groups (labeled_batch {self.labeled_batch} / group "
            f"{self.group}) evenly. Use one of {_divisors(self.groups)} processes.",
        )
        return self.groups // world


@dataclass(frozen=True)
class Engine:
    """How fast and where: the same expectation whatever stands here, though not always the same bits."""

    pipeline: str = "dali"
    data: str = "dataset/imagenet"
    """Root with train/, val/ and the files below."""
    out: str = ""
    """Folder of the run; empty: runs/<recipe>."""
    labeled_csv: tuple[str, ...] = ()
    """Index file of the labeled samples below the data root; the first that exists."""
    unlabeled_csv: tuple[str, ...] = ()
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
    """Share of the training files that may be undecodable: they are replaced by the next samples of the epoch's order
    and named once; more stop the run. 0 (--strict): the first one does."""
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

    def __post_init__(self) -> None:
        _require(self.pipeline in PIPELINES, f"There is no pipeline {self.pipeline!r}{near(self.pipeline, PIPELINES)}.")
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
        content = json.dumps([asdict(self.science), split_fingerprint], sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()[:16]


def _require_trunk(arch: str, size: int) -> None:
    """Raises ConfigError for a trunk that does not exist or does not fit, MissingDependency where timm is needed."""
    with requires("timm", "pip install -e '.[timm]'", f"science.arch={arch}"):
        known = known_trunks(arch)
    others = "" if arch.startswith("timm/") else " Networks of timm are named timm/<name>."
    _require(arch in known, f"There is no science.arch {arch!r}{near(arch, known)}.{others}")
    if problem := misfit(arch, size):
        raise ConfigError(f"science.arch={arch} does not work for images of science.size={size}: {problem}.")


def near(name: str, known: Iterable[str]) -> str:
    """Returns '; did you mean …?', or the list where nothing is near (its beginning, if it is very long)."""
    names = list(known)
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are {first_few(names, 60)}"


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
