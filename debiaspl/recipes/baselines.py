"""What DebiasPL is compared with, derived from a recipe: the same without debiasing, and EMAN's own setting of it."""

from dataclasses import replace
from typing import Any

from debiaspl.config import Recipe

WITHOUT_DEBIASING: dict[str, Any] = {"tau": 0.0, "lambda_cld": 0.0}
"""Fields of Science that make DebiasPL FixMatch with an EMAN teacher: no debiasing, no margin, no CLD."""
SUPERVISED: dict[str, Any] = {**WITHOUT_DEBIASING, "lambda_u": 0.0}
"""Fields of Science with which the same steps train on the labeled images alone."""


def without_debiasing(recipe: Recipe, name: str) -> Recipe:
    """Returns the recipe, called ``name``, without debiasing, margin and CLD: FixMatch with an EMAN teacher."""
    return replace(recipe, name=name, science=replace(recipe.science, **WITHOUT_DEBIASING))


def in_eman_setting(recipe: Recipe, name: str) -> Recipe:
    """Returns the recipe, called ``name``, with what else is known to differ in EMAN's code, which has no debiasing.

    That is one weak and one strong view, threshold 0.7 and no dropout.
    """
    science = replace(recipe.science, multi_view=False, threshold=0.7, dropout=0.0)
    return without_debiasing(replace(recipe, science=science), name)
