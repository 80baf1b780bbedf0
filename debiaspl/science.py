"""What changes a run's results, but for the data itself: the fields of Science, which are hashed."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from debiaspl.models.trunks import known_trunks, misfit
from pipelines.errors import ConfigError, first_few, requires
from pipelines.samples.reading import Alpha, Exif, Reading
from pipelines.sources.bounds import Above, AtLeast, Within, check_bounds
from pipelines.views import EvaluationView, TrainingViews

if TYPE_CHECKING:
    import debiaspl.objectives  # imports torch, which no recipe needs

Share = Annotated[float, Within(0, 1)]
Count = Annotated[int, AtLeast(1)]
NotNegative = Annotated[float, AtLeast(0)]


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
    alpha: Alpha = "drop"
    """What shows through transparency: white, black or mean (of ImageNet's pixels); drop: whatever lies under it."""
    exif: Exif = "ignore"
    """Whether an image is turned as its EXIF asks for."""
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
        require(0 <= rising <= all_, f"science.warmup_epochs must be within 0 and epochs={all_} (got {rising}).")
        require(
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
        """Returns how many running class distributions there are."""
        scope = {"upstream": "group", "paper": "all"}[self.compat] if self.phat_scope == "auto" else self.phat_scope
        return self.groups if scope == "group" else 1

    @property
    def objective(self) -> "debiaspl.objectives.Objective":
        """Returns the losses' numbers, 'auto' resolved."""
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
    def reading(self) -> Reading:
        """Returns how files become pixels."""
        return Reading(self.alpha, self.exif)

    @property
    def labeled_views(self) -> TrainingViews:
        """Says what is cut from each labeled image: one weak view."""
        return TrainingViews(size=self.size, weak=1, strong=0, scale=self.crop_scale, flip=self.flip)

    @property
    def unlabeled_views(self) -> TrainingViews:
        """Returns what is cut from each unlabeled image: as many weak as strong views."""
        each = 2 if self.multi_view else 1
        return TrainingViews(size=self.size, weak=each, strong=each, scale=self.crop_scale, flip=self.flip)

    @property
    def evaluation_view(self) -> EvaluationView:
        """Returns what is cut from each validation image."""
        return EvaluationView(size=self.size, resize=self.eval_resize)

    def accumulation(self, world: int) -> int:
        """Returns how many groups each of ``world`` ranks computes one after the other in a step."""
        require(
            self.groups % world == 0,
            f"{world} processes cannot share {self.groups} groups (labeled_batch {self.labeled_batch} / group "
            f"{self.group}) evenly. Use one of {_divisors(self.groups)} processes.",
        )
        return self.groups // world


def require(condition: bool, message: str) -> None:
    """Raises ConfigError unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def _require_trunk(arch: str, size: int) -> None:
    """Raises ConfigError for a trunk that does not exist or does not fit, MissingDependency where timm is needed."""
    with requires("timm", "pip install -e '.[timm]'", f"science.arch={arch}"):
        known = known_trunks(arch)
    others = "" if arch.startswith("timm/") else " Networks of timm are named timm/<name>."
    require(arch in known, f"There is no science.arch {arch!r}{near(arch, known)}{others}")
    if problem := misfit(arch, size):
        raise ConfigError(f"science.arch={arch} does not work for images of science.size={size}: {problem}.")


def near(name: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence: '; did you mean …?', or the list where nothing is near (its beginning)."""
    names = list(known)
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are {first_few(names, 60)}."


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
