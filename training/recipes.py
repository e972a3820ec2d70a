"""Recipes: everything that decides how a network is trained, one frozen dataclass each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pneumo.errors import UnknownNameError
from pneumo.zoo import FILTERS
from training.augment import Augmentation
from training.balance import STRATEGIES
from training.errors import RecipeError

OPTIMIZERS = ("rmsprop", "adam", "adamw", "nadam", "sgd")
"""Optimizers of Keras that a recipe may name."""
_LARGEST_SEED = 2**32 - 1


def _whole(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _seed(value: Any) -> bool:
    return _whole(value, 0) and value <= _LARGEST_SEED


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "input_size": ("a whole number of at least 1", _whole),
    "filters": (
        f"{len(FILTERS)} whole numbers of at least 1, such as {FILTERS}",
        lambda value: isinstance(value, tuple) and len(value) == len(FILTERS) and all(map(_whole, value)),
    ),
    "balance": (f"one of {', '.join(STRATEGIES)}", lambda value: value in tuple(STRATEGIES)),
    "balance_seed": (f"a whole number from 0 to {_LARGEST_SEED}", _seed),
    "augmentation": ("an Augmentation", lambda value: isinstance(value, Augmentation)),
    "optimizer": (f"one of {', '.join(OPTIMIZERS)}", lambda value: value in OPTIMIZERS),
    "learning_rate": ("a number above 0", lambda value: _number(value) and value > 0),
    "batch_size": ("a whole number of at least 1", _whole),
    "epochs": ("a whole number of at least 1", _whole),
    "plateau_patience": ("a whole number of at least 1", _whole),
    "plateau_factor": ("a number above 0 and below 1", lambda value: _number(value) and 0 < value < 1),
    "plateau_floor": ("a number of at least 0", lambda value: _number(value) and value >= 0),
    "seed": (f"a whole number from 0 to {_LARGEST_SEED}", _seed),
}
"""What each field must be, in words and as a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What every recipe states.

    Attributes
    ----------
    input_size : int
        Side of the network's input, in pixels.
    filters : tuple of int
        Filters of the five convolution blocks.
    balance : str
        Strategy of `training.balance` for the training images.
    balance_seed : int
        Seed of that strategy.
    augmentation : Augmentation
        Random transforms of the training images.
    optimizer : str
        Name of a Keras optimizer.
    learning_rate : float
        Rate at the start.
    batch_size : int
        Images a step.
    epochs : int
        Passes over the balanced training images.
    plateau_patience : int
        Epochs without a better validation accuracy after which the rate is lowered.
    plateau_factor : float
        What the rate is then multiplied by.
    plateau_floor : float
        Rate below which it is not lowered.
    seed : int
        Seed of weights, dropout, order of images and transforms.

    Raises
    ------
    RecipeError
        If a field has a value that no training can use.
    """

    input_size: int = 150
    filters: tuple[int, ...] = FILTERS
    balance: str = "none"
    balance_seed: int = 42
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: str = "rmsprop"
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: int = 12
    plateau_patience: int = 2
    plateau_factor: float = 0.3
    plateau_floor: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise RecipeError(f"The field {name} of a recipe must be {rule}; received {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Recipe):
    """The recipe of the original report: SMOTE, geometric augmentation, RMSprop, plateau schedule.

    The image is squashed to a square of 150 x 150, neither cropped nor standardised: a baseline to
    improve on, not one to trust. Expect a test AUC of 0.95 to 0.97 and 14 to 18 minutes a network on 2 cores.
    """

    balance: str = "smote"
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(rotation=30.0, zoom=0.2, shift=0.1, flip=True)
    )


RECIPES: dict[str, type[Recipe]] = {"reference": Reference}
"""All recipes by name."""


def recipe(name: str, **overrides: Any) -> Recipe:
    """Make a recipe, with some of its fields replaced.

    Raises
    ------
    UnknownNameError
        If there is no recipe, or no field, of that name.
    RecipeError
        If a field has a value that no training can use.
    """
    if name not in RECIPES:
        raise UnknownNameError(f"A recipe must be one of {', '.join(RECIPES)}; received {name!r}.")
    known = {item.name for item in dataclasses.fields(RECIPES[name])}
    for unknown in overrides.keys() - known:
        raise UnknownNameError(f"A field of a recipe must be one of {', '.join(sorted(known))}; received {unknown!r}.")
    return RECIPES[name](**overrides)
