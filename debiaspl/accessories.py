"""What accompanies a run (records, pictures, TensorBoard, lists) may fail, and the run goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.names import readable


class Accessories:
    """Warns once of each accessory that fails, and says when it works again; ``say`` takes the line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._failing: set[str] = set()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Runs the block, which makes or writes ``what`` (such as 'metrics.jsonl'); what it raises ends there."""
        try:
            yield
        except Exception as error:  # whatever an accessory's library raises
            if what not in self._failing:
                self._failing.add(what)
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                self._say(f"{readable(what)} cannot be written: {readable(reason)}. The run goes on and tries again.")
        else:
            if what in self._failing:
                self._failing.remove(what)
                self._say(f"{readable(what)} is written again.")
