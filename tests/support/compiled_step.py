"""Runs the compiled step beside the eager one and prints what the tests assert, as JSON.

A process of its own (python -m tests.support.compiled_step traced): the tests' shape checks cannot be compiled.
"""

import dataclasses
import functools
import json
import sys

import torch
from torch._dynamo.utils import counters

from debiaspl.build import build_state
from debiaspl.config import Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.models.resnet import BasicBlock, ResNet
from debiaspl.models.trunks import TRUNKS
from debiaspl.step import METRICS, Step
from tests.support.steps import CLASSES, HEAD, SMALL, arrays, batches, relative_error, tables

STEPS = 4
TRUNKS["two blocks"] = lambda: ResNet(BasicBlock, (1, 1), width=8, small=True)  # few kernels to compile
SMALLER = dataclasses.replace(SMALL, arch="two blocks")


def compare(
    science: Science,
    cuda_graphs: bool = False,
    dtype: torch.dtype = torch.float32,
    steps_to_do: int = STEPS,
    compared: int = len(METRICS),
) -> dict[str, float]:
    """Eager and compiled steps as the trainer makes them: new learning rates, groups in turn, evaluation in eval mode.

    Largest errors of the losses and the state, graph breaks, graphs, and how many of them were compiled after step 2.
    """
    torch._dynamo.reset()
    counters.clear()
    eager, compiled = (build_state(Recipe("test", science), CLASSES, Ranks()) for _ in range(2))
    for state in (eager, compiled):
        state.student.head.weight.data *= HEAD
    setup = {"science": science, "ranks": Ranks(), "dtype": dtype}
    steps = [
        Step(eager, tables(science.clip), **setup, compile=False),
        Step(compiled, tables(science.clip), **setup, compile=True, cuda_graphs=cuda_graphs),
    ]
    worst, compiled_by_step = 0.0, []
    for number in range(steps_to_do):
        data = batches(science, seed=number)
        for state in (eager, compiled):
            state.optimizer.param_groups[0]["lr"].fill_(0.01 / (number + 1))
        metrics = [step(data, number) for step in steps]
        worst = max(worst, relative_error(metrics[1][:compared], metrics[0][:compared]))
        if number % 2:
            for state in (eager, compiled):
                state.pseudo_labels.zero_()
                state.student.eval()
                with torch.no_grad():
                    state.student(data[0].labeled.pixels[0])
                state.student.train()
        compiled_by_step.append(counters["stats"]["unique_graphs"])
    expected = arrays(eager)
    return {
        "losses": worst,
        "state": max(relative_error(value, expected[name]) for name, value in arrays(compiled).items()),
        "graph_breaks": sum(counters["graph_break"].values()),
        "graphs": compiled_by_step[-1],
        "compiled_after_step_2": compiled_by_step[-1] - compiled_by_step[1],
    }


def main(which: str) -> None:
    two_groups = dataclasses.replace(SMALLER, dropout=0.0, compat="upstream", clip=True)
    one_group = dataclasses.replace(SMALLER, dropout=0.5, labeled_batch=4)
    torch.set_default_dtype(torch.float64)  # in float32, six steps make a hundredth of a rounding error
    match which:
        case "traced":  # neither generated nor compiled: seconds instead of a minute
            torch.compile = functools.partial(torch.compile, backend="aot_eager")
            found = compare(two_groups)
        case "without dropout":
            found = compare(two_groups)
        case "with dropout":
            torch._inductor.config.fallback_random = True  # inductor's own random numbers are others than eager's
            found = compare(one_group, cuda_graphs=True)
        case "in bfloat16":
            # As on a GPU: under autocast. Compiled code rounds to bfloat16 elsewhere, which may change a pseudo-label:
            # compared are the losses that depend on none.
            torch.set_default_dtype(torch.float32)
            supervised = dataclasses.replace(one_group, dropout=0.0, lambda_u=0.0, lambda_cld=1e-9)
            found = compare(supervised, dtype=torch.bfloat16, steps_to_do=3, compared=2)
        case _:
            raise ValueError(which)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
