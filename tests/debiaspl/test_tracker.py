"""Trackers: what is sent to them, that a missing package is said before training, and that one never ends a run."""

import sys
from types import SimpleNamespace

import pytest

from debiaspl.overrides import override
from debiaspl.recipes import find
from debiaspl.records import Record
from debiaspl.tracker import tracker
from debiaspl.train import main
from pipelines.errors import MissingDependency
from tests.support.runs import STEPS, quick


class Recorder:
    """Takes what wandb's or mlflow's functions would be given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple, dict]] = []

    def __getattr__(self, name: str):
        def call(*words: object, **more: object) -> "Recorder":
            self.calls.append((name, words, more))
            return self

        return call

    def named(self, name: str) -> list[tuple[tuple, dict]]:
        return [(words, more) for called, words, more in self.calls if called == name]


def recipe(kind: str):
    return override(find("demo"), [f"engine.tracker={kind}"])


def test_none_is_the_default(tmp_path):
    assert tracker(find("demo"), tmp_path) is None


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_its_command(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingDependency, match=rf"engine\.tracker={kind} needs {kind}.*pip install {kind}"):
        tracker(recipe(kind), tmp_path)


def test_wandb_gets_the_settings_and_each_record(tmp_path, monkeypatch):
    wandb = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    sent = tracker(recipe("wandb"), tmp_path / "run")
    sent.add(Record(3, 0.0, {"train/total": 1.5}))
    sent.add(Record(4, 0.0, {"train/total": 1.25}))
    sent.close()
    ((_, given),) = wandb.named("init")
    assert given["config"]["science"]["tau"] == 0.4
    assert given["resume"] == "allow"
    again = tracker(recipe("wandb"), tmp_path / "run")
    again.add(Record(5, 0.0, {}))
    assert wandb.named("init")[1][1]["id"] == given["id"]  # a resumed run goes on there
    assert [(words[0], more["step"]) for words, more in wandb.named("log")][:2] == [
        ({"train/total": 1.5}, 3), ({"train/total": 1.25}, 4)
    ]  # fmt: skip
    assert len(wandb.named("finish")) == 1


def test_mlflow_gets_the_settings_and_each_record(tmp_path, monkeypatch):
    mlflow = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    sent = tracker(recipe("mlflow"), tmp_path / "run")
    sent.close()
    assert mlflow.calls == []  # nothing was recorded
    sent.add(Record(3, 0.0, {"val/student_top1": 50.0}))
    sent.close()
    assert mlflow.named("log_params")[0][0][0]["science.tau"] == 0.4
    assert mlflow.named("log_metrics") == [(({"val/student_top1": 50.0},), {"step": 3})]
    assert len(mlflow.named("end_run")) == 1


def test_a_run_goes_on_without_its_tracker(few_data, tmp_path, monkeypatch, capsys):
    def refuse(**more: object) -> None:
        raise RuntimeError("no account")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuse))
    assert main(quick(few_data, tmp_path / "run", "--set", "engine.tracker=wandb")) == 0
    assert (tmp_path / "run/last.pt").exists()
    assert capsys.readouterr().out.count("wandb cannot be written: no account") == 1
    assert STEPS > 1  # there was more than one record to refuse
