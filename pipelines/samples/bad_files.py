"""Files that cannot be decoded: which they are, and how many a run may meet before it stops."""

import threading
from collections.abc import Iterable, Mapping

from pipelines.errors import DataError, first_few
from pipelines.names import readable
from pipelines.samples.listing import Listing

NAMED = 20
"""How many files a message names before it only counts."""


def bad_lines(listing: Listing) -> list[str]:
    """Returns a line for each file that the listing itself names as bad, with the reason."""
    return [readable(f"left out: {listing.path(index)}: {reason}") for index, reason in listing.bad.items()]


class TooManyBadFiles(DataError):
    """More files cannot be decoded than a run allows; ``files`` names each, with its reason."""

    def __init__(self, message: str, files: list[str]) -> None:
        super().__init__(message)
        self.files = files


class BadFiles:
    """The bad files of one listing, shared by all sources over it; a source that meets one replaces it.

    ``limit`` is the share of the listing that may be bad, and ``least`` how many may be of a small one; with a limit of
    0 the first one is an error. ``option`` is what the user who sets the limit calls it.
    """

    def __init__(self, listing: Listing, limit: float, *, least: int = 0, option: str = "limit") -> None:
        """Raises TooManyBadFiles where the listing alone names too many."""
        self._listing, self._limit, self._option = listing, limit, option
        self._most = max(least, limit * len(listing)) if limit else 0
        self._known: dict[int, str] = {}
        self._news: list[int] = []
        self._lock = threading.Lock()  # sources report from threads of their own
        self.add(listing.bad)

    @property
    def known(self) -> Mapping[int, str]:
        """Index → what is wrong with the file."""
        return self._known

    def add(self, reasons: Mapping[int, str]) -> None:
        """Adds bad files that a source met (index → reason); raises TooManyBadFiles where there are now too many."""
        with self._lock:
            self._news += [index for index in reasons if index not in self._known]
            self._known.update({**reasons, **self._known})
        self._require_few()

    def learn(self, indices: Iterable[int]) -> None:
        """Adds files that other ranks found bad and have reported; raises as ``add`` does."""
        with self._lock:
            for index in indices:
                self._known.setdefault(index, "another rank could not decode it")
        self._require_few()

    def _require_few(self) -> None:
        bad = len(self._known)
        if bad > self._most:
            raise TooManyBadFiles(
                f"{bad} of {len(self._listing)} files cannot be decoded, more than {self._option}={self._limit:g} "
                f"allows:\n  {self._named(list(self._known))}\nReplace them or take them out of the data.",
                [self._name(index) for index in sorted(self._known)],
            )

    def news(self) -> list[str]:
        """Returns the files added since the last call, each with its reason: every file is reported once."""
        with self._lock:
            told, self._news = self._news, []
        return [self._name(index) for index in told]

    def _name(self, index: int) -> str:
        return readable(f"{self._listing.path(index)}: {self._known[index]}")

    def _named(self, indices: list[int]) -> str:
        return first_few([self._name(index) for index in indices], NAMED, "\n  ")
