"""The loops that docs/pipelines.md shows run as they stand there, with equal results on every pipeline."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.support.installed import PACKAGE, installed

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/pipelines.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(demo_data, tmp_path_factory) -> Path:
    """A folder with the demo's data at the place that the page names."""
    base = tmp_path_factory.mktemp("loop")
    shutil.copytree(demo_data, base / "dataset/imagenet")
    return base


@pytest.fixture(scope="module")
def expected() -> list[torch.Tensor]:
    """The weights that the first pipeline of the session left; empty before."""
    return []


@pytest.mark.parametrize(
    "pipeline", ["torchvision", *(pytest.param(name, marks=pytest.mark.soak) for name in ("dali", "ffcv"))]
)
def test_the_loops_run(pipeline, folder, expected, load_script, capsys, monkeypatch):
    assert len(BLOCKS) == 2
    if not installed(PACKAGE[pipeline]):
        pytest.skip(f"{pipeline} is not installed")
    if pipeline == "ffcv":
        assert load_script("tools/convert_imagenet_to_ffcv.py").main(["--data", str(folder / "dataset/imagenet")]) == 0
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for block in BLOCKS:
        assert '"torchvision"' in block
        exec(block.replace('"torchvision"', f'"{pipeline}"'), names)
    assert re.fullmatch(r"\d+ of 100 are right\n", capsys.readouterr().out.splitlines(keepends=True)[-1])
    weights = names["network"].weight.detach()
    if expected:
        assert torch.equal(weights, expected[0])
    else:
        expected.append(weights)
