"""A recipe that can be made can be trained; any other is refused with a reason."""

from __future__ import annotations

import dataclasses
import re

import pytest

from pneumo.errors import PneumoError, UnknownNameError
from pneumo.framing import FRAMINGS, SCALINGS, needs_lungs
from pneumo.zoo import FILTERS
from training.augment import Augmentation
from training.balance import STRATEGIES
from training.errors import RecipeError
from training.recipes import DEFAULT, OPTIMIZERS, RECIPES, SCHEDULES, Recipe, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_made_and_says_what_it_is(name):
    made = recipe(name)
    assert isinstance(made, Recipe)
    assert "." in type(made).__doc__
    assert type(made).__doc__ != Recipe.__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.epochs = 3


def test_reference_is_that_of_the_report():
    made = recipe("reference")
    assert (made.input_size, made.filters) == (150, FILTERS)
    assert (made.balance, made.balance_seed) == ("smote", 42)
    assert made.augmentation == Augmentation(rotation=30, zoom=0.2, shift=0.1, flip=True)
    assert (made.optimizer, made.learning_rate, made.batch_size, made.epochs) == ("rmsprop", 1e-3, 32, 12)
    assert (made.schedule, made.average, made.weight_decay) == ("plateau", 0, 0)
    assert (made.plateau_patience, made.plateau_factor, made.plateau_floor) == (2, 0.3, 1e-6)
    assert (made.framing, made.scaling) == ("squashed", "unit")


def test_default_sees_the_lungs_whatever_the_exposure():
    made = recipe(DEFAULT)
    assert needs_lungs(made.framing)
    assert made.scaling == "standard"
    assert made.augmentation.blind > 0
    assert made.average > 0
    assert made.schedule == "cosine", "an average over steps that stay large is no network"


GOOD = [
    ("input_size", 1),
    ("input_size", 224),
    ("filters", (1, 1, 1, 1, 1)),
    *(("framing", name) for name in FRAMINGS),
    *(("scaling", name) for name in SCALINGS),
    *(("balance", name) for name in STRATEGIES),
    ("balance_seed", 0),
    ("augmentation", Augmentation()),
    *(("optimizer", name) for name in OPTIMIZERS),
    ("learning_rate", 1e-8),
    ("learning_rate", 1),
    ("weight_decay", 0),
    ("weight_decay", 1e-3),
    *(("schedule", name) for name in SCHEDULES),
    ("average", 0),
    ("average", 0.999),
    ("distillation", 0),
    ("distillation", 1),
    ("batch_size", 1),
    ("epochs", 1),
    ("plateau_patience", 1),
    ("plateau_factor", 0.99),
    ("plateau_floor", 0),
    ("seed", 0),
    ("seed", 2**32 - 1),
]
BAD = [
    *(("input_size", value) for value in (0, -1, 1.5, 150.0, "150", None, True, (150, 150))),
    *(
        ("filters", value)
        for value in ((), (4, 4, 4, 8), (4,) * 6, (4, 4, 4, 8, 0), (4, 4, 4, 8, 8.0), [4] * 5, 4, "4")
    ),
    *(("framing", value) for value in ("foo", "", "Lungs", None, 0, ["lungs"], {})),
    *(("scaling", value) for value in ("foo", "", "Unit", None, 1, ["unit"])),
    *(("weight_decay", value) for value in (-1e-9, float("nan"), float("inf"), "0", None, True)),
    *(("schedule", value) for value in ("foo", "", "Cosine", None, 0, ["cosine"])),
    *(("average", value) for value in (1, 1.5, -0.1, "0.9", None, False, float("nan"))),
    *(("distillation", value) for value in (-0.1, 1.1, "0.5", None, True, float("nan"))),
    *(("balance", value) for value in ("foo", "", "SMOTE", None, 0, ["smote"], {})),
    *(("balance_seed", value) for value in (-1, 2**32, 0.0, "0", None, True)),
    *(("augmentation", value) for value in (None, {}, {"rotation": 30}, "none", 0)),
    *(("optimizer", value) for value in ("foo", "", "RMSprop", None, 0, ["adam"])),
    *(("learning_rate", value) for value in (0, -1, float("nan"), float("inf"), "0.1", None, True, 1j)),
    *(("batch_size", value) for value in (0, -1, 32.0, "32", None)),
    *(("epochs", value) for value in (0, -1, 1.0, "abc", "12", "", None, False, [1])),
    *(("plateau_patience", value) for value in (0, -1, 2.0, None)),
    *(("plateau_factor", value) for value in (0, 1, 1.5, -0.3, "0.3", float("nan"))),
    *(("plateau_floor", value) for value in (-1e-6, float("inf"), "0", None)),
    *(("seed", value) for value in (-1, 2**32, 0.5, "0", None)),
]


def test_tables_name_every_field():
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert {name for name, _ in GOOD} == {name for name, _ in BAD} == fields


@pytest.mark.parametrize(("field", "value"), GOOD)
@pytest.mark.parametrize("name", RECIPES)
def test_good_values(name, field, value):
    assert getattr(recipe(name, **{field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), BAD)
def test_bad_values(field, value):
    with pytest.raises(RecipeError, match=f"The field {field} of a recipe must be .*; received ") as caught:
        recipe("reference", **{field: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Reference", "best"])
def test_unknown_recipe(name):
    with pytest.raises(UnknownNameError, match=re.escape(f"one of {', '.join(RECIPES)}; received {name!r}")):
        recipe(name)


@pytest.mark.parametrize("field", ["", "epoch", "__class__", "Epochs"])
def test_unknown_field(field):
    with pytest.raises(UnknownNameError, match="augmentation, average, balance, balance_seed") as caught:
        recipe("reference", **{field: 1})
    assert repr(field) in str(caught.value)


def test_recipe_error_is_a_pneumo_error_and_a_value_error():
    assert issubclass(RecipeError, PneumoError)
    assert issubclass(RecipeError, ValueError)
