"""Recipes by name: each a function that returns a Recipe, its docstring the paper's row, command and expected top-1."""

from collections.abc import Callable

from debiaspl.config import ConfigError, Recipe
from debiaspl.recipes.demo import demo, demo_fixmatch, demo_supervised
from debiaspl.recipes.imagenet_02p import imagenet_02p, imagenet_02p_clip, imagenet_02p_fixmatch, imagenet_02p_nodebias
from debiaspl.recipes.imagenet_1p import imagenet_1p, imagenet_1p_clip, imagenet_1p_fixmatch, imagenet_1p_nodebias
from debiaspl.recipes.own import own
from debiaspl.recipes.zero_shot import zero_shot
from debiaspl.science import near

RECIPES: dict[str, Callable[[], Recipe]] = {
    "imagenet-1p": imagenet_1p,
    "imagenet-1p-clip": imagenet_1p_clip,
    "imagenet-1p-fixmatch": imagenet_1p_fixmatch,
    "imagenet-1p-nodebias": imagenet_1p_nodebias,
    "imagenet-02p": imagenet_02p,
    "imagenet-02p-clip": imagenet_02p_clip,
    "imagenet-02p-fixmatch": imagenet_02p_fixmatch,
    "imagenet-02p-nodebias": imagenet_02p_nodebias,
    "zero-shot": zero_shot,
    "own": own,
    "demo": demo,
    "demo-fixmatch": demo_fixmatch,
    "demo-supervised": demo_supervised,
}


def find(name: str) -> Recipe:
    """Returns the recipe called ``name``; raises ConfigError, which names the near ones, if there is none."""
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}{near(name, RECIPES)}")
    return RECIPES[name]()
