"""What a user can mend: each message says what is wrong, which value, and what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from pipelines.names import readable


class UserError(Exception):
    """Base of all errors that an entry point prints as one message, without a traceback, before it exits with 2."""

    def __str__(self) -> str:
        """Returns the message; whatever names are in it, it has no control characters but its line breaks."""
        return "\n".join(map(readable, super().__str__().split("\n")))


class DataError(UserError, ValueError):
    """Files, folders, index files or their contents are not what they should be."""


class ConfigError(UserError, ValueError):
    """A recipe, option or value that does not exist or does not fit."""


class MissingDependency(UserError, ImportError):
    """An optional package (or system library) is not installed; the message names the command that installs it."""


@contextmanager
def requires(package: str, command: str, who: str) -> Iterator[None]:
    """Turns the absence of ``package``, where the block imports it, into MissingDependency.

    The message says that ``who`` needs the package, and the ``command`` that installs it. Where another module is
    missing, the installation is broken: that error passes through.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # Without any package of a namespace (nvidia.dali's), it is already the namespace that is not found.
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise
        raise MissingDependency(f"{who} needs {package}, which is not installed. Run: {command}") from error


def is_installed(package: str) -> bool:
    """Returns whether a package is there, which is not imported for that."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # nor is the package above it
        return False


def first_few(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """Returns the first ``most`` of ``names``, joined, and after them how many more there are."""
    more = [f"… and {len(names) - most} more"] if len(names) > most else []
    return separator.join([*names[:most], *more])
