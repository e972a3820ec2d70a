"""What a recipe states: every field with its rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pneumo.framing import FRAMINGS, SCALINGS
from pneumo.zoo import FILTERS
from training.augment import Augmentation
from training.balance import STRATEGIES
from training.errors import RecipeError

OPTIMIZERS = ("rmsprop", "adam", "adamw", "nadam", "sgd", "muon")
"""Optimizers that a recipe may name: Keras's, but for Muon, which is `training.muon.Muon`."""
PRECISIONS = ("float32", "mixed_bfloat16")
"""Policies of Keras that a recipe may name for what makes feature maps."""
SCHEDULES = ("plateau", "cosine", "constant")
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
        f"{len(FILTERS)} whole numbers of at least 1, such as {FILTERS}, or () for the architecture's own",
        lambda value: isinstance(value, tuple) and len(value) in (0, len(FILTERS)) and all(map(_whole, value)),
    ),
    "framing": (f"one of {', '.join(FRAMINGS)}", lambda value: value in tuple(FRAMINGS)),
    "scaling": (f"one of {', '.join(SCALINGS)}", lambda value: value in tuple(SCALINGS)),
    "balance": (f"one of {', '.join(STRATEGIES)}", lambda value: value in tuple(STRATEGIES)),
    "balance_seed": (f"a whole number from 0 to {_LARGEST_SEED}", _seed),
    "matching": ("a number of at least 0 and at most 1", lambda value: _number(value) and 0 <= value <= 1),
    "patients": ("a number above 0 and at most 1", lambda value: _number(value) and 0 < value <= 1),
    "augmentation": ("an Augmentation", lambda value: isinstance(value, Augmentation)),
    "optimizer": (f"one of {', '.join(OPTIMIZERS)}", lambda value: value in OPTIMIZERS),
    "learning_rate": ("a number above 0", lambda value: _number(value) and value > 0),
    "weight_decay": ("a number of at least 0", lambda value: _number(value) and value >= 0),
    "batch_size": ("a whole number of at least 1", _whole),
    "epochs": ("a whole number of at least 1", _whole),
    "schedule": (f"one of {', '.join(SCHEDULES)}", lambda value: value in SCHEDULES),
    "average": ("a number of at least 0 and below 1", lambda value: _number(value) and 0 <= value < 1),
    "dropout": ("a number of at least 0 and at most 1", lambda value: _number(value) and 0 <= value <= 1),
    "precision": (f"one of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS),
    "distillation": ("a number of at least 0 and at most 1", lambda value: _number(value) and 0 <= value <= 1),
    "imitation": ("a number of at least 0", lambda value: _number(value) and value >= 0),
    "reasons": ("a number of at least 0", lambda value: _number(value) and value >= 0),
    "after": ("the name of a recipe, or an empty string", lambda value: isinstance(value, str)),
    "plateau_patience": ("a whole number of at least 1", _whole),
    "plateau_factor": ("a number above 0 and below 1", lambda value: _number(value) and 0 < value < 1),
    "plateau_floor": ("a number of at least 0", lambda value: _number(value) and value >= 0),
    "early_stopping": ("a whole number of at least 0", lambda value: _whole(value, 0)),
    "folds": ("0 or a whole number of at least 2", lambda value: _whole(value, 0) and value != 1),
    "grouped": ("True or False", lambda value: isinstance(value, bool)),
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
        Filters of the five convolution blocks; () for the architecture's own.
    framing : str
        What the network sees of a radiograph: one of `pneumo.framing.FRAMINGS`.
    scaling : str
        How its gray values are scaled: one of `pneumo.framing.SCALINGS`.
    balance : str
        Strategy of `training.balance` for the training images.
    balance_seed : int
        Seed of that strategy.
    matching : float
        Share of the training images that is drawn by `training.matching.overlap_weights`, so that the size of the
        original tells nothing of the class, 0 to 1; above 0 only with the balance "batches".
    patients : float
        Share of the training patients of each class whose images are trained on, drawn by the seed, above 0 and at most
        1: what more of them would bring is told by what fewer cost.
    augmentation : Augmentation
        Random transforms of the training images.
    optimizer : str
        One of `OPTIMIZERS`.
    learning_rate : float
        Rate at the start; with the cosine schedule, at the end of the warm-up.
    weight_decay : float
        Of AdamW and Muon.
    batch_size : int
        Images a step.
    epochs : int
        Passes over the balanced training images.
    schedule : str
        "plateau" lowers the rate where validation stands still; "cosine" warms up over a tenth of the steps
        and then lowers it to a hundredth; "constant" leaves it.
    average : float
        Momentum of a moving average of the weights over the steps (Polyak and Juditsky, SIAM J. Control Optim.
        30, 1992). Above 0, the average after the last epoch is kept; at 0, the best epoch.
    dropout : float
        What the architecture's dropout rates are multiplied by, 0 to 1.
    precision : str
        Policy of Keras for the layers that make feature maps while training. "mixed_bfloat16" is faster on machines
        that have instructions for bfloat16, and slower on others. What ships is float32 either way.
    distillation : float
        Weight of the teacher's answers in the labels, 0 to 1 (Hinton et al., arXiv 1503.02531, 2015); 0 for none.
    imitation : float
        Weight in the loss of the distance of the last feature map from the teacher's, at least 0 (see
        `training.imitation`); above 0 only with `distillation`.
    reasons : float
        Weight in the loss of the share of the evidence for pneumonia that lies outside the lungs, at least 0 (see
        `training.reasons`); above 0 only for networks of five blocks.
    after : str
        Recipe by which the network was trained before, with the same seed; "" for fresh weights.
    plateau_patience : int
        Epochs without a better validation accuracy after which the rate is lowered.
    plateau_factor : float
        What the rate is then multiplied by.
    plateau_floor : float
        Rate below which it is not lowered.
    early_stopping : int
        Epochs without a lower validation loss after which the training ends; 0 for never.
    folds : int
        Folds of a cross-validation over the training images, before the network itself is trained; 0 for none.
    grouped : bool
        Whether a patient's images stay in one fold. If not, as in the reports, the folds leak: images of one patient
        are on both sides.
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
    matching: float = 0.0
    patients: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: str = "rmsprop"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 12
    schedule: str = "plateau"
    average: float = 0.0
    dropout: float = 1.0
    precision: str = "float32"
    distillation: float = 0.0
    imitation: float = 0.0
    reasons: float = 0.0
    after: str = ""
    plateau_patience: int = 2
    plateau_factor: float = 0.3
    plateau_floor: float = 1e-6
    early_stopping: int = 0
    folds: int = 0
    grouped: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise RecipeError(f"The field {name} of a recipe must be {rule}; received {value!r}.")
        if self.imitation and not self.distillation:
            raise RecipeError(
                "The field imitation of a recipe must be 0 unless it has a distillation; received "
                f"{self.imitation!r}. Set distillation=0.9, or imitation=0."
            )
        if self.matching and self.balance != "batches":
            raise RecipeError(
                f'The field matching of a recipe must be 0 unless its balance is "batches"; received {self.matching!r} '
                f"with {self.balance!r}. Set balance=batches, or matching=0."
            )
