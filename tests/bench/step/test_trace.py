"""FLOPs and memory of a recipe's step, without a GPU: the published hardware advice holds."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.__main__ import main
from bench.step.trace import GIB, Memory, Trace, dali_bytes, trace
from debiaspl.overrides import override
from debiaspl.recipes import find


@pytest.fixture(scope="module")
def imagenet() -> Trace:
    return trace(find("imagenet-1p"), groups=1)


@pytest.mark.soak
def test_flops_of_a_step(imagenet: Trace) -> None:
    """88 crops forward and backward, 80 forward: 2.14 and 0.65 TFLOP, of 8.2 GFLOP per crop and forward."""
    assert imagenet.student_flops == pytest.approx(2.14e12, rel=0.03)
    assert imagenet.teacher_flops == pytest.approx(0.65e12, rel=0.03)
    assert imagenet.teacher_flops == pytest.approx(80 * 2 * 4.089e9, rel=0.01)
    assert imagenet.parameters == 25_557_032


@pytest.mark.soak
def test_8_and_40_images_fit_11_gb(imagenet: Trace) -> None:
    assert (imagenet.groups, imagenet.labeled, imagenet.unlabeled, imagenet.dtype) == (1, 8, 40, "bfloat16")
    assert 3.8 * GIB < imagenet.peak_bytes < 4.5 * GIB
    assert imagenet.fits(11)
    # four float32 numbers per weight: student, teacher, gradient, momentum; images and tables beside
    assert imagenet.resident_bytes > 4 * 4 * imagenet.parameters


@pytest.mark.soak
def test_16_and_80_images_in_one_group_fit_16_gb(imagenet: Trace) -> None:
    found = trace(override(find("imagenet-1p"), ["science.group=16"]), groups=1)
    assert (found.labeled, found.unlabeled) == (16, 80)
    assert found.fits(16)
    assert not found.fits(8)
    assert found.student_flops == pytest.approx(2 * imagenet.student_flops, rel=1e-4)  # CLD's product grows faster


@pytest.mark.soak
def test_more_groups_take_turns_and_hardly_more_memory(imagenet: Trace) -> None:
    found = trace(find("imagenet-1p"), groups=2)
    assert found.student_flops == 2 * imagenet.student_flops
    assert imagenet.peak_bytes < found.peak_bytes < imagenet.peak_bytes + 0.1 * GIB


@pytest.mark.soak
def test_float32_takes_nearly_twice_as_much(imagenet: Trace) -> None:
    found = trace(override(find("imagenet-1p"), ["engine.precision=float32"]), groups=1)
    assert found.dtype == "float32"
    assert 1.6 < found.peak_bytes / imagenet.peak_bytes < 2
    assert found.student_flops == imagenet.student_flops


@pytest.mark.soak
def test_dalis_memory_is_counted_in(imagenet: Trace) -> None:
    mib = 2**20
    assert 0.4 * GIB < imagenet.dali_bytes < 1.5 * GIB
    assert imagenet.needed_bytes == imagenet.peak_bytes + imagenet.dali_bytes + GIB
    as_before = dali_bytes(override(find("imagenet-1p"), ["dali.threads=26", "dali.preallocate_mb=64"]))
    assert as_before - imagenet.dali_bytes == 2 * (26 * 64 - 6 * 16) * mib  # two pipelines, memory for each thread
    one_more = dali_bytes(override(find("imagenet-1p"), ["dali.prefetch=6"]))
    assert one_more - imagenet.dali_bytes == (8 * 1 + 40 * 4) * 224 * 224 * 3
    for none in ("engine.pipeline=ffcv", "dali.cut=cpu", "dali.decode=cpu"):
        assert dali_bytes(override(find("imagenet-1p"), [none])) == 0


def test_memory_follows_storages() -> None:
    with FakeTensorMode(), Memory() as memory:
        kept = torch.empty(1000, dtype=torch.uint8)  # rounded up to 1024
        view = kept[:10]
        assert (memory.now, memory.peak) == (1024, 1024)
        passing = torch.empty(4096, dtype=torch.uint8)
        assert memory.now == 1024 + 4096
        del passing
        again = torch.empty(512, dtype=torch.uint8)
        assert (memory.now, memory.peak) == (1024 + 512, 1024 + 4096)
        del kept, again
        assert memory.now == 1024  # the view holds the storage
        assert view.numel() == 10


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--trace", "demo", "--groups", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2 × (4 labeled + 28 unlabeled)" in printed
    assert "GiB" in printed


def test_unknown_fields_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "--trace", "demo", "--set", "science.grup=4"]) == 2
    assert "science.group" in capsys.readouterr().err
