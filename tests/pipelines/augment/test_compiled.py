"""RandAugment that is compiled in the background: who serves when, and the same bytes from whoever does."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.augment import compiled, gpu
from pipelines.augment.compiled import UNCOMPILED, Augmenter
from tests.support.augmented import by_cpu, pictures, random_draws

SHAPE = (2, 3, 20, 24)
OTHER = (2, 2, 20, 24)


class Compiler:
    """Takes ``in_few_kernels``' place: its product counts its calls, the first of which waits until it may end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.calls: list[tuple[str, torch.Size]] = []
        self.error: Exception | None = None

    def __call__(self) -> Callable[[Tensor, gpu.Parameters], Tensor]:
        def run(pixels: Tensor, parameters: gpu.Parameters) -> Tensor:
            self.calls.append((threading.current_thread().name, pixels.shape))
            if len(self.calls) == 1:
                assert self.may_end.wait(60)
                if self.error:
                    raise self.error
            return gpu.apply(pixels, parameters)

        return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    made = Compiler()
    monkeypatch.setattr(compiled, "in_few_kernels", made)
    yield made
    made.may_end.set()


def augment(augmenter: Augmenter, batches: int, shape: tuple[int, ...] = SHAPE) -> None:
    """Augments so many batches, and compares them with the CPU executor's."""
    rng = np.random.default_rng(batches)
    images, (op, level) = (
        pictures(rng, shape[0] * shape[1], *shape[2:]).reshape(*shape, 3),
        random_draws(rng, *shape[:2]),
    )
    expected = by_cpu(images, op, level)
    for _ in range(batches):
        pixels = torch.from_numpy(images.copy())
        augmenter(pixels, op, level)
        np.testing.assert_array_equal(pixels.numpy(), expected)


def test_the_compiled_code_serves_once_it_has_run(compiler: Compiler, capsys: pytest.CaptureFixture[str]) -> None:
    augmenter = Augmenter(compile=True)
    augment(augmenter, UNCOMPILED - 1)
    assert not compiler.calls
    augment(augmenter, 3)  # the first of these starts the compiler, which is not waited for
    compiler.may_end.set()
    augmenter.close()
    flat = torch.Size((6, 20, 24, 3))
    assert compiler.calls == [("augment-compiler", flat)]
    augment(augmenter, 2)
    assert compiler.calls[1:] == 2 * [(threading.current_thread().name, flat)]
    augment(augmenter, 2, OTHER)  # would have to be compiled anew, while the batch waits
    assert len(compiler.calls) == 3
    assert capsys.readouterr().err == "RandAugment is being compiled for cpu; training goes on meanwhile.\n"


def test_what_cannot_be_compiled_stays_as_it_is(compiler: Compiler, capsys: pytest.CaptureFixture[str]) -> None:
    compiler.error = RuntimeError("no compiler is installed")
    compiler.may_end.set()
    augmenter = Augmenter(compile=True)
    augment(augmenter, UNCOMPILED)
    augmenter.close()
    augment(augmenter, 2)
    assert len(compiler.calls) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        "RandAugment stays uncompiled, which is slower: no compiler is installed"
    ]


def test_nothing_is_compiled_where_nobody_asks_for_it(compiler: Compiler) -> None:
    augmenter = Augmenter(compile=False)
    augment(augmenter, UNCOMPILED + 2)
    augmenter.close()
    assert not compiler.calls
