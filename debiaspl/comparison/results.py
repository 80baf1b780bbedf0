"""What the trainings of a comparison came to: each one's accuracy, and whether methods differ by more than the spread.

Seeds are paired: two methods with the same seed share data, order of samples and first weights, so their difference is
taken seed by seed. The interval is Student's t over those differences.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from debiaspl.checkpoint_file import LAST, CheckpointError, read
from debiaspl.comparison.trainings import LINEAR, Training
from debiaspl.records import Records
from pipelines.errors import UserError

LINEAR_FILE = "linear.json"
"""Where the method 'linear' keeps its result, in its training's folder."""
Values = Mapping[str, Sequence[float]]
"""Method → the value with each seed, in the order of the seeds."""


@dataclass(frozen=True)
class Result:
    """Holds what one training came to."""

    value: float
    curve: tuple[float, ...]
    """The metric after each epoch; empty for a method without epochs."""
    pseudo_labels: NDArray[np.float64] | None
    """Counts [2, 2, c] of the last epoch, as in debiaspl.step.State; None for a method without any."""


class Difference(NamedTuple):
    """Holds the mean difference of two methods over paired seeds, and its 95 % interval, in points."""

    mean: float
    low: float
    high: float

    @property
    def is_within_spread(self) -> bool:
        """Returns whether the interval holds no difference at all."""
        return self.low <= 0 <= self.high


def result_of(training: Training, metric: str, split: str) -> Result | None:
    """Returns what a finished training came to; None where it is not finished, or is of another experiment.

    ``split`` is the fingerprint of the split that its data has now.
    """
    recipe = training.recipe
    experiment = recipe.experiment(split)
    if training.method == LINEAR:
        return _linear_result(training.folder / LINEAR_FILE, metric, experiment)
    try:
        content = read(training.folder / LAST)
    except CheckpointError:  # missing or damaged: the trainer goes on from an older one, or says what is wrong
        return None
    last = content["progress"]["last"].get("student", {})
    if content["experiment"] != experiment or last.get("epoch") != recipe.science.epochs:
        return None
    try:
        records, _ = Records(training.folder).read()
    except OSError as error:
        raise UserError(f"The records of {training.folder} cannot be read: {error.strerror or error}") from error
    curve = tuple(record.values[f"val/{metric}"] for record in records if f"val/{metric}" in record.values)
    network, _, measure = metric.partition("_")
    value = content["progress"]["last"][network][measure]
    return Result(value, curve, content["pseudo_labels"].double().numpy())


def _linear_result(path: Path, metric: str, experiment: str) -> Result | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["experiment"] == experiment:
            return Result(float(content[metric.partition("_")[2]]), (), None)
    except (OSError, ValueError, KeyError, TypeError):  # missing or not ours: it is made again
        return None
    return None


def difference(values: Sequence[float], reference: Sequence[float]) -> Difference | None:
    """Returns the mean of values − reference, paired, with its 95 % interval; None where there is one pair only."""
    if len(values) < 2:
        return None
    from scipy.stats import t  # slow to import

    pairs = [value - other for value, other in zip(values, reference, strict=True)]
    mean = statistics.mean(pairs)
    reach = float(t.ppf(0.975, len(pairs) - 1)) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return Difference(mean, mean - reach, mean + reach)


def rows(values: Values) -> list[list[str]]:
    """Returns a table's rows: method, mean, each seed, difference from the last method, and what that says."""
    last = list(values)[-1]
    return [
        [
            method,
            f"{statistics.mean(each):.2f}",
            ", ".join(f"{value:.2f}" for value in each),
            *_against(None if method == last else difference(each, values[last]), is_last=method == last),
        ]
        for method, each in values.items()
    ]


def header(values: Values, seeds: Sequence[int]) -> list[str]:
    """Returns the headings of ``rows``."""
    listed = ", ".join(map(str, seeds))
    last = list(values)[-1]
    return ["method", "mean", f"seed {listed}", f"minus {last}, 95 % interval", "verdict"]


def _against(found: Difference | None, *, is_last: bool) -> tuple[str, str]:
    if is_last:
        return "", "the reference"
    if found is None:
        return "", "one seed says nothing of the spread"
    verdict = "difference within the spread" if found.is_within_spread else ("higher" if found.mean > 0 else "lower")
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})", verdict
