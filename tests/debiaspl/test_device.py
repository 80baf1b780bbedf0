"""The device that a run takes by itself: never the CPU of a machine whose GPU is only not usable; its precision."""

from pathlib import Path

import pytest
import torch

from debiaspl.device import automatic_precision, find_device
from pipelines.errors import UserError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A machine with two GPUs and a driver of version 535.104.05, whose user hides nothing."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 2023\nGCC version: 12\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", too_old)
    return {"devices": tmp_path / "dev", "processes": tmp_path / "proc"}


def too_old() -> None:
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020). Please update it.\nMore.")


def test_a_gpu_that_cannot_be_used_is_an_error_that_says_why_and_how_to_go_on(machine, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(UserError) as raised:
        find_device("auto", **machine)
    said = str(raised.value)
    assert "has a GPU (nvidia0, nvidia1) that torch cannot use" in said
    assert "The NVIDIA driver on your system is too old (found version 12020). " in said
    assert f"The driver is 535.104.05; torch {torch.__version__} is built for CUDA 13.0." in said
    assert said.endswith("or train on the CPU with --set engine.device=cpu")


def test_a_torch_without_cuda_and_a_driver_that_is_not_loaded_are_named(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match=r"The driver is not loaded; torch .* is built without CUDA"):
        find_device("auto", devices=machine["devices"], processes=tmp_path / "none")


def test_who_asks_for_the_cpu_or_hides_the_gpus_gets_the_cpu(machine, monkeypatch):
    assert find_device("cpu", **machine) == "cpu"
    for hiding in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hiding)
        assert find_device("auto", **machine) == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError):
        find_device("auto", **machine)


def test_without_a_gpu_auto_is_the_cpu_and_cuda_an_error(machine, tmp_path):
    assert find_device("auto", devices=tmp_path, processes=tmp_path) == "cpu"
    with pytest.raises(UserError, match=r"finds no usable GPU. Use --set engine\.device=cpu"):
        find_device("cuda", devices=tmp_path, processes=tmp_path)


def test_a_usable_gpu_is_taken(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto", **machine) == find_device("cuda", **machine) == "cuda"
    assert find_device("cpu", **machine) == "cpu"


@pytest.mark.parametrize(("major", "expected"), [(7, "float16"), (8, "bfloat16"), (9, "bfloat16")])
def test_bfloat16_only_where_it_is_not_emulated(monkeypatch, major, expected):
    """Compute capability 7.5 emulates it, and says that it has it, unless asked precisely."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    properties = type("Properties", (), {"major": major})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert automatic_precision(torch.device("cuda")) == expected
    assert automatic_precision(torch.device("cpu")) == "float32"
