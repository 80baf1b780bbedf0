"""Sends a run's records to Weights & Biases or MLflow, where ``engine.tracker`` asks for it; TensorBoard needs none.

Where records go, with which account, and whether the machine is offline is up to these packages' own settings, such as
WANDB_MODE=offline and MLFLOW_TRACKING_URI.
"""

import dataclasses
import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any

from debiaspl.config import Recipe
from debiaspl.records import Record
from pipelines.errors import requires

_PROJECT = "debiaspl"


class Tracker:
    """One run at one of the two, begun with the first record; methods raise whatever the package raises."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Raises MissingDependency where the package is not installed. The run is called as its ``folder``."""
        self.kind = recipe.engine.tracker
        with requires(self.kind, f"pip install {self.kind}", f"engine.tracker={self.kind}"):
            self._package: Any = import_module(self.kind)
        self._recipe, self._folder = recipe, folder
        self._run: Any = None

    def add(self, record: Record) -> None:
        """Sends a record's values."""
        if self._run is None:
            self._run = self._begun()
        if self.kind == "wandb":
            self._run.log(record.values, step=record.step)
        else:
            self._package.log_metrics(record.values, step=record.step)

    def close(self) -> None:
        """Ends the run there; without a record there was none."""
        if self._run is None:
            return
        if self.kind == "wandb":
            self._run.finish()
        else:
            self._package.end_run()

    def _begun(self) -> Any:
        name = str(self._folder)
        settings = dataclasses.asdict(self._recipe)
        if self.kind == "wandb":
            same = hashlib.sha256(str(self._folder.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
            return self._package.init(
                project=_PROJECT, name=name, dir=name, id=same, resume="allow", config=settings
            )  # a resumed run goes on there, too
        self._package.set_experiment(_PROJECT)
        run = self._package.start_run(run_name=name)
        fields = {f"{part}.{key}": value for part in ("science", "engine") for key, value in settings[part].items()}
        self._package.log_params(fields)
        return run


def tracker(recipe: Recipe, folder: Path) -> Tracker | None:
    """Returns what sends a run's records; None where the recipe asks for none.

    Raises MissingDependency where the package is not installed.
    """
    return None if recipe.engine.tracker == "none" else Tracker(recipe, folder)
