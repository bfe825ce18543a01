"""Recipes: named sets of option values, for options that are not given; nothing in them is hidden.

What each value is worth, on which tables, and how it was chosen: docs/recipes.md.
"""

from typing import Any

from distbp.data.loading import paths_of
from distbp.data.table.formats import FORMATS, suffix_of
from distbp.errors import UserError

_BOTH: dict[str, Any] = {
    "activation": "gelu", "optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.2, "schedule": "cosine",
    "batch_size": 256, "label_smoothing": 0.1, "keep_model": "best", "calibrate": True, "report": "en",
    "checkpoint_async": True,
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "table": _BOTH | {"bins": 48, "hidden": "256,256", "dropout": 0.2},
    "image": _BOTH | {"hidden": "512,512", "dropout": 0.3},
    "plain": {},
}
"""``plain`` is the lecture's: the defaults of the options themselves."""
BATCH = 32
"""Rows of a batch where a recipe says nothing of it."""
ADAPTED = ("batch_size", "bins", "weight_decay")
"""Options whose value in a recipe is the largest: rows, columns and steps decide, unless a user does."""

_EPOCHS, _MANY_STEPS = {"table": 60, "image": 40}, 40_000


def epochs_of(recipe: str, steps_per_epoch: int) -> int | None:
    """Return how many epochs a recipe trains, where nobody says how long: fewer where they are long.

    None where it says nothing of it.
    """
    many = _EPOCHS.get(recipe)
    return many and max(1, min(many, _MANY_STEPS // steps_per_epoch))


_FEW_STEPS = 10


def batch_of(recipe: str, n_rows: int) -> int:
    """Return the batch size of a recipe for so many training rows: it is halved until an epoch has some steps."""
    batch: int = RECIPES[recipe].get("batch_size", BATCH)
    while batch > BATCH and n_rows < _FEW_STEPS * batch:
        batch //= 2
    return batch


_SHRINKING = 650.0


def decay_of(recipe: str, steps: int) -> float:
    """Return the weight decay of a recipe for so many steps: over all of them it shrinks weights by so much at most."""
    most: float = RECIPES[recipe].get("weight_decay", 0.0)
    return min(most, float(f"{_SHRINKING / max(1, steps):.2g}"))


_COMPONENTS, _FEWEST_BINS, _MOST_COMPONENTS = 400, 16, 16_384


def bins_of(recipe: str, n_numbers: int) -> int:
    """Return in how many bins a recipe encodes each of so many columns of numbers: fewer, where there are many.

    None (0) where the first layer would have more weights than a table of that width asks for.
    """
    most: int = RECIPES[recipe].get("bins", 0)
    if n_numbers * _FEWEST_BINS > _MOST_COMPONENTS:
        return 0
    return min(most, max(_FEWEST_BINS, _COMPONENTS // max(1, n_numbers)))


def recipe_of(data: str, model: str | None) -> str:
    """Return the recipe that suits data of this name or path; a model of the user's own knows best itself."""
    if model is not None or data.startswith("synthetic"):
        return "plain"
    try:
        first = paths_of(data)[0]
    except UserError:  # for all ranks to say, when they load it
        return "plain"
    return "table" if suffix_of(first) in FORMATS else "image"


def recipe_of_rows(rows: Any) -> str:
    """Return the recipe that suits rows in memory: images are bytes, or have more than one axis each."""
    shape, dtype = getattr(rows, "shape", ()), str(getattr(rows, "dtype", ""))
    return "image" if len(shape) > 2 or (dtype == "uint8" and shape[1:] > (1,)) else "table"


def with_recipe(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return options by name: those that are given, and what their recipe says of the others but `ADAPTED`."""
    recipe = given.get("recipe", "auto")
    if recipe == "auto":
        recipe = recipe_of(given.get("data", defaults["data"]), given.get("model"))
    values = {name: value for name, value in RECIPES[recipe].items() if name not in ADAPTED}
    if values and given.get("optimizer", "adamw") != "adamw":  # with another rate; bins ask for one of each weight
        values = {name: value for name, value in values.items() if name != "lr"} | {"weight_decay": 0.0, "bins": 0}
    return values | given | {"recipe": recipe}
