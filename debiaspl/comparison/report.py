"""The report of a comparison: a table on the terminal, the same as a page with the picture, and a CSV."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from debiaspl.comparison.picture import draw
from debiaspl.comparison.results import Result, Values, header, rows
from debiaspl.comparison.trainings import LINEAR, Training
from debiaspl.data import read_data
from debiaspl.evaluation import bias
from debiaspl.report import page
from pipelines import console
from pipelines.files import replacing, write_csv
from pipelines.names import readable


def report(metric: str, wanted: Sequence[Training], results: Mapping[str, Sequence[Result]], out: Path) -> None:
    """Prints the table and writes comparison.html, .png and .csv to ``out``; ``results`` by method, seed after seed."""
    values = {name: [result.value for result in each] for name, each in results.items()}
    seeds = list(dict.fromkeys(each.seed for each in wanted))
    heading, cells, title = header(values, seeds), rows(values), f"{metric} after the last epoch, %"
    table = Table(title=Text(title))
    for name in heading:
        table.add_column(Text(name), justify="left" if name in ("method", "verdict") else "right", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console.show(table)

    split, _ = read_data(wanted[0].recipe)
    png = draw(results, metric, split.listing.classes, bias.true_counts(split))
    with replacing(out / "comparison.png") as building:
        building.write_bytes(png)
    _write_csv(out / "comparison.csv", wanted, values)
    means = ", ".join(f"{name} {statistics.mean(each):.2f}" for name, each in values.items())
    sections: list[page.Section] = [
        page.Table(heading, cells, title),
        page.Figure(png, f"Accuracy over epochs, and pseudo-labels: {means}"),
        page.Heading("Trainings"),
        page.Table(["folder", "command"], [[str(each.folder), _command(each)] for each in wanted]),
    ]
    page.write_page(out / "comparison.html", f"Comparison on {wanted[0].recipe.engine.data}", sections)
    console.say(f"{readable(out / 'comparison.html')} (and comparison.png, comparison.csv)")


def _write_csv(path: Path, wanted: Sequence[Training], values: Values) -> None:
    """Writes a row for each training: method, seed, value in percent, folder."""
    left = {name: iter(each) for name, each in values.items()}
    rows = [[each.method, f"{each.seed}", f"{next(left[each.method]):.4f}", str(each.folder)] for each in wanted]
    write_csv(path, ["method", "seed", "percent", "folder"], rows)


def _command(training: Training) -> str:
    """Returns the command that makes the training, as a shell takes it."""
    if training.method == LINEAR:
        return "a head on the frozen trunk, by this comparison itself"
    return shlex.join(["python", "-m", "debiaspl.train", *training.arguments])
