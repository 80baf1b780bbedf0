"""From uint8 pixels to logits: normalise, trunk, dropout, linear head. The only place that normalises."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from debiaspl.models.trunks import build_trunk, pixel_statistics


class Classifier(nn.Module):
    """A trunk by name and a linear head over ``classes``; the same for student, teacher and evaluation.

    ``dropout`` acts on the pooled features in train mode only, so the teacher, never in train mode, has none. ``size``,
    the images' height and width, shapes only trunks that are made for one size (transformers).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, arch: str, classes: int, dropout: float = 0.0, size: int = 224) -> None:
        super().__init__()
        self.trunk, features = build_trunk(arch, size)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, classes)
        # Constants, not state: they are not saved, and no weights file brings its own.
        for name, values in zip(("mean", "std"), pixel_statistics(arch), strict=True):
            grey_levels = torch.tensor([value * 255 for value in values])  # of 0..255
            self.register_buffer(name, grey_levels.view(1, 3, 1, 1), persistent=False)

    def features(self, pixels: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n f"]:
        """Returns pooled features. NHWC pixels, permuted, *are* channels-last NCHW: only the cast copies."""
        images = (pixels.permute(0, 3, 1, 2) - self.mean) / self.std
        return self.trunk(images)

    def forward(self, pixels: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n c"]:
        """Returns the logits of each class."""
        return self.head(self.dropout(self.features(pixels)))
