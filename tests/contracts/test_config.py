"""Every field is read somewhere, the flags are few and frozen, and the recipes hold the published numbers."""

import dataclasses
import re
from pathlib import Path

import pytest

from debiaspl.config import ConfigError, Engine, Recipe, Science
from debiaspl.overrides import override
from debiaspl.recipes import RECIPES, find
from debiaspl.train import build_parser

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("section", [Science, Engine])
def test_every_field_is_read(section):
    sources = [path for path in (ROOT / "debiaspl").rglob("*.py") if path.parent.name != "recipes"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    for field in dataclasses.fields(section):
        assert re.search(rf"\.{field.name}\b", text), f"{section.__name__}.{field.name} is never read"


def test_the_flags_are_frozen():
    flags = {option for action in build_parser()._actions for option in action.option_strings if option != "-h"}
    wanted = "help recipe pipeline data out resume init set strict print-config dry-run"
    assert flags == {f"--{name}" for name in wanted.split()}


def test_every_recipe_builds_and_says_what_it_is():
    for name, function in RECIPES.items():
        assert find(name).name == name
        assert function.__doc__


# name: epochs, threshold, τ, m of p̂, λ_cld, CLIP gate (None: no CLIP) — the published table
PUBLISHED = {
    "imagenet-02p": (50, 0.8, 0.4, 0.99, 0.1, None),
    "imagenet-02p-clip": (50, 0.7, 0.4, 0.99, 0.1, 0.4),
    "imagenet-02p-fixmatch": (50, 0.7, 0.0, 0.99, 0.0, None),
    "imagenet-02p-nodebias": (50, 0.8, 0.0, 0.99, 0.0, None),
    "imagenet-1p": (50, 0.8, 0.4, 0.999, 0.3, None),
    "imagenet-1p-clip": (100, 0.7, 0.4, 0.99, 0.3, 0.4),
    "imagenet-1p-fixmatch": (50, 0.7, 0.0, 0.999, 0.0, None),
    "imagenet-1p-nodebias": (50, 0.8, 0.0, 0.999, 0.0, None),
    "zero-shot": (50, 0.8, 0.4, 0.99, 0.3, 0.3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_hold_the_published_numbers(name):
    s = find(name).science
    gate = s.clip_gate if s.clip else None
    assert (s.epochs, s.threshold, s.tau, s.phat_momentum, s.lambda_cld, gate) == PUBLISHED[name]
    common = (s.warmup_epochs, s.momentum, s.weight_decay, s.lr, s.labeled_batch, s.mu, s.group, s.lambda_u, s.ema)
    assert common == (5, 0.9, 1e-4, 0.003, 64, 5, 8, 10.0, 0.999)
    assert (s.multi_view, s.dropout) == ((False, 0.0) if name.endswith("-fixmatch") else (True, 0.45))
    assert (s.arch, s.compat, s.size, s.eval_resize) == ("resnet50", "upstream", 224, 256)
    assert s.crop_scale == (0.08, 1.0)
    assert s.phat_rows == 8
    assert s.objective.cld_assignment == "argmin"


def test_set_is_typed_by_the_field():
    recipe = override(
        find("demo"),
        [
            "science.tau=0.7",
            "science.multi_view=false",
            "engine.labeled_csv=a.csv, b.csv",
            "science.crop_scale=0.2,0.9",
        ],
    )
    assert recipe.science.tau == 0.7
    assert recipe.science.multi_view is False
    assert recipe.engine.labeled_csv == ("a.csv", "b.csv")
    assert recipe.science.crop_scale == (0.2, 0.9)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("science.tua=1", r"no field 'science\.tua'; did you mean science\.tau"),
        ("science.epochs=many", r"science\.epochs must be int \(got 'many'\)"),
        ("method.tau=1", "no section 'method'"),
        ("science.tau", "section.field=value"),
        ("science.group=7", r"does not divide into groups of science\.group=7.*1, 2, 4, 8"),
        ("science.threshold=1.5", "within 0 and 1"),
        ("science.arch=resnet5", "did you mean resnet50"),
        ("engine.pipeline=dail", "did you mean dali"),
        ("engine.precision=fp8", "'fp8'"),
        ("engine.strong_on=gpu", "'gpu'"),
        ("science.size=0", "size"),
    ],
)
def test_bad_values_say_what_to_do(assignment, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        override(find("demo"), [assignment])


def test_unknown_recipe_names_the_near_ones():
    with pytest.raises(ConfigError, match="did you mean imagenet-1p"):
        find("imagnet-1p")


def test_experiment_depends_on_science_and_split_only():
    recipe = find("demo")
    base = recipe.experiment("split")
    assert recipe.experiment("other") != base
    assert override(recipe, ["science.tau=0.1"]).experiment("split") != base
    assert override(recipe, ["engine.threads=7", "engine.pipeline=dali"]).experiment("split") == base
    assert Recipe("renamed", recipe.science, recipe.engine).experiment("split") == base


def test_groups_fit_the_ranks():
    science = find("imagenet-1p").science
    assert [science.accumulation(world) for world in (1, 2, 4, 8)] == [8, 4, 2, 1]
    with pytest.raises(ConfigError, match="Use one of 1, 2, 4, 8 processes"):
        science.accumulation(3)
