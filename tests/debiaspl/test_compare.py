"""``debiaspl compare``: its trainings are the methods', its numbers the runs' own, and nothing is trained twice."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from debiaspl import compare
from debiaspl.build import build_state
from debiaspl.comparison.results import difference, rows
from debiaspl.comparison.trainings import Training, run_all, trainings
from debiaspl.distributed import Ranks
from debiaspl.recipes import find
from pipelines.errors import UserError
from tests.support.forked_runs import ForkedRuns
from tests.support.runs import quick, small_recipe

METHODS = ("fixmatch", "debiaspl")


def words(data: Path, out: Path, *more: str) -> list[str]:
    """The arguments of a comparison of small runs: those of ``quick``, which has one folder per run."""
    given = quick(data, out)
    return [*given, "--methods", ",".join(METHODS), "--seeds", "2", "--jobs", "1", *more]


def forking(forked: ForkedRuns, trained: list[Training]):
    """What trains in place of a process of its own."""

    def run(training: Training, jobs: int) -> None:
        done = forked(training.arguments)
        if done.statuses != [0]:
            raise UserError(done.said)
        trained.append(training)

    return run


@pytest.fixture(scope="module")
def compared(few_data, forked, tmp_path_factory) -> Path:
    """The folder of a comparison of two methods with two seeds."""
    out, trained = tmp_path_factory.mktemp("compared") / "all", list[Training]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "run_alone", forking(forked, trained))
        assert compare.main(words(few_data, out)) == 0
    assert len(trained) == 4
    return out


def test_the_numbers_are_those_of_the_runs(compared):
    with (compared / "comparison.csv").open(newline="") as file:
        found = {(row["method"], row["seed"]): row for row in csv.DictReader(file)}
    assert set(found) == {(method, seed) for method in METHODS for seed in "01"}
    for (method, seed), row in found.items():
        folder = compared / f"{method}-{seed}"
        assert row["folder"] == str(folder)
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert float(row["percent"]) == pytest.approx(records[-1]["val/student_balanced"], abs=1e-4)
        science = json.loads((folder / "config.json").read_text())["science"]
        assert science["seed"] == int(seed)
        assert science["tau"] == (0.0 if method == "fixmatch" else 0.4)
    assert (compared / "comparison.png").read_bytes().startswith(b"\x89PNG")
    page = (compared / "comparison.html").read_text()
    assert "minus debiaspl, 95 % interval" in page
    assert "data:image/png;base64," in page


def test_what_is_finished_is_not_trained_again(compared, few_data, monkeypatch, capsys):
    monkeypatch.setattr(compare, "run_alone", lambda *_: pytest.fail("trained again"))
    assert compare.main(words(few_data, compared)) == 0
    assert "4 of 4 trainings are finished already" in capsys.readouterr().out


def test_a_folder_of_another_experiment_is_refused(compared, few_data, forked, monkeypatch, capsys):
    monkeypatch.setattr(compare, "run_alone", forking(forked, []))
    before = (compared / "debiaspl-0/last.pt").read_bytes()
    assert compare.main(words(few_data, compared, "--set", "science.threshold=0.5")) == 2
    assert "threshold: 0.7 there, 0.5 here" in capsys.readouterr().err
    assert (compared / "debiaspl-0/last.pt").read_bytes() == before


def test_a_linear_head_on_given_weights(few_data, tmp_path, capsys):
    weights = tmp_path / "weights.pth"
    torch.save(build_state(small_recipe(few_data), 10, Ranks()).student.trunk.state_dict(), weights)
    given = words(few_data, tmp_path / "out", "--methods", "linear", "--seeds", "1", "--init", str(weights))
    assert compare.main(given) == 0
    result = json.loads((tmp_path / "out/linear-0/linear.json").read_text())
    assert 20 < result["balanced"] < 100  # random features tell more than a tenth of the digits
    assert f"{result['balanced']:.2f}" in capsys.readouterr().out
    assert compare.main(given) == 0
    assert "1 of 1 trainings are finished already" in capsys.readouterr().out


def test_linear_without_weights_is_refused(few_data, tmp_path, capsys):
    assert compare.main(words(few_data, tmp_path / "out", "--methods", "linear,debiaspl")) == 2
    assert "--init" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--methods", "fixmtch"], "did you mean fixmatch"),
        (["--methods", ","], "at least one of"),
        (["--seeds", "0"], "from 1 on"),
        (["--metric", "top5"], "student_balanced"),
    ],
)
def test_options_that_do_not_fit(given, message, capsys):
    with pytest.raises(SystemExit) as ended:
        compare.main(given)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_each_seed_can_have_data_of_its_own(tmp_path):
    wanted = trainings(["supervised"], [3], tmp_path, ["--recipe", "demo", "--data", "d/{seed}"], ["engine.threads=1"])
    recipe = wanted[0].recipe
    assert (recipe.engine.data, recipe.science.seed) == ("d/3", 3)
    assert recipe.science.lambda_u == 0.0
    expected = find("demo-supervised").science
    assert recipe.science == type(expected)(**{**vars(expected), "seed": 3})


def test_differences_are_paired():
    """The interval of (2, 1, 3): mean 2, deviation 1, t(0.975, 2) = 4.3027."""
    found = difference([12.0, 21.0, 33.0], [10.0, 20.0, 30.0])
    assert found is not None
    np.testing.assert_allclose(found, (2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), atol=1e-4)
    assert found.is_within_spread
    assert difference([1.0], [2.0]) is None
    certain = difference([12.0, 22.0, 32.1], [10.0, 20.0, 30.0])
    assert certain is not None
    assert not certain.is_within_spread
    found_rows = rows({"a": [12.0, 22.0, 32.1], "b": [10.0, 20.0, 30.0]})
    assert [row[-1] for row in found_rows] == ["higher", "the reference"]
    assert found_rows[0][1:3] == ["22.03", "12.00, 22.00, 32.10"]


def test_a_failure_ends_the_others_before_they_begin(tmp_path):
    begun = list[int]()

    def fail(training: Training, jobs: int) -> None:
        begun.append(training.seed)
        raise UserError("broken")

    wanted = trainings(["debiaspl"], range(5), tmp_path, [], [])
    with pytest.raises(UserError, match="broken"):
        list(run_all(wanted, 1, fail))
    assert len(begun) < 5
