"""``debiaspl runs``: what its table says of a finished, a running, a stopped and an unreadable run."""

import json
from pathlib import Path

import pytest

from debiaspl.records import Record, Records
from debiaspl.run_folder import RunFolder, is_held
from debiaspl.runs import main, run_folders, summary
from pipelines.errors import UserError


def make_run(folder: Path, *, epochs: int, done: int) -> Path:
    folder.mkdir(parents=True)
    config = {"name": "own[/]", "science": {"epochs": epochs}, "engine": {"data": "pic\x1b[31mtures"}}
    (folder / "config.json").write_text(json.dumps(config))
    records = Records(folder)
    for epoch in range(1, done + 1):
        records.append(Record(3 * epoch, 1000.0 + epoch, {"speed/images_per_s": 100.0 * epoch}))
        values = {"val/student_balanced": 50.0 + (epoch == 1), "val/teacher_balanced": 40.0}
        records.append(Record(3 * epoch, 1000.0 + epoch, values))
    return folder


def test_a_finished_run(tmp_path):
    found = summary(make_run(tmp_path / "a", epochs=2, done=2), tmp_path)
    assert (found.run, found.recipe, found.data) == ("a", "own[/]", r"pic\x1b[31mtures")
    assert (found.state, found.best, found.rate) == ("finished, 2 epochs", "51.00 % (student, epoch 1)", "200")


def test_a_stopped_run_and_one_under_way(tmp_path):
    run = make_run(tmp_path / "a/b", epochs=5, done=1)
    assert summary(run, tmp_path).state == "stopped after epoch 1/5"
    held = RunFolder(run)
    try:
        assert is_held(run)
        assert summary(run, tmp_path).state == "running, epoch 1/5 done"
    finally:
        held.close()
    assert not is_held(run)


def test_a_look_at_a_run_takes_nothing_from_it(tmp_path):
    run = make_run(tmp_path / "a", epochs=5, done=1)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    summary(run, tmp_path)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    RunFolder(run).close()


@pytest.mark.parametrize("content", ["[]", "{", '{"science": 1, "engine": {}}', "[" * 100_000])
def test_a_run_that_cannot_be_read_is_named(tmp_path, content, capsys):
    make_run(tmp_path / "good", epochs=1, done=1)
    bad = make_run(tmp_path / "bad", epochs=1, done=1)
    (bad / "config.json").write_text(content)
    assert summary(bad, tmp_path).state.startswith("cannot be read: ")
    assert main([str(tmp_path)]) == 0
    assert "good" in capsys.readouterr().out


def test_runs_of_a_comparison_are_found(tmp_path):
    for name in ("one", "compare/debiaspl-0", "compare/debiaspl-1"):
        make_run(tmp_path / name, epochs=1, done=0)
    assert [str(path.relative_to(tmp_path)) for path in run_folders(tmp_path)] == [
        "compare/debiaspl-0", "compare/debiaspl-1", "one"
    ]  # fmt: skip
    assert run_folders(tmp_path / "one") == [tmp_path / "one"]


def test_no_run_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
    with pytest.raises(UserError, match=r"no folder there has a config\.json"):
        run_folders(tmp_path)
