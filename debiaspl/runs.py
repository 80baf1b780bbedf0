"""Lists runs: debiaspl runs [FOLDER] prints a row for each, with recipe, data, state, best accuracy and speed."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from debiaspl import config_file
from pipelines import console
from pipelines.errors import UserError
from pipelines.names import readable

_DEPTH = 3
"""Folders below the given one in which runs are looked for: comparisons lie one deeper than runs."""


class RunSummary(NamedTuple):
    """Holds what a run's folder says of it, as the cells of a table."""

    run: str
    recipe: str
    data: str
    state: str
    best: str
    rate: str
    last_record: str


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("runs", "python -m debiaspl.runs"),
        description="Lists the runs below a folder: recipe, data, state, best accuracy, speed.",
        epilog="best: highest balanced accuracy on the validation set; images/s: the last reading",
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="default: %(default)s")
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit status: 0, or 2 where there is no run."""
    folder = build_parser().parse_args(arguments).folder
    _show(folder, [summary(path, folder) for path in run_folders(folder)])
    return 0


def run_folders(folder: Path) -> list[Path]:
    """Returns the folders of runs at or below ``folder``, sorted. Raises UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {readable(folder)}. Name one that holds runs: debiaspl runs FOLDER")
    patterns = ("/".join(["*"] * depth + [config_file.NAME]) for depth in range(_DEPTH + 1))
    found = sorted(path.parent for pattern in patterns for path in folder.glob(pattern))
    if not found:
        raise UserError(
            f"There is no run in {readable(folder)}: no folder there has a {config_file.NAME}. "
            "Name another folder, or train."
        )
    return found


def summary(run: Path, below: Path) -> RunSummary:
    """Returns what the folder ``run`` says of its run; it is named from ``below`` on."""
    from debiaspl.records import Records

    name = readable(run.relative_to(below)) if run != below else readable(run)
    try:
        records, _ = Records(run).read()
        config = _config(run / config_file.NAME)
    except (OSError, ValueError, RecursionError) as error:
        return RunSummary(name, "", "", f"cannot be read: {readable(str(error))}", "", "", "")
    evaluated = [record for record in records if "val/student_balanced" in record.values]
    rates = [record.values["speed/images_per_s"] for record in records if "speed/images_per_s" in record.values]
    last = time.strftime("%m-%d %H:%M", time.localtime(records[-1].time)) if records else ""
    return RunSummary(
        run=name,
        recipe=readable(str(config.get("name", ""))),
        data=readable(str(config["engine"].get("data", ""))),
        state=_state(run, len(evaluated), config["science"]["epochs"]),
        best=_best([record.values for record in evaluated]),
        rate=f"{rates[-1]:,.0f}" if rates else "",
        last_record=last,
    )


def _config(path: Path) -> dict[str, Any]:
    """Returns a run's config.json. Raises ValueError where it holds something else, OSError where it is unreadable."""
    content = config_file.read_content(path)
    parts: list[Any] = [content.get(part) for part in ("science", "engine")] if isinstance(content, dict) else [None]
    if not all(isinstance(part, dict) for part in parts) or not isinstance(parts[0].get("epochs"), int):
        raise ValueError(f"{path.name} is not a run's")
    return content


def _state(run: Path, epochs: int, of: int) -> str:
    """Returns whether the run is under way, finished or stopped, and after how many evaluated epochs."""
    from debiaspl.run_folder import is_held

    if is_held(run):
        return f"running, epoch {epochs}/{of} done"
    return f"finished, {epochs} epochs" if epochs >= of else f"stopped after epoch {epochs}/{of}"


def _best(rows: list[dict[str, float]]) -> str:
    """Returns the highest balanced accuracy of either network, with its name and epoch; empty without any."""
    found = [
        (row[f"val/{network}_balanced"], network, epoch)
        for epoch, row in enumerate(rows, start=1)
        for network in ("student", "teacher")
        if f"val/{network}_balanced" in row
    ]
    if not found:
        return ""
    value, network, epoch = max(found, key=lambda each: each[0])
    return f"{value:.2f} % ({network}, epoch {epoch})"


def _show(folder: Path, summaries: Sequence[RunSummary]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"Runs in {readable(folder)}"))
    for heading in ("run", "recipe", "data", "state", "best", "images/s", "last record"):
        justify: Literal["left", "right"] = "right" if heading == "images/s" else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading == "last record")
    for each in summaries:
        table.add_row(*map(Text, each))
    console.show(table)


if __name__ == "__main__":
    console.run(main)
