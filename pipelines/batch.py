"""The contract between data and training: what a source yields and what the feed makes of it."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Int64, UInt8
from torch import Tensor


class Views(NamedTuple):
    """v finished views of n samples, on the training device.

    pixels is view-major, so ``pixels[:2].flatten(0, 1)`` is "all w1, then all w2" without a copy, and its
    ``.permute(0, 3, 1, 2)`` is a channels-last NCHW tensor, without a copy too.
    """

    pixels: UInt8[Tensor, "v n h w 3"]
    index: Int64[Tensor, "n"]  # type: ignore[assignment]  # position in torchvision's sorted ImageFolder listing of the data root, always


class Batch(NamedTuple):
    """One group of one step: the images that share one BatchNorm batch."""

    labeled: Views  # v = 1
    unlabeled: Views  # weak views first, then as many strong ones


@runtime_checkable
class Source(Protocol):
    """Finished views, one group at a time; ``debiaspl`` sees nothing else of a pipeline.

    Iterating yields one epoch of this rank and then stands at the next epoch's start.
    """

    def __iter__(self) -> Iterator[Views]: ...

    def __len__(self) -> int:
        """Groups per whole epoch on this rank."""
        ...

    def seek(self, epoch: int, position: int) -> None:
        """The next iteration starts in ``epoch`` after ``position`` samples (counted over all ranks)."""
        ...

    def close(self) -> None:
        """Free threads, files and memory; closing twice is fine."""
        ...
