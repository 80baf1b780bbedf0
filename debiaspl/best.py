"""Which epoch's networks are the best ones, and which of the two: by engine.best, the metric that best.pt is chosen by.

Accuracies are per model, as in debiaspl.checkpoint.Progress: {"teacher": {"top1": 71.0, "balanced": 64.5, …}, …}.
"""

from collections.abc import Mapping
from typing import Literal

Metric = Literal["auto", "val/student_top1", "val/student_balanced", "val/teacher_top1", "val/teacher_balanced"]
"""What engine.best may be; auto: the balanced accuracy of the better of the two networks."""
Accuracies = Mapping[str, Mapping[str, float]]


def better_model(metric: str, accuracies: Accuracies) -> str:
    """Returns 'student' or 'teacher': the network that the metric names, or the better one; of equals the teacher."""
    if metric != "auto":
        return metric.removeprefix("val/").partition("_")[0]
    if not accuracies:
        return "teacher"
    return max(sorted(accuracies, reverse=True), key=lambda model: accuracies[model]["balanced"])


def value(metric: str, accuracies: Accuracies) -> float:
    """Returns the metric's value, in percent."""
    name = "balanced" if metric == "auto" else metric.rpartition("_")[2]
    return accuracies[better_model(metric, accuracies)][name]


def is_better(metric: str, accuracies: Accuracies, others: Accuracies) -> bool:
    """Returns whether the metric is higher than with ``others``, or there are no others."""
    return not others or value(metric, accuracies) > value(metric, others)
