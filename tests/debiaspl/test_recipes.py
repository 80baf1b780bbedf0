"""What a user copies to start a run: launch scripts and the commands in recipes and --help."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from debiaspl.recipes import RECIPES, find
from debiaspl.train import build_parser

SCRIPTS = Path(__file__).parents[2] / "scripts"
PUBLISHED = {
    "0.2perc-ssl/train_DebiasPL.sh": "imagenet-02p",
    "0.2perc-ssl/train_DebiasPL_w_CLIP.sh": "imagenet-02p-clip",
    "1perc-ssl/train_DebiasPL.sh": "imagenet-1p",
    "1perc-ssl/train_DebiasPL_w_CLIP.sh": "imagenet-1p-clip",
    "zsl/train_DebiasPL.sh": "zero-shot",
    "zsl/train_DebiasPL_ImageNet.sh": "zero-shot",
}
"""The scripts of the published repository, by the names in its README, and what each trains."""
LAUNCHES = re.compile(r"torchrun (.*?) -m debiaspl\.train(?: --recipe (\S+))?")


def recipe_of(script: str) -> str:
    """The recipe that a launch line names; a failure where it is not a launch on one machine."""
    found = LAUNCHES.search(script)
    assert found, script
    options, recipe = found.groups()
    assert options.startswith("--standalone --nproc_per_node "), options
    return recipe


def test_scripts_are_the_published_ones():
    """A script in a deeper folder (slurm/) is for several machines, and launches in another way."""
    assert {path.relative_to(SCRIPTS).as_posix() for path in SCRIPTS.glob("*/train*.sh")} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_script_parses_and_its_recipe_exists(name):
    path = SCRIPTS / name
    assert path.stat().st_mode & 0o111, f"{path} is not executable"
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    recipe = recipe_of(path.read_text())
    assert recipe == PUBLISHED[name]
    assert find(recipe).name == recipe


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("demo") and name != "own"])
def test_a_recipe_gives_the_command_that_starts_it(name):
    """``--standalone``: without a rendezvous of its own torchrun does not recover from a rank that died."""
    assert recipe_of(RECIPES[name].__doc__ or "") == name


def test_help_launches_as_the_recipes_do():
    assert "torchrun" in build_parser().format_help()
    assert recipe_of(build_parser().format_help()) in RECIPES


@pytest.mark.parametrize("labels", ["1p", "02p"])
def test_baselines_differ_from_debiaspl_in_what_they_say(labels):
    ours = find(f"imagenet-{labels}").science
    ablation = replace(ours, tau=0.0, lambda_cld=0.0)
    assert find(f"imagenet-{labels}-nodebias").science == ablation
    eman = replace(ablation, multi_view=False, threshold=0.7, dropout=0.0)
    assert find(f"imagenet-{labels}-fixmatch").science == eman
    assert (eman.unlabeled_views.weak, eman.unlabeled_views.strong) == (1, 1)
