"""Recipes: everything that decides how a network is trained, one frozen dataclass each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pneumo.errors import UnknownNameError
from pneumo.framing import FRAMINGS, SCALINGS
from pneumo.zoo import FILTERS
from training.augment import Augmentation
from training.balance import STRATEGIES
from training.errors import RecipeError

OPTIMIZERS = ("rmsprop", "adam", "adamw", "nadam", "sgd")
"""Optimizers of Keras that a recipe may name."""
TEACHER = "efficientnet_lite0"
"""The larger pretrained network that others may be distilled from; it is no network of the zoo and is not shipped."""
SCHEDULES = ("plateau", "cosine")
"""Schedules of the learning rate that a recipe may name."""
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
    "framing": (f"one of {', '.join(FRAMINGS)}", lambda value: value in tuple(FRAMINGS)),
    "scaling": (f"one of {', '.join(SCALINGS)}", lambda value: value in tuple(SCALINGS)),
    "balance": (f"one of {', '.join(STRATEGIES)}", lambda value: value in tuple(STRATEGIES)),
    "balance_seed": (f"a whole number from 0 to {_LARGEST_SEED}", _seed),
    "augmentation": ("an Augmentation", lambda value: isinstance(value, Augmentation)),
    "optimizer": (f"one of {', '.join(OPTIMIZERS)}", lambda value: value in OPTIMIZERS),
    "learning_rate": ("a number above 0", lambda value: _number(value) and value > 0),
    "weight_decay": ("a number of at least 0", lambda value: _number(value) and value >= 0),
    "batch_size": ("a whole number of at least 1", _whole),
    "epochs": ("a whole number of at least 1", _whole),
    "schedule": (f"one of {', '.join(SCHEDULES)}", lambda value: value in SCHEDULES),
    "average": ("a number of at least 0 and below 1", lambda value: _number(value) and 0 <= value < 1),
    "distillation": ("a number of at least 0 and at most 1", lambda value: _number(value) and 0 <= value <= 1),
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
    framing : str
        What the network sees of a radiograph: one of `pneumo.framing.FRAMINGS`.
    scaling : str
        How its gray values are scaled: one of `pneumo.framing.SCALINGS`.
    balance : str
        Strategy of `training.balance` for the training images.
    balance_seed : int
        Seed of that strategy.
    augmentation : Augmentation
        Random transforms of the training images.
    optimizer : str
        Name of a Keras optimizer.
    learning_rate : float
        Rate at the start; with the cosine schedule, at the end of the warm-up.
    weight_decay : float
        Of AdamW.
    batch_size : int
        Images a step.
    epochs : int
        Passes over the balanced training images.
    schedule : str
        "plateau" lowers the rate where validation stands still; "cosine" warms up over a tenth of the steps
        and then lowers it to a hundredth.
    average : float
        Momentum of a moving average of the weights over the steps (Polyak and Juditsky, SIAM J. Control Optim.
        30, 1992). Above 0, the average after the last epoch is kept; at 0, the best epoch.
    distillation : float
        Weight of the teacher's answers in the labels, 0 to 1 (Hinton et al., arXiv 1503.02531, 2015); 0 for none.
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
    framing: str = "squashed"
    scaling: str = "unit"
    balance: str = "none"
    balance_seed: int = 42
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: str = "rmsprop"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 12
    schedule: str = "plateau"
    average: float = 0.0
    distillation: float = 0.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Robust(Recipe):
    """Lungs first: framed by the lungs, each image standardised, strong augmentation, averaged weights.

    A share of the training images loses its lungs and is labelled one half, so that a network that looks
    elsewhere is told that there is nothing to be seen; another loses all but its lungs, the rim around them included.
    """

    input_size: int = 112
    epochs: int = 12
    framing: str = "lungs"
    scaling: str = "standard"
    balance: str = "smote"
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            rotation=12.0,
            zoom=0.1,
            shift=0.06,
            flip=True,
            aspect=1.2,
            gamma=1.8,
            contrast=1.8,
            brightness=0.2,
            blur=2.1,
            noise=0.04,
            jpeg=30,
            strip=0.3,
            blind=0.15,
        )
    )
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    schedule: str = "cosine"
    average: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching(Robust):
    """The robust recipe for the teacher, EfficientNet-Lite0 with ImageNet weights, fine-tuned for a few epochs."""

    learning_rate: float = 5e-4
    epochs: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled(Robust):
    """The robust recipe, with the teacher's answers for half of the label."""

    distillation: float = 0.5


RECIPES: dict[str, type[Recipe]] = {
    "reference": Reference,
    "robust": Robust,
    "teaching": Teaching,
    "distilled": Distilled,
}
"""All recipes by name."""
DEFAULT = "robust"
"""The recipe of the networks that ship."""


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
