"""One call, three places: TensorBoard, metrics.jsonl and the terminal (progress bar, epoch lines, final table).

None of them can end a run: each that fails is warned of once and tried again. Files are written by a thread, so that
a slow disk does not keep the training's thread from giving a GPU its next step.
"""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.table import Table
from tqdm import tqdm

from debiaspl import records
from debiaspl.accessories import Accessories
from debiaspl.checkpoint import Progress
from debiaspl.records import Record, Records
from pipelines import console

if TYPE_CHECKING:
    from debiaspl.board import Board  # imports TensorBoard, which is slow, and which only a writing rank needs
    from debiaspl.tracker import Tracker

_BOARD = "TensorBoard's file"
_AGAIN = 60.0
"""Seconds until TensorBoard's file is made anew after a failure: that takes all records."""


class Logbook:
    """The record of one run in ``folder``; a resumed run forgets what it will record again.

    Ranks other than the main one get ``quiet=True``: they only speak, where asked to.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        *,
        evaluated: bool,
        total_images: int,
        done_images: int,
        quiet: bool,
        tracker: "Tracker | None" = None,
    ) -> None:
        """``progress``: how far the run is; ``evaluated``: the evaluation that follows its last step was done, too;
        ``tracker`` gets the records of the main rank, too, and is closed with the logbook.
        """
        self.accessories = Accessories(self.say)
        self._quiet = quiet
        if quiet:
            return
        self._folder, self._step = folder, progress.step
        self._written = Records(folder)
        with self.accessories.attempt(records.NAME):
            if lost := self._written.keep(progress.step, evaluated=evaluated, count=progress.records):
                self.say(f"{self._written.path}: {lost} records of the steps so far are damaged or missing")
        self._tracker = tracker
        self._board: Board | None = None
        self._board_again = 0.0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="logbook")  # in the order of the calls
        # Where nobody watches (a file, CI) the bar would be noise: the epoch lines say the same.
        self._bar = tqdm(
            total=total_images,
            initial=done_images,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def advance(self, images: int) -> None:
        """Moves the progress bar on."""
        if not self._quiet:
            self._at_the_bar(lambda: self._bar.update(images))

    def write(self, step: int, values: dict[str, float], *, note: str = "") -> None:
        """Records scalars (names like 'train/loss') after ``step`` steps; ``note`` goes behind the bar."""
        if self._quiet:
            return
        self._writer.submit(self._record, records.now(step, values))
        if note:
            self._at_the_bar(lambda: self._bar.set_postfix_str(note))

    def wait(self, what: str) -> None:
        """Says behind the bar what is waited for, until the next note."""
        if not self._quiet:
            self._at_the_bar(lambda: self._bar.set_postfix_str(what))

    def picture(self, name: str, path: Path, step: int) -> None:
        """Shows a picture file in TensorBoard."""
        if self._quiet:
            return

        def add(board: "Board") -> None:
            with Image.open(path) as image:
                board.picture(name, np.asarray(image.convert("RGB")), step)

        self._writer.submit(self._on_the_board, add)

    def text(self, name: str, lines: Sequence[str], step: int) -> None:
        """Shows lines in TensorBoard, as they are."""
        if not self._quiet:
            self._writer.submit(self._on_the_board, lambda board: board.text(name, lines, step))

    def flush(self) -> int:
        """Waits until all that was recorded is written, or has been refused; returns how many records that are."""
        return 0 if self._quiet else self._writer.submit(lambda: self._written.count).result()

    def say(self, line: str, *, every_rank: bool = False) -> None:
        """Prints a line to the terminal, above the bar."""
        if every_rank or not self._quiet:
            console.say(line)

    def close(self) -> None:
        """Ends the bar and writes what waits."""
        if self._quiet:
            return
        self._at_the_bar(self._bar.close)
        self._writer.shutdown()
        if self._board is not None:
            with self.accessories.attempt(_BOARD):
                self._board.close()
        if self._tracker is not None:
            with self.accessories.attempt(self._tracker.kind):
                self._tracker.close()

    def _record(self, record: Record) -> None:
        with self.accessories.attempt(records.NAME):
            self._written.append(record)
        self._on_the_board(lambda board: board.add(record), recorded=True)
        if self._tracker is not None:
            with self.accessories.attempt(self._tracker.kind):
                self._tracker.add(record)
        self._step = record.step

    def _on_the_board(self, write: "Callable[[Board], None]", *, recorded: bool = False) -> None:
        """Writes to TensorBoard's file; where there is none it is made of all records, which ``recorded`` is one of."""
        if self._board is None and time.monotonic() < self._board_again:
            return
        with self.accessories.attempt(_BOARD):
            from debiaspl.board import Board

            made = self._board is None
            board, self._board = self._board, None  # it is of no use any more once it has failed
            self._board_again = time.monotonic() + _AGAIN
            board = board or Board(self._folder / "tensorboard", self.recorded(), self._step)
            if not (made and recorded):
                write(board)
            self._board = board

    def recorded(self) -> list[Record]:
        """Returns all records that are written; none where their file cannot be read, as was said when it was opened.

        On the rank that records, that is.
        """
        try:
            return self._written.read()[0]
        except OSError:
            return []

    def _at_the_bar(self, move: Callable[[], object]) -> None:
        try:
            move()
        except (OSError, ValueError):  # the terminal is gone
            console.give_up(sys.stderr)


def print_results(progress: Progress, lines: dict[str, str]) -> None:
    """Prints the final table, accuracy of student and teacher, last and best, and where to look further."""
    table = Table(title="Accuracy on the validation set, %")
    for column in ("model", "epoch", "top-1", "balanced"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model in progress.last:
        for which, results in (("last", progress.last), ("best", progress.best)):
            if result := results.get(model):
                table.add_row(
                    f"{model}, {which}", f"{result['epoch']:.0f}", f"{result['top1']:.2f}", f"{result['balanced']:.2f}"
                )
    console.show(table)
    for name, value in lines.items():
        console.say(f"{name:<14}{value}")
