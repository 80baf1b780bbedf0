"""The command as a user runs it: training, resuming bit for bit, several processes, and clear errors."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from debiaspl.build import build_run, build_state
from debiaspl.checkpoint_file import read
from debiaspl.data import read_data
from debiaspl.distributed import Ranks
from debiaspl.overrides import override
from debiaspl.recipes import find
from debiaspl.step_log import StepLog
from debiaspl.train import main
from debiaspl.trainer import Trainer
from pipelines.errors import UserError
from tests.support.runs import REPORTS, arguments, assert_same_bits, small_recipe, with_few_steps, without_speed


@pytest.fixture(scope="module")
def demo_data(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data with six steps an epoch. Tests read it only."""
    return with_few_steps(demo_data, tmp_path_factory.mktemp("six") / "demo", steps=6)


@pytest.fixture(scope="module")
def finished(demo_data, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("run") / "whole"
    assert main(arguments(demo_data, out, *REPORTS)) == 0
    return out


def test_a_run_leaves_what_it_says(finished, capsys):
    steps = read(finished / "last.pt")["progress"]["step"]
    assert {path.name for path in finished.iterdir()} == {
        "last.pt", "best.pt", f"step-{steps // 2:08}.pt", ".lock",
        "metrics.jsonl", "config.json", "pseudo_labels.png", "report.html", "tensorboard"
    }  # fmt: skip
    rows = without_speed(finished / "metrics.jsonl")
    content = read(finished / "last.pt")
    assert rows[-1]["step"] == content["progress"]["step"]
    assert {"val/student_top1", "val/teacher_balanced", "bias/gini_after"} <= rows[-1].keys()
    assert json.loads((finished / "config.json").read_text())["experiment"] == content["experiment"]


@pytest.mark.parametrize("stop_at", [3, "epoch"])
def test_resume_is_bit_exact(finished, demo_data, tmp_path, stop_at, monkeypatch):
    """n steps, stop, the rest = all steps, wherever the stop falls."""
    recipe = small_recipe(demo_data)
    split, validation = read_data(recipe)
    per_epoch = read(finished / "last.pt")["progress"]["step"] // 2
    stop_step = per_epoch if stop_at == "epoch" else stop_at

    first = Trainer(build_run(recipe, split, validation, Ranks()), tmp_path)
    train_step = first._train_step

    def stopping(groups):
        metrics = train_step(groups)
        if first.progress.step == stop_step:
            first.request_stop()
        return metrics

    monkeypatch.setattr(first, "_train_step", stopping)
    assert not first.fit()
    first.close()
    assert read(first.checkpoint_path)["progress"]["step"] >= stop_step

    torch.manual_seed(99)  # the global generator must not matter
    second = Trainer(build_run(recipe, split, validation, Ranks()), tmp_path)
    second.resume(second.checkpoint_path)
    assert second.fit()
    second.close()
    assert_same_bits(second.checkpoint_path, finished / "last.pt")
    assert without_speed(tmp_path / "metrics.jsonl") == without_speed(finished / "metrics.jsonl")


@pytest.mark.parametrize("compat", ["upstream", "paper"])
def test_two_processes_run_the_same_experiment(forked, demo_data, tmp_path, compat):
    sets = ["--set", f"science.compat={compat}", "--set", "science.epochs=1", "--set", "science.dropout=0.3"]
    logs = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}"
        ended = forked(arguments(demo_data, out, *sets), world=processes)
        assert ended.statuses == [0] * processes, ended.said
        logs.append((without_speed(out / "metrics.jsonl"), read(out / "last.pt")))
    (one, one_end), (two, two_end) = logs
    assert len(one) == len(two) > 3
    for name in ("train/total", "train/unsupervised", "train/cld", "train/mask_rate"):
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-5), name
    # float32 sums in another order, a few steps on
    torch.testing.assert_close(two_end["phat"], one_end["phat"], rtol=1e-3, atol=1e-4)
    for name, value in one_end["student"].items():
        torch.testing.assert_close(two_end["student"][name], value, rtol=1e-2, atol=1e-3)
    assert one_end["pseudo_labels"].sum() == two_end["pseudo_labels"].sum()


def test_a_run_is_not_overwritten(finished, demo_data, capsys):
    before = (finished / "last.pt").read_bytes()
    assert main(arguments(demo_data, finished)) == 2
    assert "--resume auto" in capsys.readouterr().err
    assert (finished / "last.pt").read_bytes() == before


def test_resuming_a_finished_run_shows_its_results(finished, demo_data, capsys):
    assert main(arguments(demo_data, finished, "--resume", "auto")) == 0
    assert "teacher, best" in capsys.readouterr().out


def test_another_engine_may_resume_and_is_named(finished, demo_data, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "copy")
    more = ["--resume", "auto", "--set", "engine.precision=bfloat16"]
    assert main(arguments(demo_data, tmp_path / "copy", *more)) == 0
    assert "no longer bit-exact" in capsys.readouterr().out


def test_dry_run_prints_shapes_and_missing_files(demo_data, tmp_path, capsys):
    flags = ["--dry-run", "--init", str(tmp_path / "none.pth")]
    assert main(arguments(demo_data, tmp_path / "run", *flags)) == 2
    out, error = capsys.readouterr()
    assert error.startswith(f"error: There is no weights file {tmp_path / 'none.pth'}")
    assert "missing: " + str(tmp_path / "none.pth") in out
    assert "(4, 8, 16, 16, 3)" in out
    assert "per epoch" in out
    assert not (tmp_path / "run").exists()


def test_print_config_can_be_set_again(capsys):
    assert main(["--recipe", "imagenet-1p", "--print-config"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert "science.tau=0.4" in lines
    assert override(find("demo"), lines).science == find("imagenet-1p").science


def change(data: Path, out: Path, kind: str) -> list[str]:
    """Spoil a copy of the data, or the arguments, in one way; the arguments to run with."""
    more: list[str] = []
    match kind:
        case "no data":
            shutil.rmtree(data)
        case "empty class":
            (data / "train" / "zz_empty").mkdir()
        case "no Index":
            (data / "indexes/labeled.csv").write_text("Position\n1\n")
        case "out of range":
            (data / "indexes/unlabeled.csv").write_text("Index\n0\n999999\n")
        case "text as image":
            next((data / "train").rglob("*.jpg")).write_text("not a picture")
            more = ["--strict"]
        case "no csv":
            (data / "indexes/labeled.csv").unlink()
        case "no CLIP":
            more = ["--set", "science.clip=true"]
        case "val differs":
            shutil.rmtree(next((data / "val").iterdir()))
        case "batch":
            more = ["--set", "science.labeled_batch=10"]
        case "too large a batch":
            more = ["--set", "science.mu=5000"]
        case "no checkpoint":
            more = ["--resume", str(out / "none.pt")]
        case "no weights":
            more = ["--init", str(out / "none.pth")]
        case "no gpu":
            more = ["--set", "engine.device=cuda"]
        case "cuda graphs":
            more = ["--set", "engine.compile=cuda-graphs", "--set", "engine.device=cpu"]
    return arguments(data, out, *more)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no data", "There is no data folder"),
        ("empty class", "zz_empty holds no image"),
        ("no Index", "no column 'Index' (its columns: 'Position')"),
        ("out of range", "line 3: Index is '999999'"),
        ("text as image", "not an image"),
        ("no csv", "labeled.csv. Put it there"),
        ("no csv", "name another file with --set engine.labeled_csv="),
        ("no CLIP", "Name the file with --set engine.clip_file="),
        ("val differs", "differ in their class folders"),
        ("batch", "labeled_batch=10 does not divide"),
        ("too large a batch", "Lower science.labeled_batch"),
        ("no checkpoint", "There is no checkpoint"),
        ("no weights", "There is no weights file"),
        ("cuda graphs", "needs a CUDA device"),
        pytest.param(
            "no gpu",
            "finds no usable GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_is_said_in_one_message(demo_data, tmp_path, capsys, kind, message):
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(demo_data, data)
    assert main(change(data, out, kind)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe", "imagenet-2p"], "no recipe 'imagenet-2p'; did you mean"),
        (["--pipeline", "pil"], "no pipeline 'pil'"),
        (["--set", "science.tua=1"], "no field 'science.tua'"),
    ],
)
def test_unknown_names_are_said(capsys, flags, message):
    assert main(flags) == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_recipe_is_refused(finished, demo_data, capsys):
    before = (finished / "last.pt").read_bytes()
    assert main(arguments(demo_data, finished, "--resume", "auto", "--set", "science.tau=0")) == 2
    assert "tau: 0.4 there, 0.0 here" in capsys.readouterr().err
    assert (finished / "last.pt").read_bytes() == before


def test_a_checkpoint_of_another_split_is_refused(finished, demo_data, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(demo_data, data)
    csv = data / "indexes/unlabeled.csv"
    csv.write_text("\n".join(csv.read_text().splitlines()[:-1]) + "\n")
    assert main(arguments(data, finished, "--resume", "auto")) == 2
    assert "another split" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_checkpoint_is_refused(finished, demo_data, tmp_path, capsys, content):
    out = tmp_path / "run"
    out.mkdir()
    whole = (finished / "last.pt").read_bytes()
    (out / "last.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert main(arguments(demo_data, out, "--resume", "auto")) == 2
    assert "cannot be read as a checkpoint" in capsys.readouterr().err


def test_nothing_in_a_checkpoint_is_executed(demo_data, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format": 1, "student": Evil()}, tmp_path / "evil.pt")
    assert main(arguments(demo_data, tmp_path / "run", "--resume", str(tmp_path / "evil.pt"))) == 2
    assert not (tmp_path / "executed").exists()


def test_non_finite_loss_stops_the_run(demo_data, tmp_path, capsys):
    assert main(arguments(demo_data, tmp_path / "run", "--set", "science.lr=1e20")) == 2
    err = capsys.readouterr().err
    assert "The loss became" in err
    assert "There is no checkpoint yet" in err


def test_non_finite_loss_names_its_steps_and_keeps_the_good_checkpoint(demo_data, tmp_path, monkeypatch):
    """Found at the next reading of the metrics, not by reading at every step."""
    recipe = small_recipe(demo_data, "engine.log_every=4")
    trainer = Trainer(build_run(recipe, *read_data(recipe), Ranks()), tmp_path)
    train_step, note, readings = trainer._train_step, StepLog.note, []
    spoilt_at = trainer._steps + 2 + -trainer._steps % 4  # in the second epoch, between two readings

    def spoil(groups):
        metrics = train_step(groups)
        if trainer.progress.step == spoilt_at:
            trainer._state.student.head.weight.data[0, 0] = float("nan")
        return metrics

    def noting(step_log, metrics, step, *more):
        readings.append(step)
        note(step_log, metrics, step, *more)

    monkeypatch.setattr(trainer, "_train_step", spoil)
    monkeypatch.setattr(StepLog, "note", noting)
    try:
        with pytest.raises(UserError) as raised:
            trainer.fit()
    finally:
        trainer.close()
    found = readings[-1]
    assert found == spoilt_at + 2
    assert f"The loss became nan within steps {found - 4}–{found}. " in str(raised.value)
    assert f"The last good checkpoint is {trainer.checkpoint_path}" in str(raised.value)
    assert readings == sorted({*range(4, found + 1, 4), trainer._steps})
    good = read(trainer.checkpoint_path)
    assert good["progress"]["step"] == trainer._steps
    assert all(value.isfinite().all() for value in good["student"].values())


@pytest.mark.parametrize("how", ["stopped between two readings", "at the end of an epoch"])
def test_a_spoilt_state_never_replaces_the_good_checkpoint(demo_data, tmp_path, monkeypatch, how):
    recipe = small_recipe(demo_data, "engine.log_every=50")
    trainer = Trainer(build_run(recipe, *read_data(recipe), Ranks()), tmp_path)
    train_step = trainer._train_step
    spoilt_at = trainer._steps + 2 if "between" in how else 2 * trainer._steps

    def spoil(groups):
        metrics = train_step(groups)
        if trainer.progress.step == spoilt_at:
            trainer._state.student.head.weight.data[0, 0] = float("nan")
            if "between" in how:
                trainer.request_stop()
        return metrics

    monkeypatch.setattr(trainer, "_train_step", spoil)
    try:
        with pytest.raises(UserError, match=r"infinite or NaN within steps.*The last good checkpoint is"):
            trainer.fit()
    finally:
        trainer.close()
    good = read(trainer.checkpoint_path)
    assert good["progress"]["step"] == trainer._steps
    assert all(value.isfinite().all() for value in good["student"].values())


def test_too_many_bad_files_are_listed_in_a_file(demo_data, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(demo_data, data)
    bad = sorted((data / "train").rglob("*.jpg"))[:25]
    for path in bad:
        path.write_bytes(b"no longer a picture")
    assert main(arguments(data, tmp_path / "run")) == 2
    said = capsys.readouterr().err
    assert "25 of" in said
    assert "more than engine.bad_files=0.001 allows" in said
    assert "and 5 more" in said
    listed = (tmp_path / "run/bad_files.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in listed] == list(map(str, bad))


def test_resuming_does_not_need_the_weights_that_it_began_with(demo_data, tmp_path):
    recipe = small_recipe(demo_data)
    network = build_state(recipe, 10, Ranks()).student
    weights = tmp_path / "weights.pth"
    torch.save(network.trunk.state_dict(), weights)
    init = ["--init", str(weights), "--set", "science.epochs=1"]
    assert main(arguments(demo_data, tmp_path / "run", *init)) == 0
    weights.unlink()
    assert main(arguments(demo_data, tmp_path / "run", "--resume", "auto", *init)) == 0
    assert main(arguments(demo_data, tmp_path / "other", *init)) == 2


@pytest.mark.parametrize("strict", [False, True])
def test_a_file_that_went_bad_is_replaced_counted_and_named(demo_data, tmp_path, capsys, strict):
    data = tmp_path / "data"
    shutil.copytree(demo_data, data)
    limit = "engine.bad_files=0" if strict else "engine.bad_files=0.1"
    recipe = small_recipe(data, limit, "science.epochs=1")
    split, validation = read_data(recipe)
    bad = split.listing.path(int(split.labeled[0]))
    bad.write_bytes(b"no longer a picture")
    trainer = Trainer(build_run(recipe, split, validation, Ranks()), tmp_path / "run")
    try:
        if strict:
            with pytest.raises(UserError, match=f"cannot be decoded.*\n.*{bad.name}"):
                trainer.fit()
        else:
            assert trainer.fit()
            rows = without_speed(tmp_path / "run/metrics.jsonl")
            assert rows[-1]["data/bad_files"] == 1
            assert capsys.readouterr().out.count(f"cannot be decoded, replaced: {bad}") == 1
    finally:
        trainer.close()
