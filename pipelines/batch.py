"""The contract between data and training: what a source yields and what the feed makes of it.

These words mean one thing each, here and everywhere else:

| word     | meaning                                                                                       |
|----------|-----------------------------------------------------------------------------------------------|
| index    | a sample's number: its place in torchvision's sorted ImageFolder listing of the data root     |
| row      | a sample's place in the arrays of a .beton, which may hold a part of the listing              |
| step     | one optimisation step; it takes ``batch`` consecutive samples of a stream, over all ranks     |
| group    | the samples of a step that share one BatchNorm batch; one rank computes them at once          |
| epoch    | as many steps as fit into one pass over the unlabeled samples                                 |
| pass     | once through all samples of a stream, in one permutation; a short labeled set has several an epoch |
| consumed | how many samples of the epoch have been used, counted over all ranks; a whole number of steps |
"""

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
    index: Int64[Tensor, "n"]  # type: ignore[assignment]


class Batch(NamedTuple):
    """One group of one step."""

    labeled: Views  # v = 1
    unlabeled: Views  # weak views first, then as many strong ones


@runtime_checkable
class Source(Protocol):
    """Finished views, one group at a time; ``debiaspl`` sees nothing else of a pipeline.

    Iterating yields one epoch of this rank and then stands at the next epoch's start.
    """

    def __iter__(self) -> Iterator[Views]: ...

    def __len__(self) -> int:
        """Returns the number of groups per whole epoch on this rank."""
        ...

    def seek(self, epoch: int, consumed: int) -> None:
        """Makes the next iteration start in ``epoch``, after its ``consumed`` first samples."""
        ...

    def close(self) -> None:
        """Frees threads, files and memory; closing twice is fine."""
        ...
