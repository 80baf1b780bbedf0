"""Weights files of every known layout: the right tensors, every name accounted for, clear words where they misfit."""

import argparse
import dataclasses
import json
import os
import sys

import pytest
import torch
import torchvision
from torch import nn

from debiaspl.build import build_run, build_state
from debiaspl.checkpoint import Progress
from debiaspl.checkpoint_file import read
from debiaspl.config import Recipe
from debiaspl.data import read_data
from debiaspl.distributed import Ranks
from debiaspl.import_weights import WeightsError, import_weights
from debiaspl.models.trunks import build_trunk
from debiaspl.overrides import override
from debiaspl.recipes import find
from debiaspl.trainer import Trainer
from pipelines.errors import MissingDependency
from tests.support.runs import save
from tests.support.steps import SCIENCE

ARCH = SCIENCE.arch


def random_state(arch=ARCH, seed=0):
    """Tensors of a trunk, statistics included, that no other seed has."""
    torch.manual_seed(seed)
    state = build_trunk(arch, 32)[0].state_dict()
    return {name: torch.rand_like(v) if v.is_floating_point() else v + 1 + seed for name, v in state.items()}


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def heads(*names):
    return {f"{name}.{part}": torch.ones(2) for name in names for part in ("weight", "bias")}


def str_of_keys(value):
    return "+".join(value) if isinstance(value, dict) else ""


def changed(change, names=("layer1.0.conv2.weight",)):
    return {name: change(value) if name in names else value for name, value in MINE.items()}


MINE, OTHER = random_state(seed=1), random_state(seed=2)
SIZE = len(MINE)

# layout → what the file holds, the prefix of MINE, and how much of what is left
LAYOUTS = {
    "torchvision": (MINE | heads("fc"), "", {"fc": 2}),
    "of DistributedDataParallel": (prefixed("module.", MINE) | heads("module.fc"), "module.", {"fc": 2}),
    "moco v2": (
        {
            "epoch": 800,
            "arch": "resnet50",
            "state_dict": prefixed("module.encoder_q.", MINE)
            | heads("module.encoder_q.fc.0", "module.encoder_q.fc.2")
            | prefixed("module.encoder_k.", OTHER)
            | heads("module.encoder_k.fc.0", "module.encoder_k.fc.2")
            | {"module.queue": torch.zeros(4, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)},
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.03}]},
        },
        "state_dict.module.encoder_q.",
        {"fc": 4, "encoder_k": SIZE + 4, "queue": 1, "queue_ptr": 1, "optimizer": 1},
    ),
    "moco-eman, averages first": (
        {
            "state_dict": prefixed("module.encoder_k.", OTHER)
            | prefixed("module.encoder_q.", MINE)
            | {"module.queue": torch.zeros(4, 8)}
        },
        "state_dict.module.encoder_q.",
        {"encoder_k": SIZE, "queue": 1},
    ),
    "debiaspl, published": (
        {
            "epoch": 50,
            "best_acc1": torch.tensor(65.3),
            "state_dict": prefixed("module.ema.backbone.", OTHER)
            | heads("module.ema.classifier")
            | prefixed("module.main.backbone.", MINE)
            | heads("module.main.classifier"),
        },
        "state_dict.module.main.backbone.",
        {"best_acc1": 1, "ema": SIZE + 2, "classifier": 2},
    ),
    "training script of timm": (
        {"state_dict_ema": OTHER | heads("fc"), "state_dict": MINE | heads("fc")},
        "state_dict.",
        {"state_dict_ema": SIZE + 2, "fc": 2},
    ),
    "fixmatch, average first": ({"ema_state_dict": OTHER, "state_dict": MINE}, "state_dict.", {"ema_state_dict": SIZE}),
    "byol, target first": (
        {"model": prefixed("module.target_network.", OTHER) | prefixed("module.online_network.", MINE)},
        "model.module.online_network.",
        {"target_network": SIZE},
    ),
    "byol of lucidrains": (
        prefixed("target_encoder.net.", OTHER)
        | prefixed("online_encoder.net.", MINE)
        | heads("online_predictor.net.0"),
        "online_encoder.net.",
        {"target_encoder": SIZE, "online_predictor": 2},
    ),
    "dino, teacher first": (
        {"teacher": prefixed("backbone.", OTHER), "student": prefixed("module.backbone.", MINE), "epoch": 3},
        "student.module.backbone.",
        {"teacher": SIZE},
    ),
    "moco v3": (
        {
            "state_dict": prefixed("module.momentum_encoder.", OTHER)
            | prefixed("module.base_encoder.", MINE)
            | heads("module.predictor.0")
        },
        "state_dict.module.base_encoder.",
        {"momentum_encoder": SIZE, "predictor": 2},
    ),
    "solo-learn": (
        {"state_dict": prefixed("momentum_backbone.", OTHER) | prefixed("backbone.", MINE)},
        "state_dict.backbone.",
        {"momentum_backbone": SIZE},
    ),
    "lightly": (
        {"state_dict": prefixed("teacher_backbone.", OTHER) | prefixed("student_backbone.", MINE)},
        "state_dict.student_backbone.",
        {"teacher_backbone": SIZE},
    ),
    "lightning, average first": (
        {"state_dict": prefixed("ema_model.module.", OTHER) | prefixed("model.", MINE)},
        "state_dict.model.",
        {"ema_model": SIZE},
    ),
    "torchvision's references": (
        {"model_ema": prefixed("module.", OTHER), "model": prefixed("module.", MINE)},
        "model.module.",
        {"model_ema": SIZE},
    ),
    "words in capitals": ({"modelEMA": OTHER, "net": MINE}, "net.", {"modelEMA": SIZE}),
    "a shadow, and a schema that is no EMA": (
        {"shadow": OTHER, "schema": MINE},
        "schema.",
        {"shadow": SIZE},
    ),
    "the average of a network without a prefix": (prefixed("averaged.", OTHER) | MINE, "", {"averaged": SIZE}),
    "only an average": ({"teacher": prefixed("backbone.", MINE)}, "teacher.backbone.", {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_found_and_accounted_for(tmp_path, layout):
    content, prefix, left = LAYOUTS[layout]
    torch.save(content, tmp_path / "weights.pth")
    trunk, _ = build_trunk(ARCH, 32)
    account = import_weights(trunk, tmp_path / "weights.pth")
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, MINE[name]), name
    assert account.prefix == prefix
    assert account.used == list(MINE)
    assert account.renamed == ({prefix + name: name for name in MINE} if prefix else {})
    assert account.left_groups() == left
    assert len(account.left) == sum(left.values())
    assert account.random == []


def test_the_account_says_what_was_left(tmp_path):
    torch.save(LAYOUTS["moco v2"][0], tmp_path / "moco.pth.tar")
    account = import_weights(build_trunk(ARCH, 32)[0], tmp_path / "moco.pth.tar")
    assert str(account) == (
        f"{SIZE} tensors used, from state_dict.module.encoder_q.* (the trained network, before its moving average "
        f"state_dict.module.encoder_k.*); {SIZE + 11} left (4 of fc, {SIZE + 4} of encoder_k, queue, queue_ptr, "
        "optimizer); 0 of the trunk not in the file"
    )
    account.write(tmp_path / "init.json", weights="moco.pth.tar")
    written = json.loads((tmp_path / "init.json").read_text())
    assert written["weights"] == "moco.pth.tar"
    assert written["why"] == "the trained network, before its moving average state_dict.module.encoder_k.*"
    assert written["renamed"]["state_dict.module.encoder_q.conv1.weight"] == "conv1.weight"
    assert "state_dict.module.queue_ptr" in written["left"]
    assert len(written["used"]) + len(written["left"]) == 2 * SIZE + 11


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"net": MINE}, ""),
        ({"teacher": MINE}, "a moving average by its name"),
        ({"teacher": MINE, "ema": OTHER}, "a moving average by its name; before ema.*"),
        ({"one": MINE, "two": OTHER}, "the first of several, before two.*"),
        ({"aux": OTHER, "main": MINE}, "the trained network by its name, before aux.*"),
        (
            {"ema": OTHER, "one": MINE, "two": OTHER},
            "the trained network, before its moving average ema.*; the first of several, before two.*",
        ),
    ],
    ids=str_of_keys,
)
def test_the_account_says_why_this_network(tmp_path, content, why):
    torch.save(content, tmp_path / "weights.pth")
    trunk, _ = build_trunk(ARCH, 32)
    account = import_weights(trunk, tmp_path / "weights.pth")
    assert account.why == why
    assert (f" ({why})" in str(account)) == bool(why)
    assert torch.equal(trunk.state_dict()["conv1.weight"], MINE["conv1.weight"])


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_torchvisions_weights_give_torchvisions_features(tmp_path, arch):
    torch.manual_seed(0)
    reference = torchvision.models.get_model(arch, weights=None).eval()
    with torch.no_grad():
        for name, value in reference.named_buffers():
            if "num_batches" not in name:
                value.add_(0.1 * torch.rand_like(value))
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    trunk, _ = build_trunk(arch, 64)
    account = import_weights(trunk, tmp_path / "weights.pth")
    assert account.left == ["fc.weight", "fc.bias"]
    reference.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(trunk.eval()(images), reference(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("file_name", "arch", "left"),
    [
        ("resnet18", "resnet18", ["fc.weight", "fc.bias"]),  # timm's ResNets have torchvision's names
        ("test_resnet", "timm/test_resnet", ["fc.weight", "fc.bias"]),
        ("test_convnext", "timm/test_convnext", ["head.fc.weight", "head.fc.bias"]),  # head.norm is the trunk's
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_timms_weights_give_timms_features(tmp_path, file_name, arch, left, suffix):
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    reference = timm.create_model(file_name, num_classes=3).eval()
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(reference.state_dict(), path)
    trunk, _ = build_trunk(arch, 64)
    assert sorted(import_weights(trunk, path).left) == sorted(left)
    reference.reset_classifier(0)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(trunk.eval()(images), reference(images), rtol=1e-5, atol=1e-5)


def test_our_own_checkpoints_give_the_student(tmp_path):
    recipe = Recipe("test", SCIENCE)
    state = build_state(recipe, 5, Ranks())
    with torch.no_grad():
        for parameter in state.student.parameters():
            parameter.add_(1)
    save(tmp_path / "last.pt", state, Progress(), recipe)
    trunk, _ = build_trunk(ARCH, 16)
    account = import_weights(trunk, tmp_path / "last.pt")
    assert account.prefix == "student.trunk."
    momenta = len(list(state.student.parameters()))
    left = {"head": 2, "teacher": SIZE + 2, "phat": 1, "pseudo_labels": 1, "optimizer": momenta}
    assert account.left_groups() == left
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, state.student.state_dict()[f"trunk.{name}"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(tmp_path, dtype):
    state = {name: v.to(dtype) if v.is_floating_point() else v for name, v in MINE.items()}
    torch.save(state, tmp_path / "weights.pth")
    trunk, _ = build_trunk(ARCH, 32)
    import_weights(trunk, tmp_path / "weights.pth")
    for name, value in trunk.state_dict().items():
        assert value.dtype == MINE[name].dtype
        assert torch.equal(value, state[name].to(value.dtype))


def test_counters_may_be_missing(tmp_path):
    old = {name: value for name, value in MINE.items() if not name.endswith("num_batches_tracked")}
    torch.save(prefixed("module.", old), tmp_path / "weights.pth")
    trunk, _ = build_trunk(ARCH, 32)
    account = import_weights(trunk, tmp_path / "weights.pth")
    assert account.used == list(old)
    assert account.random == [name for name in MINE if name not in old]
    assert all(trunk.state_dict()[name] == 0 for name in account.random)


class Dangerous:
    """Unpickled by other means, it would run something."""

    def __reduce__(self):
        return print, ("run",)


# what is wrong → content of the file for ARCH (or another trunk), and what the message says
MISFITS = {
    "a tensor is missing": (
        {name: value for name, value in MINE.items() if name != "layer1.0.bn1.running_var"},
        ARCH,
        r"1 of its \d+ tensors missing \(layer1\.0\.bn1\.running_var\)",
    ),
    "a tensor has another shape": (
        MINE | {"layer1.0.conv2.weight": torch.zeros(1, 3, 3, 3)},
        ARCH,
        r"1 of other shapes \(layer1\.0\.conv2\.weight is \(1, 3, 3, 3\) there and \(16, 16, 3, 3\) in the trunk\)",
    ),
    "a stem for large images": (
        {"state_dict": prefixed("module.", random_state("resnet18"))},
        "resnet18-small",
        r"conv1\.weight is \(64, 3, 7, 7\) there and \(64, 3, 3, 3\).* It fits science\.arch=resnet18$",
    ),
    "a deeper network": (
        random_state("resnet34"),
        "resnet18",
        r"that it does not have \(layer1\.2\.conv1\.weight.* It fits science\.arch=resnet34$",
    ),
    "a shallower network": (random_state("resnet18"), "resnet34", r"missing.* It fits science\.arch=resnet18$"),
    "another family": (random_state("wrn-28-2"), "resnet18", r"missing.* It fits science\.arch=wrn-28-2$"),
    "no network at all": (
        {"probs": torch.zeros(3)},
        ARCH,
        r"Set science\.arch .* or give another --init; it holds probs$",
    ),
    "no table": ([torch.zeros(2)], ARCH, "holds no table of weights"),
    "no tensors": ({"epoch": 3}, ARCH, "holds no table of weights"),
    "code": (MINE | {"extra": Dangerous()}, ARCH, "more than tensors, none of which is run here"),
    "an object": ({"state_dict": MINE, "args": argparse.Namespace(lr=1)}, ARCH, "save its table of tensors alone"),
}


@pytest.mark.parametrize("problem", MISFITS)
def test_misfits_are_refused_and_change_nothing(tmp_path, problem, capsys):
    content, arch, message = MISFITS[problem]
    torch.save(content, tmp_path / "weights.pth")
    trunk, _ = build_trunk(arch, 32)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    with pytest.raises(WeightsError, match=r"weights\.pth") as caught:
        import_weights(trunk, tmp_path / "weights.pth")
    caught.match(message)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    assert capsys.readouterr().out == ""


# what is wrong → content of the file, and what the message says
NONSENSE = {
    "NaN": (changed(lambda v: v * float("nan")), "NaN or infinite numbers in layer1.0.conv2.weight. Take"),
    "one infinite number": (
        changed(lambda v: v.flatten().index_fill(0, torch.tensor([7]), float("-inf")).view(v.shape)),
        "NaN or infinite numbers in layer1.0.conv2.weight. Take a file from before its training diverged. Or give",
    ),
    "too large for float32": (
        changed(lambda v: v.double() * 1e300),
        "NaN or infinite numbers in layer1.0.conv2.weight. Take",
    ),
    "whole numbers": (changed(lambda v: v.to(torch.int8)), "torch.int8, not floating-point numbers, in layer1"),
    "bits": (changed(lambda v: v > 0), "torch.bool, not floating-point numbers, in layer1"),
    "complex numbers": (
        changed(lambda v: v.to(torch.complex64)),
        "complex numbers (torch.complex64) in layer1.0.conv2.weight. Save",
    ),
    "sparse": (
        changed(lambda v: v.to_sparse()),
        "no plain table of numbers (sparse, or without values) in layer1.0.conv2.weight. Save",
    ),
    "no values": (
        changed(lambda v: v.to("meta")),
        "no plain table of numbers (sparse, or without values) in layer1.0.conv2.weight. Save",
    ),
    "a complex counter": (
        changed(lambda v: v.to(torch.complex64), ["bn1.num_batches_tracked"]),
        "complex numbers (torch.complex64) in bn1.num_batches_tracked. Save",
    ),
    "all of it, under a prefix": (
        prefixed("module.", {name: v.double() * float("inf") for name, v in MINE.items()}),
        "NaN or infinite numbers in module.conv1.weight, module.bn1.weight, module.bn1.bias, …",
    ),
}


@pytest.mark.parametrize("problem", NONSENSE)
def test_nonsense_is_refused_by_name_and_changes_nothing(tmp_path, problem):
    content, message = NONSENSE[problem]
    torch.save(content, tmp_path / "weights.pth")
    trunk, _ = build_trunk(ARCH, 32)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        import_weights(trunk, tmp_path / "weights.pth")
    assert str(caught.value).startswith(f"{tmp_path / 'weights.pth'} cannot be used: {message}")
    assert str(caught.value).endswith(" Or give another --init.")
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_nonsense_that_is_not_used_does_not_matter(tmp_path):
    content = {"ema": {name: value * float("nan") for name, value in MINE.items()}, "net": MINE} | heads("net.fc")
    torch.save(content | {"step": torch.tensor(3)}, tmp_path / "weights.pth")
    assert import_weights(build_trunk(ARCH, 32)[0], tmp_path / "weights.pth").prefix == "net."


@pytest.mark.timeout(120)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"device.{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"folder.{suffix}").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(WeightsError, match=f"Cannot read {path}: not a regular file"):
            import_weights(build_trunk(ARCH, 32)[0], path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_damaged_files_are_named(tmp_path, damage, suffix):
    safetensors = pytest.importorskip("safetensors.torch") if suffix == "safetensors" else None
    path = tmp_path / f"weights.{suffix}"
    if damage != "missing":
        torch.save(MINE, path) if safetensors is None else safetensors.save_file(MINE, path)
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"\xff" * 4096}[damage])
    with pytest.raises(WeightsError, match="There is no weights file" if damage == "missing" else "damaged") as caught:
        import_weights(build_trunk(ARCH, 32)[0], path)
    caught.match(f"weights.{suffix}")


def test_safetensors_without_its_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.torch", raising=False)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[timm\]'"):
        import_weights(build_trunk(ARCH, 32)[0], tmp_path / "weights.safetensors")


def test_a_transformer_of_another_size_is_refused(tmp_path):
    pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    torch.save(build_trunk("timm/test_vit", 64)[0].state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"pos_embed is .* \(and science\.size, if that shapes the network\)"):
        import_weights(build_trunk("timm/test_vit", 32)[0], tmp_path / "weights.pth")


def test_states_begin_random_and_alike():
    """What --init does not fill depends on the seed alone."""
    one, two = (build_state(Recipe("test", dataclasses.replace(SCIENCE, dropout=d)), 5, Ranks()) for d in (0.0, 0.5))
    for a, b in zip(one.student.parameters(), two.student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_starts_from_them_and_keeps_the_account(demo_data, tmp_path, capsys):
    """--init through the trainer: printed once, every name in init.json, and the teacher starts there too."""
    torch.save(prefixed("module.", MINE) | heads("module.fc"), tmp_path / "weights.pth")
    fields = [f"engine.data={demo_data}", "engine.pipeline=torchvision", f"science.init={tmp_path / 'weights.pth'}"]
    recipe = override(find("demo"), [*fields, "science.lr=1e-9", "science.ema=1", "engine.threads=1"])
    trainer = Trainer(build_run(recipe, *read_data(recipe), Ranks()), tmp_path / "run")
    trainer.request_stop()  # after the first step
    assert not trainer.fit()
    trainer.close()
    assert f"weights.pth: {SIZE} tensors used, from module.*; 2 left (2 of fc)" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/init.json").read_text())["left"] == ["module.fc.weight", "module.fc.bias"]
    content = read(tmp_path / "run/last.pt")
    for name in MINE:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(content["student"][f"trunk.{name}"], MINE[name])
            assert torch.equal(content["teacher"][f"trunk.{name}"], MINE[name])
