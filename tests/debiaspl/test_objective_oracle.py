"""Losses, gradients and p̂ of a whole step against the numpy oracle, over random and awkward configurations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import objective as oracle
from tests.support.oracle_cases import CHOICES, FLOAT32, FLOAT64, check, draw


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1), choice=st.fixed_dictionaries({k: st.sampled_from(v) for k, v in CHOICES.items()})
)
def test_a_step_equals_the_oracle(seed, choice):
    case = draw(seed, choice)
    check(case, torch.float64, FLOAT64)
    check(case, torch.float32, FLOAT32)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("clip", [False, True])
def test_the_oracles_gradients_equal_its_finite_differences(views, clip):
    choice = {name: values[0] for name, values in CHOICES.items()}
    choice |= {"classes": 5, "multi_view": views == 2, "labeled": 2, "mu": 3, "tau": 0.4, "threshold": 0.5}
    case = draw(1, choice | {"lambda_cld": 0.3, "clip": clip, "scale": 2.0, "one_class": False})
    numbers, (group,) = case.science.objective, case.groups
    new_phat = oracle.updated_phat(numbers, case.phat, case.groups)
    found = oracle.total_loss(numbers, group, case.phat[0], new_phat[0])
    for name in ("labeled", "strong"):
        gradient, logits = getattr(found, name), getattr(group, name)
        for at in np.ndindex(logits.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = logits.copy()
                moved[at] += step
                changed = group._replace(**{name: moved})
                sides.append(oracle.total_loss(numbers, changed, case.phat[0], new_phat[0]).losses[0])
            assert gradient[at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-7)
