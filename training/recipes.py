"""Recipes: everything that decides how a network is trained, one frozen dataclass each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pneumo.errors import UnknownNameError
from training.augment import Augmentation
from training.fields import Recipe
from training.reports import REPORTS

TEACHER = "efficientnet_lite0"
"""The larger pretrained network that others may be distilled from."""


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


def _any_exposure(fade: float = 0.0) -> Augmentation:
    return Augmentation(
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
        film=8.0,
        strip=0.3,
        blind=0.15,
        fade=fade,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Robust(Recipe):
    """Lungs first: framed by the lungs, each image standardised, strong augmentation, averaged weights.

    A share of the training images loses its lungs and is labelled one half, so that a network that looks
    elsewhere is told that there is nothing to be seen; another loses all but its lungs, the rim around them included.
    Expect a test AUC of 0.98, an accuracy of 0.93 to 0.94 at the operating point, and 9 to 12 minutes a network on
    2 cores.
    """

    input_size: int = 112
    epochs: int = 12
    framing: str = "lungs"
    scaling: str = "standard"
    balance: str = "smote"
    augmentation: Augmentation = field(default_factory=_any_exposure)
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    schedule: str = "cosine"
    average: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching(Robust):
    """The robust recipe for the teacher, EfficientNet-Lite0 with ImageNet weights, fine-tuned for a few epochs.

    Half of the images are drawn so that the size of the original tells nothing of the class. It sees more pixels than
    its pupils.
    Expect a held-out AUC of 0.99, and 5 to 8 minutes on 2 cores.
    """

    input_size: int = 160
    filters: tuple[int, ...] = ()
    balance: str = "batches"
    matching: float = 0.5
    learning_rate: float = 5e-4
    epochs: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled(Robust):
    """The robust recipe, with the teacher's answers for nine tenths of the label and its last map for an example.

    Longer, and without dropout. Half of the images are drawn so that the size of the original tells nothing of the
    class.
    Expect a test AUC of 0.98, an accuracy of 0.92 to 0.94 at the operating point, and 4 to 12 minutes a network
    on 2 cores that have instructions for bfloat16.
    """

    epochs: int = 20
    balance: str = "batches"
    matching: float = 0.5
    dropout: float = 0.0
    precision: str = "mixed_bfloat16"
    distillation: float = 0.9
    imitation: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoned(Distilled):
    """What comes after the distilled recipe: longer still, by Muon, with a price on evidence outside the lungs.

    The teacher's answers and map are there as before. A tenth of the images are blurred until nothing can be read, and
    labelled one half, too.
    Expect a test AUC of 0.98, an accuracy of 0.93 at the operating point, and 8 to 12 minutes a network on 2 cores that
    have instructions for bfloat16, after those of the other recipe.
    """

    after: str = "distilled"
    epochs: int = 24
    augmentation: Augmentation = field(default_factory=lambda: _any_exposure(fade=0.1))
    optimizer: str = "muon"
    learning_rate: float = 1e-3
    reasons: float = 0.015


RECIPES: dict[str, type[Recipe]] = {
    "reference": Reference,
    "robust": Robust,
    "teaching": Teaching,
    "distilled": Distilled,
    "reasoned": Reasoned,
    **REPORTS,
}
"""All recipes by name."""
DEFAULT = "reasoned"
"""The recipe of the networks that ship."""
_OWN: dict[tuple[str, str], dict[str, Any]] = {("reasoned", "cnn_rnn"): {"reasons": 0.025}}
"""By recipe and system, fields that this system has a value of its own for: at the same price more of the CNN-RNN's
evidence lies outside the lungs than of the others'."""


def recipe(name: str, system: str = "", /, **overrides: Any) -> Recipe:
    """Make a recipe, with some of its fields replaced; those of its augmentation are named `augmentation.FIELD`.

    With the name of a system, it has that system's own values where the recipe gives it any.

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
    nested = {f"augmentation.{item.name}" for item in dataclasses.fields(Augmentation)}
    for unknown in overrides.keys() - known - nested:
        raise UnknownNameError(
            f"A field of a recipe must be one of {', '.join(sorted(known | nested))}; received {unknown!r}."
        )
    fields = _OWN.get((name, system), {}) | overrides
    made = RECIPES[name](**{key: value for key, value in fields.items() if key in known})
    transforms = {key.partition(".")[2]: value for key, value in overrides.items() if key in nested}
    if made.after and made.after not in RECIPES:
        raise UnknownNameError(f"A recipe can come after one of {', '.join(RECIPES)}; received {made.after!r}.")
    if not transforms:
        return made
    return dataclasses.replace(made, augmentation=dataclasses.replace(made.augmentation, **transforms))
