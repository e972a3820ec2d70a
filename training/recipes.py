"""Recipes: everything that decides how a network is trained, one frozen dataclass each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from pneumo.errors import UnknownNameError
from pneumo.zoo import FILTERS
from training.augment import Augmentation


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Recipe):
    """The recipe of the original report: SMOTE, geometric augmentation, RMSprop, plateau schedule.

    The image is squashed to a square of 150 x 150, neither cropped nor standardised: a baseline to
    improve on, not one to trust. A network takes about 20 minutes on 2 cores.
    """

    balance: str = "smote"
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(rotation=30.0, zoom=0.2, shift=0.1, flip=True)
    )


RECIPES: dict[str, type[Recipe]] = {"reference": Reference}
"""All recipes by name."""


def recipe(name: str, **overrides: object) -> Recipe:
    """Make a recipe, with some of its fields replaced.

    Raises
    ------
    UnknownNameError
        If there is no recipe, or no field, of that name.
    """
    if name not in RECIPES:
        raise UnknownNameError(f"A recipe must be one of {', '.join(RECIPES)}; received {name!r}.")
    known = {item.name for item in dataclasses.fields(RECIPES[name])}
    for unknown in overrides.keys() - known:
        raise UnknownNameError(f"A field of a recipe must be one of {', '.join(sorted(known))}; received {unknown!r}.")
    return RECIPES[name](**overrides)
