"""CUDA graphs, as far as a CPU can tell: the option needs a GPU, and outputs that are overwritten do no harm."""

import dataclasses

import pytest
import torch
from torch.utils import _pytree as pytree

from debiaspl.build import build_state, compilation
from debiaspl.config import ConfigError, Engine, Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import Step
from tests.support.steps import CLASSES, SCIENCE, arrays, batches, tables


class Replayed:
    """A pass that gives its outputs in the same memory every time, as the replay of a graph does.

    The loss that is differentiated keeps its own.
    """

    def __init__(self, function):
        self._function, self._memory = function, None

    def __call__(self, *arguments):
        outputs, structure = pytree.tree_flatten(self._function(*arguments))
        if self._memory is None:
            self._memory = [output.detach().clone() for output in outputs]
        for memory, output in zip(self._memory, outputs, strict=True):
            memory.copy_(output.detach())
        kept = [
            output if output.requires_grad else memory for memory, output in zip(self._memory, outputs, strict=True)
        ]
        return pytree.tree_unflatten(kept, structure)


def end_of_steps(replayed: bool, cuda_graphs: bool) -> dict[str, torch.Tensor]:
    science = dataclasses.replace(SCIENCE, threshold=0.25, lr=0.01)
    state = build_state(Recipe("test", science), CLASSES, Ranks())
    step = Step(state, tables(), science, Ranks(), dtype=torch.float32, compile=False, cuda_graphs=cuda_graphs)
    if replayed:
        step._teacher_pass, step._student_pass = Replayed(step._teacher_pass), Replayed(step._student_pass)
    metrics = [step(batches(science, number), number) for number in range(3)]
    return arrays(state) | {"metrics": torch.stack(metrics)}


def test_overwritten_outputs_change_nothing():
    expected = end_of_steps(replayed=False, cuda_graphs=False)
    for name, value in end_of_steps(replayed=True, cuda_graphs=True).items():
        assert torch.equal(value, expected[name]), name
    # without the copies the first group would learn from the second one's targets
    assert not torch.equal(end_of_steps(replayed=True, cuda_graphs=False)["metrics"], expected["metrics"])


def test_a_cpu_is_told_at_once():
    recipe = Recipe("test", SCIENCE, Engine(compile="cuda-graphs"))
    with pytest.raises(ConfigError, match=r"cuda-graphs needs a CUDA device.*engine\.compile=on or off"):
        compilation(recipe, Ranks())
    assert compilation(recipe, Ranks(device=torch.device("cuda"))) == "cuda-graphs"


@pytest.mark.parametrize(("wanted", "on_a_cpu", "on_a_gpu"), [("auto", "off", "on"), ("on", "on", "on")])
def test_automatic_compilation_depends_on_the_device(wanted, on_a_cpu, on_a_gpu):
    recipe = Recipe("test", SCIENCE, Engine(compile=wanted))
    assert compilation(recipe, Ranks()) == on_a_cpu
    assert compilation(recipe, Ranks(device=torch.device("cuda"))) == on_a_gpu
