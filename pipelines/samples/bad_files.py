"""Files that cannot be decoded: which they are, and how many a run may meet before it stops."""

import threading
from collections.abc import Iterable, Mapping

from PIL import Image

from pipelines.augment import pillow
from pipelines.errors import DataError
from pipelines.order import Draws, Order
from pipelines.samples.listing import Listing

NAMED = 20
"""How many files a message names before it only counts."""


class TooManyBadFiles(DataError):
    """More files cannot be decoded than a run allows; ``files`` names each, with its reason."""

    def __init__(self, message: str, files: list[str]) -> None:
        super().__init__(message)
        self.files = files


class BadFiles:
    """The bad files of one listing, shared by all sources over it; a source that meets one replaces it.

    ``limit`` is the share of the listing that may be bad; 0 makes the first one an error.
    """

    def __init__(self, listing: Listing, limit: float) -> None:
        """Raises TooManyBadFiles where the listing alone names too many."""
        self._listing, self._limit = listing, limit
        self._known: dict[int, str] = {}
        self._news: list[int] = []
        self._lock = threading.Lock()  # sources report from threads of their own
        self.add(listing.bad)

    @property
    def known(self) -> Mapping[int, str]:
        """Listing position → what is wrong with the file."""
        return self._known

    def add(self, reasons: Mapping[int, str]) -> None:
        """A source met bad files (listing position → reason). Raises TooManyBadFiles where there are now too many."""
        with self._lock:
            self._news += [index for index in reasons if index not in self._known]
            self._known.update({**reasons, **self._known})
        self._require_few()

    def learn(self, indices: Iterable[int]) -> None:
        """What other ranks met, who have named it. Raises TooManyBadFiles where there are now too many."""
        with self._lock:
            for index in indices:
                self._known.setdefault(index, "another rank could not decode it")
        self._require_few()

    def _require_few(self) -> None:
        bad = len(self._known)
        if bad > self._limit * len(self._listing):
            raise TooManyBadFiles(
                f"{bad} of {len(self._listing)} files cannot be decoded, more than engine.bad_files={self._limit:g} "
                f"allows:\n  {self._named(list(self._known))}\nReplace them or take them out of the data.",
                [self._name(index) for index in sorted(self._known)],
            )

    def news(self) -> list[str]:
        """The files met since this was last asked, each with its reason: every file is told once."""
        with self._lock:
            told, self._news = self._news, []
        return [self._name(index) for index in told]

    def _name(self, index: int) -> str:
        return f"{self._listing.path(index)}: {self._known[index]}"

    def _named(self, indices: list[int]) -> str:
        more = f"\n  … and {len(indices) - NAMED} more" if len(indices) > NAMED else ""
        return "\n  ".join(self._name(index) for index in indices[:NAMED]) + more


class Replacement:
    """What one source does about bad files; the same in every pipeline."""

    def __init__(self, listing: Listing, order: Order, bad_files: BadFiles | None) -> None:
        self._listing, self._order, self._bad_files = listing, order, bad_files

    def decoded(self, index: int) -> Image.Image | str:
        """The image as Pillow decodes it, or what is wrong with its file."""
        try:
            image = pillow.decode(self._listing.path(index))
        except OSError as error:
            return str(error)
        if image.size != (self._listing.widths[index], self._listing.heights[index]):
            return "its size has changed since the data was listed"
        return image

    def screened(self, draws: Draws) -> Draws:
        """A group without the files that are known to be bad."""
        if self._bad_files is None or not self._bad_files.known:
            return draws
        return self._order.replaced(draws, self._bad_files.known) or draws

    def after(self, draws: Draws, failures: Mapping[int, str]) -> Draws:
        """A group without the files that were just found bad (listing position → reason), to be made again.

        Raises DataError where they are not to be replaced (no BadFiles, too many, evaluation).
        """
        if self._bad_files is None or self._order.replaced(draws, ()) is None:
            for index, reason in failures.items():
                path = self._listing.path(index)
                raise DataError(f"Cannot decode {path}: {reason}. Replace the file or take it out of the data.")
        else:
            self._bad_files.add(failures)
        return self.screened(draws)
