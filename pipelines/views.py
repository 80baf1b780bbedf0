"""What to cut from a decoded image, not how: the views of the training streams and of evaluation."""

from dataclasses import dataclass

from pipelines.errors import DataError


@dataclass(frozen=True)
class TrainingViews:
    """Random resized crops: ``weak`` ones (crop + flip) first, then ``strong`` ones (crop + flip + RandAugment)."""

    size: int = 224
    """Height and width of every view, pixels."""
    weak: int = 1
    strong: int = 0
    scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a crop covers."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of a crop, drawn log-uniformly."""
    flip: bool = True
    """Mirror half of the views left to right."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.weak < 0 or self.strong < 0 or self.weak + self.strong < 1:
            raise DataError(f"Views need size ≥ 1 and at least one view (got {self}).")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise DataError(f"Crop scale must be 0 < low ≤ high ≤ 1 (got {self.scale}).")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise DataError(f"Crop ratio must be 0 < low ≤ high (got {self.ratio}).")

    @property
    def count(self) -> int:
        """Views of an image."""
        return self.weak + self.strong


@dataclass(frozen=True)
class EvaluationView:
    """torchvision's Resize(``resize``) of the short side, then CenterCrop(``size``); one view, nothing random."""

    size: int = 224
    resize: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise DataError(f"The centre crop must fit the resized image: 1 ≤ size ≤ resize (got {self}).")

    @property
    def count(self) -> int:
        """Views of an image."""
        return 1
