"""Networks: shapes, names, normalisation; weights from files with a complete account."""

import pytest
import torch
import torchvision

from debiaspl.import_weights import WeightsError, import_weights
from debiaspl.models.classifier import Classifier
from debiaspl.models.eman import Eman
from debiaspl.models.resnet import TRUNKS


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_trunks_are_torchvisions(arch):
    """Same names, shapes and, with the same weights, the same features."""
    reference = torchvision.models.get_model(arch, weights=None, num_classes=10).eval()
    reference.fc = torch.nn.Identity()
    trunk = TRUNKS[arch]()
    trunk.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(trunk.eval()(images), reference(images), rtol=1e-4, atol=1e-5)


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


def moco_eman(trunk):
    """A checkpoint in MoCo-EMAN's key layout."""
    encoder = {f"module.encoder_q.{name}": value for name, value in trunk.state_dict().items()}
    head = {"module.encoder_q.fc.0.weight": torch.zeros(4, 4), "module.queue": torch.zeros(2, 3)}
    other = {f"module.encoder_k.{name}": value + 1 for name, value in trunk.state_dict().items()}
    return {"epoch": 800, "arch": "resnet50", "state_dict": other | encoder | head}


@pytest.mark.parametrize("layout", ["moco-eman", "torchvision", "ours"])
def test_weights_of_each_layout_are_read(tmp_path, layout):
    source = TRUNKS["resnet8-small"]()
    state = source.state_dict()
    content = {
        "moco-eman": moco_eman(source),
        "torchvision": state | {"fc.weight": torch.zeros(5, 5), "fc.bias": torch.zeros(5)},
        "ours": {"format": 1, "student": {f"trunk.{n}": v for n, v in state.items()} | {"head.bias": torch.zeros(3)}},
    }[layout]
    torch.save(content, tmp_path / "weights.pth")
    trunk = TRUNKS["resnet8-small"]()
    account = import_weights(trunk, tmp_path / "weights.pth")
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, state[name]), name
    left = {"moco-eman": len(state) + 2, "torchvision": 2, "ours": 1}[layout]
    assert (len(account.used), len(account.left), account.random) == (len(state), left, [])


@pytest.mark.parametrize("kind", ["missing", "wrong shape", "another network", "no table", "pickled code"])
def test_unfit_weights_are_refused_and_change_nothing(tmp_path, kind):
    trunk = TRUNKS["resnet8-small"]()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    path = tmp_path / "weights.pth"
    state = dict(trunk.state_dict())
    match kind:
        case "wrong shape":
            torch.save(state | {"conv1.weight": torch.zeros(1, 3, 3, 3)}, path)
        case "another network":
            torch.save(TRUNKS["resnet50"]().state_dict(), path)
        case "no table":
            torch.save([1, 2], path)
        case "pickled code":
            torch.save({"state_dict": print}, path)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        import_weights(trunk, path)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
