"""A run says what it was, and its held-out answers and score can be found again without it."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import recall_score, roc_auc_score

from pneumo.backend import load_tensorflow
from pneumo.classifier import calibrate
from pneumo.framing import Prepared, scale_gray, to_raster
from pneumo.zoo import ARCHITECTURES, build
from training.augment import Augmentation
from training.batteries import SHORTCUTS, STRESSES
from training.dataset import HELD_OUT as SPLITS
from training.dataset import load_rasters, open_dataset
from training.errors import TrainingError
from training.recipes import Reference, Robust

load_tensorflow()
import keras  # noqa: E402

from pneumo.lungs import Segmenter  # noqa: E402
from training.balance import balance  # noqa: E402
from training.decisions import calibration  # noqa: E402
from training.feed import batches  # noqa: E402
from training.fit import KEPT, LAST  # noqa: E402
from training.matching import overlap_weights  # noqa: E402
from training.runs import HELD_OUT, RUN, Study, held_out_scores  # noqa: E402
from training.segment import load_segmenter  # noqa: E402
from training.views import training_images  # noqa: E402

RUNS = [("cnn", 0), ("cnn", 1), *((name, 0) for name in ARCHITECTURES if name != "cnn")]
SMALL = Robust(input_size=48, filters=(4, 4, 8, 8, 8), epochs=2, batch_size=8)
"""The recipe of `runs`, but for its seed."""
TINY = Reference(
    input_size=32, filters=(2, 2, 2, 2, 2), epochs=1, batch_size=16, balance="none", augmentation=Augmentation()
)


@pytest.fixture(scope="module")
def study(manifest, segmenter) -> Study:
    return Study(manifest, segmenter)


def read(folder: Path) -> dict:
    return json.loads((folder / RUN).read_text())


def answers_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / HELD_OUT) as saved:
        return {title: saved[title] for title in saved.files}


def say_nothing() -> Console:
    return Console(file=io.StringIO())


# --- the record -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "seed"), RUNS)
def test_run_says_what_it_was(runs, manifest, network, seed):
    folder = runs / network / f"seed-{seed}"
    record = read(folder)
    dataset, _ = open_dataset(manifest)
    history = json.loads((folder / "history.json").read_text())
    assert record["network"] == network
    expected = {"name": "robust", **dataclasses.asdict(dataclasses.replace(SMALL, seed=seed))}
    assert record["recipe"] == json.loads(json.dumps(expected))
    assert record["data"] == {"fingerprint": dataset.fingerprint, "seed": 0, "counts": dataset.counts()}
    assert record["kept"] == history[-1], "weights are averaged: the last epoch's are kept"
    assert record["minutes"] == round(sum(row["seconds"] for row in history) / 60, 1)
    assert record["libraries"]["keras"] == keras.__version__
    assert record["libraries"]["numpy"] == np.__version__
    assert record["libraries"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {path.name for path in folder.iterdir()} == {
        *(RUN, HELD_OUT, KEPT, LAST),
        *("state.npz", "history.json", "history.csv"),
    }


def test_best_epoch_is_named_where_weights_are_not_averaged(manifest, tmp_path):
    recipe = dataclasses.replace(TINY, epochs=3, learning_rate=0.01)
    Study(manifest, None).run("cnn", "reference", recipe, tmp_path, say_nothing())
    history = json.loads((tmp_path / "history.json").read_text())
    assert read(tmp_path)["kept"] == max(history, key=lambda row: (row["val_auc"], -row["val_loss"]))


# --- answers on held-out images ---------------------------------------------------------------------------------


def test_every_alteration_is_answered_for_every_held_out_image(runs, manifest):
    dataset, _ = open_dataset(manifest)
    for network, seed in RUNS:
        answers = answers_of(runs / network / f"seed-{seed}")
        assert set(answers) == {"clean", *STRESSES, *SHORTCUTS}
        for values in answers.values():
            assert values.shape == (len(dataset.held_out()),)
            assert values.dtype == np.float64
            assert ((values >= 0) & (values <= 1)).all()


@pytest.fixture(scope="module")
def seen(manifest, segmenter) -> Callable[[str], list[np.ndarray]]:
    """What a network of `runs` sees of each held-out image under an alteration, one radiograph at a time.

    Under stress the lungs are found anew, else in the original.
    """
    dataset, source = open_dataset(manifest)
    finder = Segmenter(load_segmenter(segmenter))
    images = dataset.held_out()
    rasters = load_rasters(source, images)[0]
    found = [finder.find(raster) for raster in rasters]

    @functools.cache
    def inputs(title: str) -> list[np.ndarray]:
        result = []
        for image, raster, lungs in zip(images, rasters, found, strict=True):
            if title in STRESSES:
                raster = to_raster(STRESSES[title](raster))
                lungs = finder.find(raster)
            elif title in SHORTCUTS:
                raster = SHORTCUTS[title](raster, lungs.mask)
            result.append(Prepared(raster, image.aspect, lungs).inputs(SMALL.framing, SMALL.scaling, SMALL.input_size))
        return result

    return inputs


@pytest.mark.parametrize("title", ["clean", "gamma 0.6", "mirrored", "rotation 5 degrees", *SHORTCUTS])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_answers_are_those_that_the_program_would_give(runs, seen, network, title):
    """The kept weights, asked one radiograph at a time."""
    folder = runs / network / "seed-0"
    model = build(network, SMALL.input_size, SMALL.filters)
    model.load_weights(folder / KEPT)
    for inputs, answer in zip(seen(title), answers_of(folder)[title], strict=True):
        assert float(model(inputs)[0, 0]) == pytest.approx(answer, abs=0.01)


def test_without_lungs_there_are_no_shortcuts(manifest, tmp_path):
    study = Study(manifest, None)
    assert set(study.altered) == {"clean", *STRESSES}
    study.run("cnn", "reference", TINY, tmp_path, say_nothing())
    assert set(answers_of(tmp_path)) == {"clean", *STRESSES}
    model = build("cnn", TINY.input_size, TINY.filters)
    model.load_weights(tmp_path / KEPT)
    inputs = scale_gray(study.held_out.shown("squashed", 32))
    np.testing.assert_allclose(model(inputs)[:, 0], answers_of(tmp_path)["clean"], atol=1e-5)
    scored = read(tmp_path)["held_out"]
    assert [scored[split]["blind"] for split in SPLITS] == [None, None]
    parts = [(scored[split]["clean"] + scored[split]["stressed"]) / 2 - scored[split]["lost"] / 6 for split in SPLITS]
    assert scored["score"] == pytest.approx(np.mean(parts))


# --- the score --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "seed"), RUNS)
def test_score_follows_the_rule_that_was_fixed_before(runs, manifest, network, seed):
    """(clean + stressed + alone - lost / 2) / 3 - blind / 10, mean of both sets, areas among originals of a size."""
    folder = runs / network / f"seed-{seed}"
    dataset = open_dataset(manifest)[0]
    images, answers = dataset.held_out(), answers_of(folder)
    weights = overlap_weights(dataset.split("train"), images)
    parts = []
    found = read(folder)["held_out"]
    fitted = calibration([int(image.label == "PNEUMONIA") for image in images], answers)
    for split in ("validation", "block"):
        rows = [index for index, image in enumerate(images) if image.split == split]
        labels = [int(images[row].label == "PNEUMONIA") for row in rows]
        area = {
            title: roc_auc_score(labels, values[rows], sample_weight=weights[rows]) for title, values in answers.items()
        }
        stressed = min(area[title] for title in STRESSES)
        alone = area["all but the lungs black"]
        blind = (abs(area["lungs black"] - 0.5) + abs(area["lungs filled from around"] - 0.5)) / 2
        calls = {title: calibrate(values[rows], *fitted) >= 0.5 for title, values in answers.items()}
        rates = {title: recall_score(labels, call, average=None) for title, call in calls.items()}
        lost = max((rates["clean"] - rates[title]).max() for title in ("clean", *STRESSES))
        wanted = {"clean": area["clean"], "stressed": stressed, "alone": alone, "blind": blind, "lost": lost}
        wanted["unweighted"] = roc_auc_score(labels, answers["clean"][rows])
        assert found[split] == pytest.approx(wanted)
        parts.append((area["clean"] + stressed + alone - lost / 2) / 3 - blind / 10)
    assert found["score"] == pytest.approx(sum(parts) / 2)


def scored(weights: list[float] = [1, 1, 1, 1], **answers: list[float]) -> dict:  # noqa: B006 - only read
    """Of two held-out images of each class in each set: answers to the clean ones, and what differs from them."""
    views = SimpleNamespace(
        images=[SimpleNamespace(split=split) for split in SPLITS for _ in range(4)],
        labels=np.tile([0, 0, 1, 1], 2).astype(np.uint8),
    )
    given = {title.replace("_", " "): np.tile(values, 2) for title, values in answers.items()}
    return held_out_scores(views, dict.fromkeys(STRESSES, given["clean"]) | given, np.tile(weights, 2))


GOOD, POOR, INVERTED, CHANCE = [0.1, 0.2, 0.8, 0.9], [0.1, 0.5, 0.4, 0.9], [0.9, 0.8, 0.2, 0.1], [0.5] * 4
DARK = [1e-6, 1e-5, 1e-4, 1e-3]


@pytest.mark.parametrize(
    ("answers", "score"),
    [
        ({"clean": GOOD, "lungs_black": CHANCE}, 1.0),
        ({"clean": GOOD}, 1.0),
        ({"clean": CHANCE, "lungs_black": CHANCE}, 0.5),
        # The one worst stress counts, however good the others are: of the area, and of what is lost at the point.
        ({"clean": GOOD, "blur": POOR, "lungs_black": CHANCE}, 0.875 - 0.5 / 6),
        ({"clean": GOOD, "blur": POOR, "noise": INVERTED, "lungs_black": CHANCE}, 0.5 - 1 / 6),
        # All in order, and none called any more.
        ({"clean": GOOD, "blur": DARK, "lungs_black": CHANCE}, 1 - 1 / 6),
        ({"clean": DARK, "lungs_black": CHANCE}, 1.0),
        # Black lungs tell nothing: to be right by them is as bad as to be wrong.
        ({"clean": GOOD, "lungs_black": GOOD}, 0.95),
        ({"clean": GOOD, "lungs_black": INVERTED}, 0.95),
        # A fill that is trained on and one that never is weigh alike.
        ({"clean": GOOD, "lungs_black": CHANCE, "lungs_filled_from_around": GOOD}, 0.975),
        ({"clean": GOOD, "lungs_black": GOOD, "lungs_filled_from_around": GOOD}, 0.95),
        # Other shortcuts are shown, not weighed.
        ({"clean": GOOD, "lungs_black": CHANCE, "lungs_gray": GOOD}, 1.0),
        # The lungs alone weigh as much as the whole.
        ({"clean": GOOD, "all_but_the_lungs_black": GOOD, "lungs_black": CHANCE}, 1.0),
        ({"clean": GOOD, "all_but_the_lungs_black": CHANCE, "lungs_black": CHANCE}, 2.5 / 3),
    ],
)
def test_score_by_hand(answers, score):
    assert scored(**answers)["score"] == pytest.approx(score)


def test_sets_are_scored_apart():
    """Each set's own order counts, not the order across both."""
    views = SimpleNamespace(
        images=[SimpleNamespace(split=split) for split in SPLITS for _ in range(2)],
        labels=np.array([0, 1, 0, 1], np.uint8),
    )
    answers = dict.fromkeys(["clean", *STRESSES], np.array([0.1, 0.2, 0.8, 0.9]))
    assert held_out_scores(views, answers, np.ones(4))["score"] == 1


def test_what_weighs_nothing_counts_nothing():
    """The first normal and the last pneumonia alone are left: right, where the others are wrong."""
    assert scored(weights=[1, 0, 0, 1], clean=POOR)["score"] == 1
    assert scored(weights=[0, 1, 1, 0], clean=POOR)["score"] == 0
    assert scored(weights=[1, 0, 0, 1], clean=POOR)["block"]["unweighted"] == 0.75


# --- again ------------------------------------------------------------------------------------------------------


def test_finished_run_is_described_again_and_not_trained_again(runs, study, tmp_path):
    folder = Path(shutil.copytree(runs / "cnn" / "seed-0", tmp_path / "run"))
    weights = (folder / KEPT).read_bytes()
    study.run("cnn", "robust", SMALL, folder, say_nothing())
    assert (folder / KEPT).read_bytes() == weights
    before, after = read(runs / "cnn" / "seed-0"), read(folder)
    assert after["kept"] == before["kept"]
    assert after["held_out"]["score"] == pytest.approx(before["held_out"]["score"])
    for title, values in answers_of(runs / "cnn" / "seed-0").items():
        np.testing.assert_allclose(answers_of(folder)[title], values, atol=1e-6)


def test_interrupted_run_is_not_taken_for_a_finished_one(runs, study, tmp_path, monkeypatch):
    """One more epoch begins, and is interrupted: the weights are no longer those that were described."""
    folder = Path(shutil.copytree(runs / "cnn" / "seed-0", tmp_path / "run"))
    for state in folder.glob("state*"):
        state.unlink()

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run("cnn", "robust", SMALL, folder, say_nothing())
    assert not (folder / RUN).exists()
    assert not (folder / HELD_OUT).exists()


# --- refusals ---------------------------------------------------------------------------------------------------


def test_recipe_that_needs_lungs_is_refused_without_a_segmenter(manifest, tmp_path):
    with pytest.raises(TrainingError, match="robust needs the lungs"):
        Study(manifest, None).run("cnn", "robust", SMALL, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_segmenter_that_is_not_there_is_refused(manifest, tmp_path):
    with pytest.raises(TrainingError, match="python -m training lungs"):
        Study(manifest, tmp_path)


def test_pupil_without_a_teacher_is_refused(study, manifest, segmenter, tmp_path):
    recipe = dataclasses.replace(SMALL, distillation=0.5)
    for asked in (study, Study(manifest, segmenter, tmp_path / "absent")):
        with pytest.raises(TrainingError, match="needs the run of a teacher"):
            asked.run("cnn", "distilled", recipe, tmp_path / "run", say_nothing())


@pytest.fixture(scope="module")
def taught(runs, manifest, segmenter) -> Study:
    """Any network may teach here; it is asked about the pupil's views."""
    return Study(manifest, segmenter, runs / "cnn" / "seed-0")


@pytest.mark.parametrize("fields", [{"input_size": 64}, {"framing": "whole"}, {"scaling": "unit"}])
def test_teacher_that_saw_something_else_is_refused(taught, tmp_path, fields):
    recipe = dataclasses.replace(SMALL, distillation=0.5, **fields)
    with pytest.raises(TrainingError, match="must see what its pupil sees"):
        taught.run("cnn", "distilled", recipe, tmp_path / "run", say_nothing())


def test_pupil_learns_from_its_teacher(runs, manifest, segmenter, tmp_path):
    """With nothing but the teacher's answers for labels it ends elsewhere than with the true ones."""
    study = Study(manifest, segmenter, runs / "cnn" / "seed-1")
    study.run("cnn", "distilled", dataclasses.replace(SMALL, distillation=1.0), tmp_path, say_nothing())
    assert read(tmp_path)["recipe"]["distillation"] == 1
    pupil, alone = (answers_of(folder)["clean"] for folder in (tmp_path, runs / "cnn" / "seed-0"))
    assert not np.allclose(pupil, alone)


AFTER = dataclasses.replace(SMALL, after="robust", epochs=1)


@pytest.fixture(scope="module")
def later(runs, manifest, segmenter) -> Study:
    """Recipes may go on from the runs that the other tests made."""
    return Study(manifest, segmenter, before=runs)


def test_training_goes_on_from_the_weights_of_the_recipe_before(runs, manifest, segmenter, later, tmp_path):
    still = dataclasses.replace(AFTER, learning_rate=1e-9, after=read(runs / "cnn" / "seed-0")["recipe"]["name"])
    later.run("cnn", "later", still, tmp_path, say_nothing())
    before, after = (keras.saving.load_model(folder / KEPT) for folder in (runs / "cnn" / "seed-0", tmp_path))
    for name in ("conv1", "dense"):
        for one, other in zip(before.get_layer(name).weights, after.get_layer(name).weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    assert read(tmp_path)["minutes"] >= read(runs / "cnn" / "seed-0")["minutes"]
    # What the training began with is part of what it is.
    other = Study(manifest, segmenter, before=tmp_path / "other")
    shutil.copytree(runs / "cnn" / "seed-0", tmp_path / "other" / "cnn" / "seed-0")
    shutil.copy(runs / "cnn" / "seed-1" / KEPT, tmp_path / "other" / "cnn" / "seed-0" / KEPT)
    with pytest.raises(TrainingError, match="holds another"):
        other.run("cnn", "later", still, tmp_path, say_nothing())


def test_recipe_after_another_needs_its_run(study, later, runs, tmp_path):
    name = read(runs / "cnn" / "seed-0")["recipe"]["name"]
    mended = dataclasses.replace(AFTER, after=name)
    for asked, fields, words in (
        (study, {}, r"needs the run of that one \(none was given\). Train it by `python -m training train --recipe"),
        (later, {"seed": 77}, r"needs the run of that one \(.*seed-77"),
        (
            later,
            {"after": "reference"},
            f"must be of the recipe reference and of the same data; .* is of the recipe {name}",
        ),
        (later, {"scaling": "unit"}, "must have the same scaling; .* has standard, the recipe unit"),
        (later, {"filters": (8, 8, 8, 8, 8)}, r"must have the same filters; .* the recipe \[8, 8, 8, 8, 8\]"),
    ):
        with pytest.raises(TrainingError, match=words):
            asked.run("cnn", "later", dataclasses.replace(mended, **fields), tmp_path / "run", say_nothing())
    assert not (tmp_path / "run").exists()


def test_views_after_another_recipe_are_new(study):
    images = training_images(study.training, SMALL)
    seen = [next(batches(balance("none", images.pixels, images.labels, 0), recipe, 0))[0] for recipe in (SMALL, AFTER)]
    assert not np.array_equal(*seen)
