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
import keras  # noqa: E402

from pneumo.zoo import build  # noqa: E402
from training.feed import Teacher, batches  # noqa: E402
from training.fit import KEPT, RUN  # noqa: E402
from training.imitation import imitating  # noqa: E402
from training.runs import Study, remembered  # noqa: E402

SMALL = {"input_size": 32, "filters": (4, 4, 4, 4, 4), "epochs": 1, "batch_size": 8, "imitation": 0.0}


@pytest.fixture(scope="module")
def teacher(manifest, segmenter, tmp_path_factory):
    """A real EfficientNet-Lite0, trained for one epoch."""
    folder = tmp_path_factory.mktemp("teacher") / "seed-0"
    Study(manifest, segmenter).run(TEACHER, "teaching", Teaching(**SMALL | {"filters": ()}), folder)
    return folder


def made(answer, size: int = 32, value: float = 0.0) -> Teacher:
    """A teacher with a map of one value."""
    shape = (2, 2, 3)
    return Teacher(lambda inputs: (answer(inputs), np.full((len(inputs), *shape), value, np.float16)), size, shape, "")


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
    inputs, targets = drawn(recipe, made(teach))
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
    inputs, targets = drawn(recipe, made(teach))
    placed, _ = drawn(Robust(**SMALL, scaling="unit", augmentation=placing))
    assert np.array_equal(shown[0], placed)
    assert np.array_equal(targets, placed.mean(axis=(1, 2)))
    changed = [not np.array_equal(*pair) for pair in zip(inputs, placed, strict=True)]
    assert 0 < sum(changed) < len(changed), "every second image is exposed anew"


def test_what_has_no_lungs_is_not_taught():
    recipe = Distilled(**SMALL, augmentation=Augmentation(blind=1.0))
    teacher = made(lambda inputs: np.ones((len(inputs), 1), np.float32))
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
    taught = made(teach)
    taught = dataclasses.replace(taught, answer=remembered(taught.answer, {}))
    first, second = (drawn(recipe, taught) for _ in range(2))
    assert len(shown) == 1
    np.testing.assert_array_equal(first[1], second[1])
    other = drawn(dataclasses.replace(recipe, seed=1), taught)
    assert len(shown) == 2
    assert np.any(other[1] != first[1])


def test_teacher_must_see_what_its_pupil_sees(manifest, segmenter, teacher, tmp_path):
    study = Study(manifest, segmenter, teacher)
    with pytest.raises(TrainingError, match="framing is lungs, that of the recipe whole"):
        study.run("cnn", "distilled", Distilled(**SMALL, framing="whole"), tmp_path)
    with pytest.raises(TrainingError, match="it sees 32 a side, its pupil 48"):
        study.run("cnn", "distilled", Distilled(**SMALL | {"input_size": 48}), tmp_path)


def test_teacher_may_see_more_pixels_of_the_same_view(manifest, segmenter, teacher, tmp_path):
    shown = []

    def teach(inputs):
        shown.append(inputs)
        return inputs.mean(axis=(1, 2))

    moving = Augmentation(rotation=20, flip=True)
    recipe = Distilled(**SMALL | {"input_size": 16}, scaling="unit", augmentation=moving, distillation=1.0)
    inputs, targets = drawn(recipe, made(teach))
    assert inputs.shape[1:] == (16, 16, 1)
    assert shown[0].shape[1:] == (32, 32, 1)
    # The mean over areas of two by two, rounded to a gray value.
    means = shown[0].reshape(-1, 16, 2, 16, 2, 1).mean(axis=(2, 4))
    assert np.abs(inputs - means).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(targets, shown[0].mean(axis=(1, 2)))

    study = Study(manifest, segmenter, teacher)
    study.run("cnn", "distilled", dataclasses.replace(recipe, scaling="standard"), tmp_path)
    assert (tmp_path / RUN).exists()


def test_teachers_map_comes_with_the_inputs_but_not_of_what_has_no_lungs():
    recipe = Distilled(**SMALL | {"imitation": 0.5}, augmentation=Augmentation(blind=0.5))
    (inputs, maps), targets = drawn(recipe, made(lambda inputs: np.ones((len(inputs), 1), np.float32), value=2), True)
    assert inputs.shape == (8, 32, 32, 1)
    assert maps.dtype == np.float32
    blind = targets[:, 0] == 0.5
    assert 0 < blind.sum() < 8
    assert (maps[blind] == 0).all()
    assert (maps[~blind] == 2).all()


def test_imitation_adds_the_distance_of_the_maps_and_leaves_the_network_alone():
    """Of maps at right angles, at no angle, and of one that is not known."""
    plain = build("cnn", 32, SMALL["filters"])
    taught = imitating(plain, "conv5", (2, 2, 4), 0.5)
    assert len(taught.weights) == len(plain.weights) + 2
    pixels = np.random.default_rng(0).standard_normal((3, 32, 32, 1)).astype(np.float32)
    kernel, bias = taught.weights[-2:]
    kernel.assign(np.zeros(kernel.shape))
    bias.assign([3, 0, 0, 0])

    def added(*directions):
        maps = np.zeros((3, 2, 2, 4), np.float32)
        for row, direction in zip(maps, directions, strict=True):
            row[...] = direction
        found = taught([pixels, maps])
        np.testing.assert_array_equal(found, plain(pixels))
        (loss,) = taught.losses
        return float(loss)

    along, across, away, unknown = (2, 0, 0, 0), (0, 1, 0, 0), (-5, 0, 0, 0), (0, 0, 0, 0)
    assert added(along, along, along) == pytest.approx(0, abs=1e-6)
    assert added(across, across, across) == pytest.approx(0.5)
    assert added(away, away, unknown) == pytest.approx(1.0)
    assert added(along, across, unknown) == pytest.approx(0.25)
    assert added(unknown, unknown, unknown) == 0


def test_pupil_comes_nearer_to_its_teachers_map(manifest, segmenter, teacher, tmp_path):
    study = Study(manifest, segmenter, teacher)
    recipe = Distilled(**SMALL | {"imitation": 1.0, "epochs": 6, "filters": (8, 8, 8, 8, 8)})
    study.run("cnn", "distilled", recipe, tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    assert keras.saving.load_model(tmp_path / KEPT).count_params() == build("cnn", 32, recipe.filters).count_params()


def test_absent_teacher(manifest, segmenter, tmp_path, capsys):
    command = ["train", "--recipe", "distilled", "--network", "cnn", "--data", str(manifest), "--lungs", str(segmenter)]
    settings = ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
    assert main([*command, *settings, "--teacher", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "needs the run of a teacher" in message
    assert "Traceback" not in message
