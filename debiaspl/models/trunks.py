"""Trunks by name: the one place that knows which networks there are.

PyTorch is imported where a network is built: their names are needed, as in --print-config, where nobody waits for it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    import debiaspl.models.resnet
    import debiaspl.models.wide_resnet


def _resnet(
    block: Literal["basic", "bottleneck"], depths: tuple[int, ...], width: int = 64, small: bool = False
) -> "Callable[[], debiaspl.models.resnet.ResNet]":
    def build() -> "debiaspl.models.resnet.ResNet":
        from debiaspl.models.resnet import BasicBlock, Bottleneck, ResNet

        return ResNet(BasicBlock if block == "basic" else Bottleneck, depths, width, small)

    return build


def _wide_resnet(depth: int, widen: int) -> "Callable[[], debiaspl.models.wide_resnet.WideResNet]":
    def build() -> "debiaspl.models.wide_resnet.WideResNet":
        from debiaspl.models.wide_resnet import WideResNet

        return WideResNet(depth, widen)

    return build


TRUNKS: "dict[str, Callable[[], debiaspl.models.resnet.ResNet | debiaspl.models.wide_resnet.WideResNet]]" = {
    "resnet18": _resnet("basic", (2, 2, 2, 2)),
    "resnet34": _resnet("basic", (3, 4, 6, 3)),
    "resnet50": _resnet("bottleneck", (3, 4, 6, 3)),
    "resnet101": _resnet("bottleneck", (3, 4, 23, 3)),
    # Every layer twice as wide, as in SimCLR and MoCo; torchvision's wide_resnet50_2 widens the 3×3 convolutions only.
    "resnet50w2": _resnet("bottleneck", (3, 4, 6, 3), width=128),
    # For images of about 32 px.
    "resnet18-small": _resnet("basic", (2, 2, 2, 2), small=True),
    "resnet34-small": _resnet("basic", (3, 4, 6, 3), small=True),
    "resnet50-small": _resnet("bottleneck", (3, 4, 6, 3), small=True),
    "wrn-28-2": _wide_resnet(depth=28, widen=2),
    # A network that a laptop's CPU trains in minutes on 32 px images.
    "resnet8-small": _resnet("basic", (1, 1, 1), width=16, small=True),
    # The same for 64 px and more: its first two layers shrink images to a quarter.
    "resnet10-narrow": _resnet("basic", (1, 1, 1, 1), width=16),
}

_TIMM = "timm/"


def known_trunks(arch: str) -> list[str]:
    """Returns the names among which ``arch`` must be: timm's where it begins with "timm/", ours otherwise.

    Raises ModuleNotFoundError where timm is asked for and not installed.
    """
    if not arch.startswith(_TIMM):
        return [*TRUNKS]
    from debiaspl.models import timm  # optional: only where it is asked for

    return [_TIMM + name for name in timm.names()]


def misfit(arch: str, size: int) -> str:
    """Returns why the network ``arch`` is no trunk for images of ``size``; empty if it is, as all of ours are."""
    if not arch.startswith(_TIMM):
        return ""
    from debiaspl.models import timm

    return timm.misfit(arch.removeprefix(_TIMM), size)


def pixel_statistics(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the channel means and deviations, of pixels in 0..1, by which the images of ``arch`` are normalised."""
    if arch.startswith(_TIMM):
        from debiaspl.models import timm

        return timm.statistics(arch.removeprefix(_TIMM))
    return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def classifier_name(arch: str) -> str:
    """Returns what torchvision, or timm for its own networks, calls the last layer; empty where there are several."""
    if arch.startswith(_TIMM):
        from debiaspl.models import timm

        return timm.classifier_name(arch.removeprefix(_TIMM))
    return "fc"


def build_trunk(arch: str, size: int) -> "tuple[torch.nn.Module, int]":
    """Returns the network ``arch`` with random weights, and the length of its feature vector.

    It maps float images [n, 3, size, size] to pooled features [n, f]. ``size`` matters to networks that are made for
    one size of images; the others take any.
    """
    if arch.startswith(_TIMM):
        from debiaspl.models import timm

        return timm.build(arch.removeprefix(_TIMM), size)
    trunk = TRUNKS[arch]()
    return trunk, trunk.features
