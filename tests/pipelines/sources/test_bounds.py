"""Bounds hold where they are stated, and the message names section, field, bound and value."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from pipelines.errors import ConfigError
from pipelines.sources.bounds import Above, AtLeast, Within, check_bounds


@dataclass(frozen=True)
class Some:
    share: Annotated[float, Within(0, 1)] = 0.5
    count: Annotated[int, AtLeast(1)] = 1
    rate: Annotated[float, Above(0)] = 0.1
    free: float = -7.0


@pytest.mark.parametrize("good", [{"share": 0.0}, {"share": 1.0}, {"count": 1}, {"rate": 1e-300}, {"free": 1e9}])
def test_what_lies_within_passes(good):
    check_bounds("some", Some(**good))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"share": 1.1}, "some.share must be within 0 and 1 (got 1.1)."),
        ({"share": -0.1}, "some.share must be within 0 and 1 (got -0.1)."),
        ({"share": float("nan")}, "some.share must be within 0 and 1 (got nan)."),
        ({"count": 0}, "some.count must be at least 1 (got 0)."),
        ({"rate": 0.0}, "some.rate must be above 0 (got 0.0)."),
    ],
)
def test_what_lies_outside_is_refused(bad, message):
    with pytest.raises(ConfigError) as caught:
        check_bounds("some", Some(**bad))
    assert str(caught.value) == message
