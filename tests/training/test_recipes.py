"""A recipe that can be made can be trained; any other is refused with a reason."""

from __future__ import annotations

import dataclasses
import re

import pytest

from pneumo.errors import PneumoError, UnknownNameError
from pneumo.framing import FRAMINGS, SCALINGS, needs_lungs
from pneumo.zoo import ARCHITECTURES, FILTERS, SYSTEMS
from training.augment import Augmentation
from training.balance import STRATEGIES
from training.errors import RecipeError
from training.fields import OPTIMIZERS, PRECISIONS, SCHEDULES, Recipe
from training.recipes import DEFAULT, RECIPES, recipe
from training.reports import REPORTS


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


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in REPORTS])
def test_expected_score_and_time_are_said(name):
    described = " ".join(type(recipe(name)).__doc__.split())
    assert re.search(r"Expect a (test|held-out) AUC of [\d.]+.* minutes( a network)? on 2 cores", described)


def test_every_system_of_the_reports_has_a_recipe_at_its_own_size():
    assert list(REPORTS) == [name for name in SYSTEMS if name not in ARCHITECTURES]
    for name in REPORTS:
        made = recipe(name)
        assert (made.input_size, made.filters) == (SYSTEMS[name].input_size, ())
        assert not needs_lungs(made.framing)
        described = type(made).__doc__
        assert f"Of {name}" in described
        assert ("minute" in described) == ("not trained here" not in described), "expected score and time"


def test_recipes_are_those_of_the_reports():
    shaken = Augmentation(rotation=15, shift=0.2, brighten=1.5, zoom=0.2, flip=True)
    expected = {
        "dense_64_32": {"optimizer": "sgd", "batch_size": 100, "epochs": 10},
        "cnn_small": {"optimizer": "sgd", "batch_size": 100},
        "cnn_dropout": {"optimizer": "adam", "batch_size": 32, "epochs": 10},
        "cnn_deep": {"optimizer": "adam", "batch_size": 32},
        "cnn_l1_l2": {"optimizer": "adam"},
        "vgg19_frozen": {"optimizer": "rmsprop", "learning_rate": 2e-5, "epochs": 10},
        "dense_32_8": {"optimizer": "rmsprop", "balance": "oversample", "epochs": 50, "folds": 0},
        "dense_32_8_l2": {"folds": 5, "grouped": True},
        "cnn_64": {"optimizer": "rmsprop", "balance": "oversample", "epochs": 50, "augmentation": Augmentation()},
        "cnn_64_augmented": {"balance": "batches", "augmentation": shaken, "learning_rate": 0.01, "early_stopping": 5},
        "resnet50_frozen": {"balance": "batches", "augmentation": shaken, "learning_rate": 0.01},
        "cnn_single": {"optimizer": "adam", "epochs": 3},
        "cnn_two": {"optimizer": "adam", "early_stopping": 3},
        "cnn_bn_deep": {"schedule": "plateau", "plateau_factor": 0.5, "plateau_patience": 1},
        "efficientnet_b0": {"scaling": "byte"},
        "custom_cnn": {"balance": "class_weights", "optimizer": "adam", "epochs": 12},
        "efficientnet_lite0": {"epochs": 4, "framing": "whole"},
    }
    for name, fields in expected.items():
        made = recipe(name)
        assert {field: getattr(made, field) for field in fields} == fields, name


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
    ("dropout", 0),
    ("dropout", 0.5),
    *(("precision", name) for name in PRECISIONS),
    ("distillation", 0),
    ("distillation", 1),
    ("imitation", 0),
    ("imitation", 2.5),
    ("reasons", 0),
    ("reasons", 2.5),
    ("after", ""),
    ("after", "distilled"),
    ("patients", 0.01),
    ("patients", 1),
    ("matching", 0),
    ("matching", 1),
    ("batch_size", 1),
    ("epochs", 1),
    ("plateau_patience", 1),
    ("plateau_factor", 0.99),
    ("plateau_floor", 0),
    ("early_stopping", 0),
    ("early_stopping", 3),
    ("folds", 0),
    ("folds", 2),
    ("grouped", True),
    ("grouped", False),
    ("filters", ()),
    ("seed", 0),
    ("seed", 2**32 - 1),
]
BAD = [
    *(("input_size", value) for value in (0, -1, 1.5, 150.0, "150", None, True, (150, 150))),
    *(("filters", value) for value in ((4, 4, 4, 8), (4,) * 6, (4, 4, 4, 8, 0), (4, 4, 4, 8, 8.0), [4] * 5, 4, "4")),
    *(("framing", value) for value in ("foo", "", "Lungs", None, 0, ["lungs"], {})),
    *(("scaling", value) for value in ("foo", "", "Unit", None, 1, ["unit"])),
    *(("weight_decay", value) for value in (-1e-9, float("nan"), float("inf"), "0", None, True)),
    *(("schedule", value) for value in ("foo", "", "Cosine", None, 0, ["cosine"])),
    *(("average", value) for value in (1, 1.5, -0.1, "0.9", None, False, float("nan"))),
    *(("dropout", value) for value in (-0.1, 1.1, "0", None, True, float("nan"))),
    *(("precision", value) for value in ("foo", "", "float16", None, 32, ["float32"])),
    *(("distillation", value) for value in (-0.1, 1.1, "0.5", None, True, float("nan"))),
    *(("imitation", value) for value in (-0.1, "1", None, True, float("nan"), float("inf"))),
    *(("reasons", value) for value in (-0.1, "1", None, True, float("nan"), float("inf"))),
    *(("after", value) for value in (None, 0, ["distilled"])),
    *(("patients", value) for value in (0, -0.1, 1.1, "0.5", None, True, float("nan"))),
    *(("matching", value) for value in (-0.1, 1.1, "0.5", None, True, float("nan"))),
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
    *(("early_stopping", value) for value in (-1, 2.0, "3", None, True)),
    *(("folds", value) for value in (1, -1, 5.0, "5", None, True)),
    *(("grouped", value) for value in (0, 1, "True", None)),
    *(("seed", value) for value in (-1, 2**32, 0.5, "0", None)),
]


def test_tables_name_every_field():
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert {name for name, _ in GOOD} == {name for name, _ in BAD} == fields


@pytest.mark.parametrize(("field", "value"), GOOD)
@pytest.mark.parametrize("name", ["reference", DEFAULT, "cnn_64_augmented"])
def test_good_values(name, field, value):
    # One of them needs the other.
    needed = {
        "balance": {"matching": 0},
        "matching": {"balance": "batches"},
        "imitation": {"distillation": 0.5},
        "distillation": {"imitation": 0},
    }
    more = needed.get(field, {})
    assert getattr(recipe(name, **{field: value}, **more), field) == value


@pytest.mark.parametrize(("field", "value"), BAD)
def test_bad_values(field, value):
    with pytest.raises(RecipeError, match=f"The field {field} of a recipe must be .*; received ") as caught:
        recipe("reference", **{field: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_imitation_without_a_teacher_is_refused():
    with pytest.raises(RecipeError, match=r"imitation of a recipe must be 0 unless it has a distillation; .*Set dist"):
        recipe("robust", imitation=1.0)


def test_system_has_its_own_values_unless_others_are_asked_for():
    assert recipe(DEFAULT, "cnn") == recipe(DEFAULT) == recipe(DEFAULT, "foo")
    assert recipe(DEFAULT, "cnn_rnn") == recipe(DEFAULT, reasons=recipe(DEFAULT, "cnn_rnn").reasons)
    assert recipe(DEFAULT, "cnn_rnn").reasons > recipe(DEFAULT).reasons
    assert recipe(DEFAULT, "cnn_rnn", reasons=0.5) == recipe(DEFAULT, reasons=0.5)
    assert recipe("robust", "cnn_rnn") == recipe("robust")


@pytest.mark.parametrize("name", ["name", "system"])
def test_arguments_are_no_fields(name):
    with pytest.raises(UnknownNameError, match=f"A field of a recipe must be .*; received '{name}'"):
        recipe(DEFAULT, **{name: "cnn"})


def test_recipe_after_an_unknown_one_is_refused():
    with pytest.raises(UnknownNameError, match=r"can come after one of reference, robust, .*; received 'foo'"):
        recipe(DEFAULT, after="foo")


@pytest.mark.parametrize("name", ["", "Reference", "best"])
def test_unknown_recipe(name):
    with pytest.raises(UnknownNameError, match=re.escape(f"one of {', '.join(RECIPES)}; received {name!r}")):
        recipe(name)


@pytest.mark.parametrize("field", ["", "epoch", "__class__", "Epochs"])
def test_unknown_field(field):
    with pytest.raises(UnknownNameError, match=r"augmentation\.zoom, average, balance, balance_seed") as caught:
        recipe("reference", **{field: 1})
    assert repr(field) in str(caught.value)


def test_recipe_error_is_a_pneumo_error_and_a_value_error():
    assert issubclass(RecipeError, PneumoError)
    assert issubclass(RecipeError, ValueError)


def test_fields_of_the_augmentation_are_replaced_one_by_one():
    made = recipe("reference", **{"augmentation.rotation": 5, "epochs": 2})
    assert made.augmentation == dataclasses.replace(recipe("reference").augmentation, rotation=5)
    assert made.epochs == 2
    with pytest.raises(UnknownNameError, match=r"augmentation\.rotation"):
        recipe("reference", **{"augmentation.turn": 5})


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("rotation", -1, "a number of at least 0"),
        ("rotation", "5", "a number of at least 0"),
        ("rotation", True, "a number of at least 0"),
        ("shift", float("nan"), "a number of at least 0"),
        ("zoom", 1, "a number of at least 0 and below 1"),
        ("flip", 1, "True or False"),
        ("gamma", 0.5, "a number of at least 1"),
        ("brighten", 0, "a number of at least 1"),
        ("jpeg", 0, "a whole number from 1 to 100"),
        ("jpeg", 50.5, "a whole number from 1 to 100"),
        ("blind", 1.1, "a number from 0 to 1"),
        ("fade", -0.1, "a number from 0 to 1"),
    ],
)
def test_bad_augmentations(field, value, rule):
    with pytest.raises(RecipeError) as caught:
        recipe("reference", **{f"augmentation.{field}": value})
    assert str(caught.value) == f"The field {field} of an augmentation must be {rule}; received {value!r}."
