"""timm's networks: pooled features at any size, steps with and without BatchNorm, clear words where one is missing."""

import dataclasses
import importlib.util
import sys

import pytest
import torch

from debiaspl import models
from debiaspl.config import ConfigError, Science
from debiaspl.models.classifier import Classifier
from debiaspl.models.trunks import build_trunk
from pipelines.errors import MissingDependency
from tests.support.steps import SCIENCE, batches, build

needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed: pip install -e '.[timm]'"
)


@needs_timm
@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",  # BatchNorm
        "test_convnext",  # LayerNorm; parameters of its head that are not the classifier's
        "test_vit",  # made for one size of images
        "mobilenetv3_small_050",  # a layer between pooling and classifier
        "densenet121",  # has a module named "features"
    ],
)
@pytest.mark.parametrize("size", [32, 64])
def test_features_are_pooled_and_as_long_as_said(name, size):
    trunk, features = build_trunk(f"timm/{name}", size)
    assert trunk.eval()(torch.zeros(2, 3, size, size)).shape == (2, features)
    model = Classifier(f"timm/{name}", 4, size=size).eval().to(memory_format=torch.channels_last)
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    assert model(pixels).shape == (2, 4)
    assert not any(name.startswith("trunk.head.fc") for name in model.state_dict())


@needs_timm
def test_its_batchnorm_free_networks_take_steps():
    science = dataclasses.replace(SCIENCE, arch="timm/test_vit")
    state, step = build(science)
    before = {name: value.clone() for name, value in state.student.state_dict().items()}
    assert not any("running" in name for name in before)
    assert torch.isfinite(step(batches(science), 0)).all()
    moved = 0
    for name, value in state.student.state_dict().items():
        moved += not torch.equal(value, before[name])
        torch.testing.assert_close(state.teacher.state_dict()[name], 0.9 * before[name] + 0.1 * value)
    assert moved == len(before)


@needs_timm
def test_its_batchnorm_networks_keep_the_first_groups_statistics():
    science = dataclasses.replace(SCIENCE, arch="timm/test_resnet")
    first, other = batches(SCIENCE, seed=1), batches(SCIENCE, seed=2)
    statistics = []
    for second_group in (first[1], other[1]):
        state, step = build(science)
        step([first[0], second_group], 0)
        statistics.append({n: b for n, b in state.student.named_buffers() if "running" in n})
    assert statistics[0]
    assert all(torch.equal(value, statistics[1][name]) for name, value in statistics[0].items())


@needs_timm
def test_a_misspelt_name_is_said_at_once():
    with pytest.raises(ConfigError, match=r"no science\.arch 'timm/convnxt_tiny'; did you mean timm/convnext_tiny"):
        Science(arch="timm/convnxt_tiny")
    with pytest.raises(ConfigError, match=r"there are timm/.* and [0-9]+ more") as caught:
        Science(arch="timm/" + "?" * 40)
    assert len(str(caught.value)) < 3000
    assert Science(arch="timm/convnext_tiny").arch == "timm/convnext_tiny"


@needs_timm
@pytest.mark.parametrize(
    ("name", "too_small", "large_enough"), [("test_convnext", 16, 32), ("halonet26t", 224, 256), ("test_vit", 8, 16)]
)
def test_a_size_that_it_cannot_take_is_said_at_once(name, too_small, large_enough):
    with pytest.raises(ConfigError, match=rf"timm/{name} does not work for images of science\.size={too_small}: \w"):
        Science(arch=f"timm/{name}", size=too_small)
    assert Science(arch=f"timm/{name}", size=large_enough).size == large_enough


@needs_timm
def test_a_network_that_does_not_pool_is_refused():
    with pytest.raises(ConfigError, match=r"gemma4_vit_167m_enc .* are not pooled"):
        Science(arch="timm/gemma4_vit_167m_enc", size=96)


def test_its_absence_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "debiaspl.models.timm", raising=False)
    monkeypatch.delattr(models, "timm", raising=False)
    with pytest.raises(MissingDependency, match=r"timm/convnext_tiny needs timm, .* pip install -e '\.\[timm\]'"):
        Science(arch="timm/convnext_tiny")
    assert Science(arch="wrn-28-2").arch == "wrn-28-2"


def test_a_broken_timm_is_not_called_missing(monkeypatch):
    def broken(arch):
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setattr("debiaspl.science.known_trunks", broken)
    with pytest.raises(ModuleNotFoundError, match="torchvision") as caught:
        Science(arch="timm/convnext_tiny")
    assert not isinstance(caught.value, MissingDependency)
