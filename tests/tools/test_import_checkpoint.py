"""The tool's word on a weights file: a table and 0 where it fits, one message and 2 where it does not."""

import json

import pytest
import torch

from debiaspl.models.trunks import build_trunk


@pytest.fixture
def weights(tmp_path):
    state = {f"module.encoder_q.{name}": v for name, v in build_trunk("resnet8-small", 32)[0].state_dict().items()}
    torch.save({"state_dict": state | {"module.queue": torch.zeros(2)}}, tmp_path / "moco.pth")
    return tmp_path / "moco.pth"


def test_a_file_that_fits(load_script, weights, tmp_path, capsys):
    names = tmp_path / "names.json"
    main = load_script("tools/import_checkpoint.py").main
    assert main([str(weights), "--arch", "resnet8-small", "--names", str(names)]) == 0
    out = capsys.readouterr().out
    used = len(json.loads(names.read_text())["used"])
    assert used == len(build_trunk("resnet8-small", 32)[0].state_dict())
    assert f"{used}" in out
    assert "state_dict.module.encoder_q.*" in out
    assert "left: queue" in out


@pytest.mark.parametrize(
    ("arch", "message"),
    [("resnet18", "It fits science.arch=resnet8-small"), ("resnet8-smal", "did you mean resnet8-small")],
)
def test_a_file_that_does_not(load_script, weights, capsys, arch, message):
    assert load_script("tools/import_checkpoint.py").main([str(weights), "--arch", arch]) == 2
    assert message in capsys.readouterr().err


def test_names_that_cannot_be_written(load_script, weights, capsys):
    names = weights / "names.json"
    assert load_script("tools/import_checkpoint.py").main(
        [str(weights), "--arch", "resnet8-small", "--names", str(names)]
    ) == 2  # fmt: skip
    assert capsys.readouterr().err == f"error: Cannot write {names}: Not a directory. Name another --names\n"
