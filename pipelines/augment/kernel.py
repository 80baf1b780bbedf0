"""``@kernel``: a function compiled by numba that runs without the interpreter's lock."""

import inspect
from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(*, cache: bool) -> Callable[[Callable[..., Any]], Any]:
    """Compile the decorated function on its first call.

    ``cache`` keeps the machine code on disk. Only for functions that call nothing outside their own file: numba does
    not notice changes of other files and would go on running the old code.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        # Under pytest the functions of this package are wrapped in run-time type checks, which numba cannot compile.
        return njit(nogil=True, cache=cache)(inspect.unwrap(function))

    return decorate
