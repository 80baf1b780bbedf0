"""One optimisation step: groups, BatchNorm, p̂, the teacher, and nothing read from the device."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch

from bench.step import facts as step_facts
from debiaspl.build import build_state
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import METRICS, Step
from pipelines.batch import Batch, Views
from tests.support.steps import CLASSES, SCIENCE, batches, build, tables


def test_one_step_moves_student_teacher_and_phat():
    state, step = build(SCIENCE)
    before = {name: value.clone() for name, value in state.student.state_dict().items()}
    metrics = step(batches(SCIENCE), 0)
    assert metrics.shape == (len(METRICS),)
    assert torch.isfinite(metrics).all()
    after, teacher = state.student.state_dict(), state.teacher.state_dict()
    for name, value in after.items():
        if value.is_floating_point():
            assert not torch.equal(value, before[name]), name
            torch.testing.assert_close(teacher[name], 0.9 * before[name] + 0.1 * value)
        else:
            assert teacher[name] == value == 1
    assert not state.teacher.training
    assert state.phat.shape == (1, CLASSES)
    assert state.phat.max() > 1 / CLASSES
    assert state.pseudo_labels[:, 0].sum(-1).tolist() == [24, 24]  # every unlabeled sample, before and after debiasing


@pytest.mark.parametrize("compat", ["upstream", "paper"])
def test_phat_has_one_row_per_group_or_one_for_all(compat):
    science = dataclasses.replace(SCIENCE, compat=compat)
    state, step = build(science)
    step(batches(science), 0)
    assert len(state.phat) == {"upstream": 2, "paper": 1}[compat]
    torch.testing.assert_close(state.phat.sum(-1), torch.ones(len(state.phat)))
    if compat == "upstream":
        assert not torch.equal(state.phat[0], state.phat[1])


def test_paper_phat_is_the_mean_over_groups():
    upstream, step = build(dataclasses.replace(SCIENCE, phat_scope="group"))
    step(batches(SCIENCE), 0)
    paper, step = build(dataclasses.replace(SCIENCE, phat_scope="all"))
    step(batches(SCIENCE), 0)
    torch.testing.assert_close(paper.phat[0], upstream.phat.mean(0))


def test_only_the_first_group_moves_batchnorm_statistics():
    first, other = batches(SCIENCE, seed=1), batches(SCIENCE, seed=2)
    statistics = []
    for second_group in (first[1], other[1]):
        state, step = build(SCIENCE)
        step([first[0], second_group], 0)
        statistics.append(dict(state.student.named_buffers()))
    for name, value in statistics[0].items():
        assert torch.equal(value, statistics[1][name]), name


def test_steps_do_not_depend_on_the_global_generator():
    results = []
    for seed in (1, 2):
        state, step = build(SCIENCE)
        torch.manual_seed(seed)
        step(batches(SCIENCE), 3)
        results.append(torch.cat([p.flatten() for p in state.student.parameters()]))
    assert torch.equal(*results)


def test_clip_targets_change_the_loss():
    plain = build(SCIENCE)[1](batches(SCIENCE), 0)
    science = dataclasses.replace(SCIENCE, clip=True)
    with_clip = build(science)[1](batches(science), 0)
    at = METRICS.index("clip_rate")
    assert plain[at] == 0
    assert with_clip[at] > 0.3
    assert plain[METRICS.index("unsupervised")] != with_clip[METRICS.index("unsupervised")]


@pytest.mark.parametrize(
    ("device", "multi_view", "precision"),
    [("cuda", True, "bfloat16"), ("cuda", False, "float16"), ("cpu", True, "float16"), ("cpu", False, "bfloat16")],
)
def test_no_value_is_read_on_the_host(device, multi_view, precision):
    science = dataclasses.replace(SCIENCE, multi_view=multi_view, clip=True)
    assert step_facts.host_reads(science, device, precision) == []


@pytest.mark.parametrize(
    "read", [lambda metrics: metrics.tolist(), lambda metrics: metrics.nonzero(), lambda metrics: metrics.cpu()]
)
def test_a_read_would_be_noticed(read):
    assert len(step_facts.host_reads(SCIENCE, run=lambda step, batches: read(step(batches, 0)))) == 1


def test_the_teachers_update_is_five_dispatcher_calls_at_most():
    """Whatever the number of tensors: resnet8-small has 50 of them."""
    state, _ = build(SCIENCE)
    assert len(state.teacher.state_dict()) > 30
    assert 1 <= len(step_facts.teacher_update_calls(state, SCIENCE)) <= 5


def test_gradients_reach_the_flat_tensor_in_one_call_for_all_parameters():
    """Whatever their number; the first group's replace those of the step before, the others' are added."""
    state, step = build(SCIENCE)
    parameters = list(state.student.parameters())
    step._gradients.fill_(7.0)
    for first, call, groups in ((True, "aten._foreach_copy_.default", 1), (False, "aten._foreach_add_.List", 2)):
        loss = torch.stack([(parameter**2).sum() for parameter in parameters]).sum()
        with step_facts.Calls() as calls:
            step._differentiate(loss, first)
        in_place = [name for name in calls.names if name.partition(".")[2].partition(".")[0].endswith("_")]
        assert in_place == [call]
        for parameter in parameters:
            torch.testing.assert_close(parameter.grad, groups * 2 * parameter.detach() / SCIENCE.groups)


def test_a_frozen_parameter_has_no_gradient_and_stops_no_step():
    state = build_state(Recipe("test", SCIENCE), CLASSES, Ranks())
    state.student.head.bias.requires_grad_(False)
    step = Step(state, tables(), SCIENCE, Ranks(), dtype=torch.float32, compile=False)
    step(batches(SCIENCE), 0)
    assert not state.student.head.bias.grad.any()
    assert state.student.head.weight.grad.any()


def test_thirty_steps_keep_all_addresses():
    science = dataclasses.replace(SCIENCE, labeled_batch=4, group=2, mu=1)
    state, step = build(science)
    before = step_facts.addresses(state)  # from the very start: CUDA graphs may record any step
    assert len(set(before.values())) == len(before)
    for number in range(30):
        step(batches(science, seed=number), number)
    assert step_facts.addresses(state) == before


LONG = [pytest.param(which, marks=pytest.mark.soak) for which in ("without dropout", "with dropout", "in bfloat16")]
"""Each takes a minute to compile."""


@pytest.fixture(scope="module", params=["traced", *LONG])
def compiled(request) -> tuple[str, dict[str, float]]:
    """Which steps, and what tests/support/compiled_step.py found of them."""
    command = [sys.executable, "-m", "tests.support.compiled_step", request.param]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return request.param, json.loads(done.stdout)


def test_compiled_equals_eager(compiled):
    """float64, four steps; what is left is the order of sums."""
    which, found = compiled
    if which == "in bfloat16":  # three steps; it keeps 8 bits of a value, and a mean over 8 labels most of two more
        assert found["losses"] < 2**-6
    else:
        assert found["losses"] < 1e-9
        assert found["state"] < 1e-9


def test_each_pass_is_one_graph_compiled_once(compiled):
    _, found = compiled
    assert found["graph_breaks"] == 0
    assert found["graphs"] == 2
    assert found["compiled_after_step_2"] == 0


@pytest.mark.parametrize(("chosen", "spins"), [({}, "1000"), ({"OMP_WAIT_POLICY": "passive"}, "0")])
def test_idle_openmp_threads_leave_the_cores_to_the_loader(chosen, spins):
    """GNU's OpenMP, which torch brings along, reads this once, when it is loaded."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    done = subprocess.run(
        [sys.executable, "-c", "import debiaspl.step"],
        env={**environment, **chosen, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP")
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


def test_overfits_eight_images():
    science = dataclasses.replace(SCIENCE, labeled_batch=8, group=8, mu=1, dropout=0.0, lambda_u=0.0, lambda_cld=0.0)
    _, step = build(science)
    pixels = batches(science)[0].labeled.pixels
    labeled = Views(pixels, torch.arange(8))
    batch = Batch(labeled, Views(pixels.repeat(4, 1, 1, 1, 1), torch.arange(8)))
    losses = [step([batch], number)[0].item() for number in range(60)]
    assert losses[-1] < 0.02 < 1 < losses[0]
