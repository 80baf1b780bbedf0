"""Networks: shapes, names, numbers, normalisation, the averaged teacher; each compiles as one graph."""

import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from debiaspl.models.classifier import Classifier
from debiaspl.models.eman import Eman
from debiaspl.models.trunks import build_trunk


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_trunks_are_torchvisions(arch):
    """Same names, shapes and, with the same weights, the same features."""
    reference = torchvision.models.get_model(arch, weights=None, num_classes=10).eval()
    reference.fc = torch.nn.Identity()
    trunk, features = build_trunk(arch, 64)
    assert features == reference(torch.zeros(1, 3, 64, 64)).shape[1]
    trunk.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(trunk.eval()(images), reference(images), rtol=1e-4, atol=1e-5)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet50w2_doubles_every_layer():
    """SimCLR's ResNet-50 (2×): twice torchvision's channels everywhere, but for the three of the image."""
    narrow = torchvision.models.resnet50(num_classes=1)
    narrow.fc = nn.Identity()
    with torch.device("meta"):
        wide, features = build_trunk("resnet50w2", 224)
    assert features == 4096
    shapes = {name: tuple(value.shape) for name, value in wide.state_dict().items()}
    for name, value in narrow.state_dict().items():
        channels = tuple(2 * c for c in value.shape[:2]) + tuple(value.shape[2:])
        assert shapes.pop(name) == ((128, 3, 7, 7) if name == "conv1.weight" else channels)
    assert not shapes


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_small_stems_change_the_stem_alone(arch):
    with torch.device("meta"):
        (standard, features), (small, small_features) = (build_trunk(name, 32) for name in (arch, f"{arch}-small"))
    assert features == small_features
    ours, theirs = ({n: v.shape for n, v in net.state_dict().items()} for net in (small, standard))
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == {"conv1.weight"}
    assert ours["conv1.weight"] == (64, 3, 3, 3)


def test_a_small_stem_keeps_the_resolution():
    trunk, _ = build_trunk("resnet18-small", 32)
    maps = []
    trunk.layer1.register_forward_hook(lambda module, arguments, result: maps.append(result.shape))
    trunk.eval()(torch.zeros(1, 3, 32, 32))
    assert maps == [(1, 64, 32, 32)]


def test_the_head_starts_as_torch_makes_it():
    """As published: weights and bias uniform within 1/√features; first logits 1.28 times as wide as N(0, 0.01)'s."""
    torch.manual_seed(0)
    head = Classifier("resnet50-small", 1000).head
    bound = head.in_features**-0.5
    for values in (head.weight, head.bias):
        assert values.abs().max() <= bound
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert head.weight.std().item() == pytest.approx(0.0128, rel=0.01)


def test_wide_resnet_has_the_literatures_size():
    """1.467 M with ten classes. A block of i → o channels without shortcut: 2 i + 9 i o + 2 o + 9 o o."""
    first = [(16, 32), (32, 64), (64, 128)]
    block = {(i, o): 2 * i + 9 * i * o + 2 * o + 9 * o * o for i, o in [*first, (32, 32), (64, 64), (128, 128)]}
    groups = sum(block[i, o] + i * o + 3 * block[o, o] for i, o in first)
    expected = 16 * 3 * 9 + groups + 2 * 128 + 128 * 10 + 10
    assert expected == 1_467_610
    model = Classifier("wrn-28-2", 10, size=32)
    assert parameters(model) == expected
    assert model.head.in_features == 128


def test_wide_resnet_is_its_equation():
    """Against the network written out with functions, in train and in eval mode."""
    torch.manual_seed(0)
    trunk, _ = build_trunk("wrn-28-2", 16)
    with torch.no_grad():
        for name, value in trunk.state_dict().items():  # BatchNorms that are not the identity
            if value.is_floating_point() and value.ndim == 1:
                value.uniform_(0.5, 1.5) if "var" in name or "weight" in name else value.normal_(std=0.3)
    w = {name: value.clone() for name, value in trunk.state_dict().items()}
    images = torch.randn(3, 3, 16, 16)

    def active(x, name, training):
        mean, var = (w[f"{name}.running_mean"], w[f"{name}.running_var"])
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        x = (x - mean[:, None, None]) / (var + 1e-3).sqrt()[:, None, None]
        x = x * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
        return torch.where(x > 0, x, 0.1 * x)

    def written_out(training):
        x = F.conv2d(images, w["conv1.weight"], padding=1)
        for number in range(12):
            block, stride = f"groups.{number}", 2 if number in (4, 8) else 1
            a = active(x, f"{block}.bn1", training)
            out = F.conv2d(a, w[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(active(out, f"{block}.bn2", training), w[f"{block}.conv2.weight"], padding=1)
            if number % 4 == 0:
                x = F.conv2d(a if number == 0 else x, w[f"{block}.shortcut.weight"], stride=stride)
            x = out + x
        return active(x, "bn", training).mean((2, 3))

    with torch.no_grad():
        torch.testing.assert_close(trunk.eval()(images), written_out(False), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(trunk.train()(images), written_out(True), rtol=1e-4, atol=1e-4)
        stem = F.conv2d(images, w["conv1.weight"], padding=1)
    moved = 0.999 * w["groups.0.bn1.running_mean"] + 0.001 * stem.mean((0, 2, 3))
    torch.testing.assert_close(trunk.groups[0].bn1.running_mean, moved)


@pytest.mark.parametrize("arch", ["resnet18-small", "wrn-28-2", "resnet8-small"])
def test_channels_last_changes_no_result_and_is_kept(arch):
    torch.manual_seed(0)
    model = Classifier(arch, 4, size=16).eval()
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    layouts = []

    def note_layout(module, arguments, result):
        layouts.append(result.is_contiguous(memory_format=torch.channels_last))

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.register_forward_hook(note_layout)
    with torch.no_grad():
        plain = model(pixels)
        layouts.clear()
        torch.testing.assert_close(model.to(memory_format=torch.channels_last)(pixels), plain, rtol=1e-4, atol=1e-5)
    assert layouts
    assert all(layouts)


def test_classifier_normalises_like_torchvision():
    model = Classifier("resnet8-small", 7).eval()
    pixels = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.head(model.trunk(images))
        torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (4, 7)


def test_pixels_reach_the_trunk_channels_last_without_a_copy():
    pixels = torch.zeros(4, 16, 16, 3, dtype=torch.uint8)
    images = pixels.permute(0, 3, 1, 2)
    assert images.data_ptr() == pixels.data_ptr()
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_teacher_follows_parameters_statistics_and_counters():
    student, teacher = Classifier("resnet8-small", 3, dropout=0.5), Classifier("resnet8-small", 3)
    eman = Eman(teacher, student, momentum=0.75)
    start = {name: value.clone() for name, value in student.state_dict().items()}
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in start.items())
    assert not any(p.requires_grad for p in teacher.parameters())
    with torch.no_grad():
        for value in student.state_dict().values():
            value.add_(1)
    eman.update()
    for name, value in teacher.state_dict().items():
        expected = start[name] + (0.25 if value.is_floating_point() else 1)
        torch.testing.assert_close(value, expected)


def test_a_teacher_without_batchnorm_follows_too():
    student, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    eman = Eman(teacher, student, momentum=0.5)
    with torch.no_grad():
        student.weight.add_(1)
    eman.update()
    torch.testing.assert_close(teacher.weight, student.weight - 0.5)


@pytest.mark.soak
@pytest.mark.parametrize("arch", ["wrn-28-2", "timm/test_convnext"])
def test_new_trunks_are_one_graph(arch):
    """In a process of its own: the tests' shape checks cannot be compiled. Traced and differentiated, not generated."""
    script = """
import sys, torch
from debiaspl.models.classifier import Classifier
pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
for arch in sys.argv[1:]:
    model = Classifier(arch, 3, size=32).to(memory_format=torch.channels_last)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    compiled(pixels).sum().backward()
    traced = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(pixels).sum().backward()
    torch.testing.assert_close(traced, [parameter.grad for parameter in model.parameters()], rtol=1e-2, atol=1e-3)
"""
    if arch.startswith("timm/"):
        pytest.importorskip("timm")
    done = subprocess.run([sys.executable, "-c", script, arch], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
