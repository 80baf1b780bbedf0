"""Bounds of options, stated at the field (``Annotated[float, Within(0, 1)]``) and checked by one function."""

from dataclasses import dataclass
from typing import Any, get_type_hints

from pipelines.errors import ConfigError


@dataclass(frozen=True)
class AtLeast:
    """A number that is ``low`` or more."""

    low: float

    def __contains__(self, value: float) -> bool:
        return value >= self.low

    def __str__(self) -> str:
        return f"at least {self.low}"


@dataclass(frozen=True)
class Above:
    """A number that is more than ``low``."""

    low: float

    def __contains__(self, value: float) -> bool:
        return value > self.low

    def __str__(self) -> str:
        return f"above {self.low}"


@dataclass(frozen=True)
class Within:
    """A number from ``low`` to ``high``, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"within {self.low} and {self.high}"


def check_bounds(section: str, options: Any) -> None:
    """Raises ConfigError, naming ``section.field``, where a field of a dataclass is outside its bounds."""
    for name, type_ in get_type_hints(type(options), include_extras=True).items():
        value = getattr(options, name)
        for bounds in getattr(type_, "__metadata__", ()):
            if value not in bounds:
                raise ConfigError(f"{section}.{name} must be {bounds} (got {value}).")
