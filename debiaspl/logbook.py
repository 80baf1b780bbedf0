"""One call, three places: TensorBoard, metrics.jsonl and the terminal (progress bar, epoch lines, final table)."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from debiaspl.checkpoint import Progress
from pipelines.files import replacing


class Logbook:
    """The record of one run in ``folder``; a resumed run forgets what came after its checkpoint's step.

    Ranks other than the main one get ``quiet=True``: every call is a no-op.
    """

    def __init__(self, folder: Path, *, step: int, total_images: int, done_images: int, quiet: bool) -> None:
        self._quiet = quiet
        if quiet:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import: only the run that writes waits for it

        self._metrics = folder / "metrics.jsonl"
        self._forget_after(step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        # Where nobody watches (a file, CI) the bar would be noise: the epoch lines say the same.
        self._bar = tqdm(
            total=total_images,
            initial=done_images,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def _forget_after(self, step: int) -> None:
        lines = self._metrics.read_text(encoding="utf-8").splitlines() if self._metrics.exists() else []
        with replacing(self._metrics) as building:
            kept = [line for line in lines if _step_of(line) <= step]
            building.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def advance(self, images: int) -> None:
        if not self._quiet:
            self._bar.update(images)

    def write(self, step: int, values: dict[str, float], *, note: str = "") -> None:
        """Record scalars (names like 'train/loss') after ``step`` steps."""
        if self._quiet:
            return
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if note:
            self._bar.set_postfix_str(note)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Show a picture file in TensorBoard."""
        if self._quiet:
            return
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._board.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def text(self, name: str, lines: Sequence[str], step: int) -> None:
        """Show lines in TensorBoard, as they are: indented, they are no Markdown."""
        if not self._quiet:
            self._board.add_text(name, "\n".join(f"    {line}" for line in lines), step)

    def say(self, line: str, *, every_rank: bool = False) -> None:
        """A line in the terminal, above the bar."""
        if every_rank or not self._quiet:
            tqdm.write(line)
            sys.stdout.flush()

    def close(self) -> None:
        if not self._quiet:
            self._bar.close()
            self._board.close()


def _step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; a line cut short by a kill counts as beyond any step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def print_results(progress: Progress, lines: dict[str, str]) -> None:
    """The final table: accuracy of student and teacher, last and best, and where to look further."""
    table = Table(title="Accuracy on the validation set, %")
    for column in ("model", "epoch", "top-1", "balanced"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model in progress.last:
        for which, results in (("last", progress.last), ("best", progress.best)):
            result = results[model]
            table.add_row(
                f"{model}, {which}", f"{result['epoch']:.0f}", f"{result['top1']:.2f}", f"{result['balanced']:.2f}"
            )
    console = Console(highlight=False)
    console.print(table)
    for name, value in lines.items():
        console.print(f"{name:<14}{value}", markup=False, soft_wrap=True)
