"""Every field is read somewhere, the flags are few and frozen, and the recipes hold the published numbers."""

import dataclasses
import re
from pathlib import Path

import pytest

from debiaspl.config import ConfigError, Recipe
from debiaspl.data import _resources
from debiaspl.distributed import Ranks
from debiaspl.overrides import MOVED, SECTIONS, override, restored
from debiaspl.recipes import RECIPES, find
from debiaspl.train import build_parser

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_no_key_can_hold_is_refused(seed):
    assert override(find("demo"), [f"science.seed={2**64 - 1}"]).science.seed == 2**64 - 1
    with pytest.raises(ConfigError, match=f"science.seed must be within 0 and {2**64 - 1}"):
        override(find("demo"), [f"science.seed={seed}"])


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_read(section):
    folder = "debiaspl" if section in ("science", "engine") else "pipelines/sources"
    sources = [path for path in (ROOT / folder).rglob("*.py") if path.parent.name != "recipes"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    for field in dataclasses.fields(SECTIONS[section]):
        assert re.search(rf"\.{field.name}\b", text), f"{section}.{field.name} is never read"


def test_the_sections_are_the_recipes():
    fields = {field.name: field.type for field in dataclasses.fields(Recipe)}
    assert fields == {"name": str, **SECTIONS}


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
        ("epoch=3", r"no field 'epoch'; did you mean science\.epochs\?$"),
        ("sizes=3", r"no field 'sizes'; did you mean science\.size\?$"),
        ("threads=3", r"no one field 'threads'; did you mean engine\.threads or dali\.threads\?$"),
        ("zzzz=3", "no field 'zzzz'; --print-config lists all"),
        ("science.epochs=many", r"science\.epochs must be int \(got 'many'\)"),
        ("method.tau=1", "no section 'method'; there are science, engine, dali, ffcv"),
        ("ffcv.cash=page", r"no field 'ffcv\.cash'; did you mean ffcv\.cache"),
        ("ffcv.cache=disk", r"ffcv\.cache must be .*'auto', 'page', 'memory'.* \(got 'disk'\)"),
        ("dali.cut=gpu", "'gpu'"),
        ("dali.hw_decoder_load=2", r"dali\.hw_decoder_load must be within 0 and 1 \(got 2\.0\)"),
        ("dali.threads=0", r"dali\.threads must be at least 1 \(got 0\)"),
        ("dali.prefetch=0", r"dali\.prefetch must be at least 1 \(got 0\)"),
        ("dali.decode=gpu", r"dali\.decode must be .*'mixed', 'cpu'.* \(got 'gpu'\)"),
        ("dali.preallocate_mb=-1", r"dali\.preallocate_mb must be at least 0 \(got -1\)"),
        ("engine.dali_cut=gpu", r"dali\.cut must be .*'gpu'"),
        ("engine.threads=-1", r"engine\.threads must be at least 0 \(got -1\)"),
        ("engine.prefetch=0", r"engine\.prefetch must be at least 1 \(got 0\)"),
        ("science.lr=0", r"science\.lr must be above 0 \(got 0\.0\)"),
        ("science.tau=nan", r"science\.tau must be at least 0 \(got nan\)"),
        ("science.tau", "section.field=value"),
        ("science.group=7", r"does not divide into groups of science\.group=7.*1, 2, 4, 8"),
        ("science.threshold=1.5", "within 0 and 1"),
        ("science.arch=resnet5", "did you mean resnet50"),
        ("engine.pipeline=dail", "did you mean dali"),
        ("engine.precision=fp8", "'fp8'"),
        ("ffcv.strong_on=gpu", "'gpu'"),
        ("science.size=0", "size"),
    ],
)
def test_bad_values_say_what_to_do(assignment, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        override(find("demo"), [assignment])


OLD = {
    "engine.strong_on": "device",
    "engine.ffcv_cache": "page",
    "engine.dali_cut": "cpu",
    "engine.dali_hw_decoder_load": 0.25,
    "engine.dali_preallocate_mb": 32,
}


def test_a_field_that_one_section_has_needs_no_section():
    assert override(find("demo"), ["tau=0.7", "keep=3"]) == override(find("demo"), ["science.tau=0.7", "engine.keep=3"])


@pytest.mark.parametrize(
    ("recipe", "given", "derived"),
    [
        ("imagenet-1p", ["size=64"], {"eval_resize": 73}),
        ("imagenet-1p", ["size=224"], {"eval_resize": 256}),
        ("imagenet-1p", ["size=64", "eval_resize=64"], {"eval_resize": 64}),
        ("demo", ["size=64"], {"eval_resize": 64}),
        ("imagenet-1p", ["epochs=100"], {"warmup_epochs": 5}),
        ("imagenet-1p", ["epochs=3"], {"warmup_epochs": 0}),
        ("demo", ["epochs=1"], {"warmup_epochs": 0}),
    ],
)
def test_what_follows_from_a_field_changes_with_it(recipe, given, derived):
    science = override(find(recipe), given).science
    assert {name: getattr(science, name) for name in derived} == derived


def test_old_names_of_fields_are_understood_and_say_the_new_ones(capsys):
    assert OLD.keys() == MOVED.keys()
    recipe = override(find("demo"), [f"{name}={value}" for name, value in OLD.items()])
    assert (recipe.ffcv.strong_on, recipe.ffcv.cache) == ("device", "page")
    assert (recipe.dali.cut, recipe.dali.hw_decoder_load, recipe.dali.preallocate_mb) == ("cpu", 0.25, 32)
    assert capsys.readouterr().err.splitlines() == [f"{old} is now {MOVED[old]}" for old in OLD]
    assert override(recipe, ["ffcv.cache=memory"]).ffcv.cache == "memory"
    assert capsys.readouterr().err == ""


def test_compile_off_compiles_nothing_in_a_source_either():
    assert _resources(find("imagenet-1p"), "train.beton", Ranks()).compile
    assert not _resources(override(find("imagenet-1p"), ["engine.compile=off"]), "train.beton", Ranks()).compile


def test_a_recipe_is_restored_from_this_versions_layout_and_the_older_one():
    recipe = override(find("demo"), ["ffcv.cache=page", "dali.cut=cpu", "science.tau=0.7", "engine.threads=3"])
    assert restored(dataclasses.asdict(recipe)) == recipe
    saved = dataclasses.asdict(find("demo"))
    del saved["dali"], saved["ffcv"]
    saved["engine"] |= {name.removeprefix("engine."): value for name, value in OLD.items()} | {"no_longer": 1}
    old = restored(saved)
    assert (old.science, old.engine) == (find("demo").science, find("demo").engine)
    assert dataclasses.astuple(old.ffcv) == ("page", "device")
    assert (old.dali.cut, old.dali.hw_decoder_load, old.dali.preallocate_mb) == ("cpu", 0.25, 32)


def test_unknown_recipe_names_the_near_ones():
    with pytest.raises(ConfigError, match="did you mean imagenet-1p"):
        find("imagnet-1p")


def test_experiment_depends_on_science_and_split_only():
    recipe = find("demo")
    base = recipe.experiment("split")
    assert base == "2d4c216c961a2e7e"  # of version 0.1.0: older checkpoints belong to their recipes still
    assert recipe.experiment("other") != base
    assert override(recipe, ["science.tau=0.1"]).experiment("split") != base
    assert override(recipe, ["engine.threads=7", "ffcv.cache=page", "dali.cut=cpu"]).experiment("split") == base
    assert Recipe("renamed", recipe.science, recipe.engine).experiment("split") == base


def test_groups_fit_the_ranks():
    science = find("imagenet-1p").science
    assert [science.accumulation(world) for world in (1, 2, 4, 8)] == [8, 4, 2, 1]
    with pytest.raises(ConfigError, match="Use one of 1, 2, 4, 8 processes"):
        science.accumulation(3)
