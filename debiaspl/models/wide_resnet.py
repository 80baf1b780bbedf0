"""Wide ResNets (Zagoruyko and Komodakis 2016, arXiv 1605.07146) for 32 px images: images in, pooled features out.

As FixMatch's TensorFlow code has it (Sohn et al. 2020, arXiv 2001.07685), after Oliver et al. 2018 (arXiv 1804.09170),
where that departs from the first paper: LeakyReLU of slope 0.1 for ReLU; BatchNorm with ε = 1e-3 and running statistics
that move by 0.001 a step (TensorFlow's momentum of 0.999); a projected shortcut starts from the activated input in the
first group only, in the others from the plain one; no dropout between convolutions.
"""

from jaxtyping import Float
from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """(BatchNorm, LeakyReLU, 3×3 convolution) twice, and a shortcut that is projected where shapes change.

    ``activated``: the shortcut, too, starts behind the first BatchNorm and LeakyReLU.
    """

    def __init__(self, inputs: int, width: int, stride: int, activated: bool) -> None:
        super().__init__()
        self.bn1 = _batch_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = _batch_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        same = stride == 1 and inputs == width
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, width, 1, stride, bias=False)
        self.activated = activated

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Returns the sum of the convolutions' result and the shortcut."""
        active = self.activation(self.bn1(x))
        out = self.conv2(self.activation(self.bn2(self.conv1(active))))
        return out + self.shortcut(active if self.activated else x)


class WideResNet(nn.Module):
    """A 3×3 stem of 16 channels, three groups of (depth − 4) / 6 blocks, global average pooling.

    The groups have 16, 32 and 64 times ``widen`` channels; the second and third halve the resolution.
    """

    def __init__(self, depth: int, widen: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        assert rest == 0, f"depth {depth} is not 6 n + 4"
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.groups = nn.Sequential()
        inputs = 16
        for number in range(3):
            width = 16 * 2**number * widen
            for position in range(blocks):
                first = position == 0
                stride = 2 if first and number > 0 else 1
                self.groups.append(PreActivationBlock(inputs, width, stride, activated=first and number == 0))
                inputs = width
        self.bn = _batch_norm(inputs)
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        self.features = inputs
        """Length of the pooled feature vector."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n f"]:
        """Returns the pooled features of normalised images."""
        x = self.groups(self.conv1(images))
        return self.activation(self.bn(x)).mean((2, 3))


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.001)
