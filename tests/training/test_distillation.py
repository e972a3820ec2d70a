"""A pupil learns from the teacher's answer to the very view that it is shown."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from training.augment import Augmentation
from training.balance import Balanced
from training.cli import main
from training.errors import TrainingError
from training.recipes import TEACHER, Distilled, Robust, Teaching

load_tensorflow()

from training.fit import RUN, Teacher, batches  # noqa: E402
from training.runs import Study, remembered  # noqa: E402

SMALL = {"input_size": 32, "filters": (4, 4, 4, 4, 4), "epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def teacher(manifest, segmenter, tmp_path_factory):
    """A real EfficientNet-Lite0, trained for one epoch."""
    folder = tmp_path_factory.mktemp("teacher") / "seed-0"
    Study(manifest, segmenter).run(TEACHER, "teaching", Teaching(**SMALL | {"filters": ()}), folder)
    return folder


def drawn(recipe: Robust, teacher=None, masks: bool = False):
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (8, 32, 32, *([2] if masks else [])), np.uint8)
    return next(batches(Balanced(images, np.arange(8, dtype=np.uint8) % 2), recipe, 0, teacher))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_labels_are_mixed_with_the_teachers_answers(share):
    shown = []

    def teach(inputs):
        shown.append(inputs)
        return np.full((len(inputs), 1), 0.9, np.float32)

    recipe = Distilled(**SMALL, augmentation=Augmentation(flip=True), distillation=share)
    inputs, targets = drawn(recipe, Teacher(teach, ""))
    assert np.array_equal(shown[0], inputs)
    plain = drawn(Robust(**SMALL, augmentation=Augmentation(flip=True)))
    assert np.array_equal(inputs, plain[0])
    assert targets == pytest.approx((1 - share) * plain[1] + share * 0.9, abs=1e-6)


def test_teacher_sees_its_pupils_view_as_it_was_exposed():
    """What the pupil is shown under another exposure, its teacher answers without it."""
    shown = []

    def teach(inputs):
        shown.append(inputs)
        return inputs.mean(axis=(1, 2))

    placing = Augmentation(flip=True, rotation=20)
    recipe = Distilled(**SMALL, scaling="unit", augmentation=dataclasses.replace(placing, gamma=3.0), distillation=1.0)
    inputs, targets = drawn(recipe, Teacher(teach, ""))
    placed, _ = drawn(Robust(**SMALL, scaling="unit", augmentation=placing))
    assert np.array_equal(shown[0], placed)
    assert np.array_equal(targets, placed.mean(axis=(1, 2)))
    changed = [not np.array_equal(*pair) for pair in zip(inputs, placed, strict=True)]
    assert 0 < sum(changed) < len(changed), "every second image is exposed anew"


def test_what_has_no_lungs_is_not_taught():
    recipe = Distilled(**SMALL, augmentation=Augmentation(blind=1.0))
    teacher = Teacher(lambda inputs: np.ones((len(inputs), 1), np.float32), "")
    _, targets = drawn(recipe, teacher, masks=True)
    assert targets == pytest.approx(np.full((8, 1), 0.5))


def test_pupil_of_a_real_teacher_differs_from_one_without(manifest, segmenter, teacher, tmp_path):
    study = Study(manifest, segmenter, teacher)
    losses = []
    for name, recipe in (("distilled", Distilled(**SMALL)), ("alone", Distilled(**SMALL, distillation=0))):
        study.run("cnn", name, recipe, tmp_path / name)
        losses.append(json.loads((tmp_path / name / "history.json").read_text())[0]["loss"])
    assert losses[0] != losses[1]
    assert json.loads((tmp_path / "distilled" / RUN).read_text())["recipe"]["distillation"] == 0.9


def test_teacher_is_asked_once_about_a_view():
    """Pupils of one seed are shown the same views, and need not wait for their teacher again."""
    shown = []

    def teach(inputs):
        shown.append(inputs)
        return np.full((len(inputs), 1), inputs.mean(), np.float32)

    recipe = Distilled(**SMALL, augmentation=Augmentation(flip=True))
    taught = Teacher(remembered(teach, {}), "")
    first, second = (drawn(recipe, taught) for _ in range(2))
    assert len(shown) == 1
    np.testing.assert_array_equal(first[1], second[1])
    other = drawn(dataclasses.replace(recipe, seed=1), taught)
    assert len(shown) == 2
    assert np.any(other[1] != first[1])


def test_teacher_must_see_what_its_pupil_sees(manifest, segmenter, teacher, tmp_path):
    study = Study(manifest, segmenter, teacher)
    with pytest.raises(TrainingError, match="input_size is 32, that of the recipe 48"):
        study.run("cnn", "distilled", Distilled(**SMALL | {"input_size": 48}), tmp_path)


def test_absent_teacher(manifest, segmenter, tmp_path, capsys):
    command = ["train", "--recipe", "distilled", "--network", "cnn", "--data", str(manifest), "--lungs", str(segmenter)]
    settings = ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
    assert main([*command, *settings, "--teacher", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "needs the run of a teacher" in message
    assert "Traceback" not in message
