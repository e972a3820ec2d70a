"""The segmenter's training: masks are checked, those on the wrong image dropped, and the network is found again."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from pneumo.backend import load_tensorflow
from pneumo.bundle import SEGMENTER, SEGMENTER_RECORD
from pneumo.framing import RASTER
from pneumo.zoo import build_segmenter
from training.augment import Augmentation
from training.dataset import load_rasters, open_dataset
from training.errors import DataError, TrainingError

load_tensorflow()
import keras  # noqa: E402

from pneumo.lungs import Segmenter  # noqa: E402
from training import segment  # noqa: E402
from training.segment import (  # noqa: E402
    SegmenterRecipe,
    load_segmenter,
    overlap,
    read_masks,
    train_segmenter,
)

TINY = SegmenterRecipe(
    input_size=64,
    filters=(4, 4, 4, 4, 4),
    augmentation=Augmentation(rotation=10, gamma=1.5, noise=0.02),
    epochs=2,
    batch_size=8,
    scout_size=32,
    scout_epochs=1,
    least_agreement=0.0,
)


def fit(manifest: Path, masks: Path, folder: Path, **fields) -> dict:
    """Train, saying nothing; the record."""
    train_segmenter(manifest, masks, folder, dataclasses.replace(TINY, **fields), Console(file=io.StringIO()))
    return json.loads((folder / SEGMENTER_RECORD).read_text())


# --- overlap ----------------------------------------------------------------------------------------------------


def test_overlap_by_its_definition():
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 20, 30, 40)) < generator.random((2, 20, 1, 1))
    dice, iou = overlap(first, second)
    for one, other, found, share in zip(first, second, dice, iou, strict=True):
        pixels = [set(map(tuple, np.argwhere(mask))) for mask in (one, other)]
        both, either = len(pixels[0] & pixels[1]), len(pixels[0] | pixels[1])
        assert found == pytest.approx(2 * both / (len(pixels[0]) + len(pixels[1])))
        assert share == pytest.approx(both / either)
        assert found == pytest.approx(2 * share / (1 + share))


def test_overlap_at_its_ends():
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 4, 4), bool)
    assert [values.tolist() for values in overlap(full, full)] == [[1], [1]]
    assert [values.tolist() for values in overlap(full, empty)] == [[0], [0]]
    assert [values.tolist() for values in overlap(empty, empty)] == [[1], [1]]


# --- masks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(masks, tmp_path) -> Path:
    """Masks that a test may alter."""
    return Path(shutil.copytree(masks, tmp_path / "masks"))


def test_masks_are_read_by_the_names_of_their_images(manifest, masks):
    dataset, _ = open_dataset(manifest)
    found = read_masks(masks, list(dataset.images))
    drawn = {image.file for image in dataset.images if (masks / image.file).with_suffix(".png").exists()}
    assert found.keys() == drawn
    assert not any(file.startswith("val/") for file in found), "of those there are none"
    for file, mask in found.items():
        assert mask.dtype == bool
        assert mask.shape == (RASTER, RASTER)
        stored = cv2.imread(str((masks / file).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, stored > 127)
        assert 0.05 < mask.mean() < 0.6


def test_no_masks_at_all_are_refused(manifest, tmp_path):
    dataset, _ = open_dataset(manifest)
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="--masks") as caught:
            read_masks(folder, list(dataset.images))
        assert str(folder) in str(caught.value)


def small(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((100, 100), np.uint8))


def text(path: Path) -> None:
    path.write_text("a mask, or so its name says")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("damage", [small, text, empty, truncated])
def test_file_that_is_no_mask_is_refused(manifest, copy, damage):
    dataset, _ = open_dataset(manifest)
    image = next(image for image in dataset.split("train") if image.label == "NORMAL")
    path = (copy / image.file).with_suffix(".png")
    damage(path)
    with pytest.raises(DataError, match="224 x 224 pixels") as caught:
        read_masks(copy, list(dataset.images))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- a tiny training --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(manifest, masks, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("segmenter") / "deep" / "down"
    return folder, fit(manifest, masks, folder)


def test_training_leaves_network_and_record(trained, manifest, masks):
    folder, record = trained
    dataset, _ = open_dataset(manifest)
    assert {path.name for path in folder.iterdir()} == {SEGMENTER, SEGMENTER_RECORD}
    assert record["recipe"] == json.loads(json.dumps(dataclasses.asdict(TINY)))
    assert record["data"] == dataset.fingerprint
    assert record["pairs"] == len(read_masks(masks, dataset.split("train")))
    assert record["held_out"]["pairs"] == len(read_masks(masks, dataset.held_out()))
    assert record["dropped"] == {}
    assert record["held_out"]["dropped"] == []


def test_trained_segmenter_is_found_again_and_reaches_what_the_record_says(trained, manifest, masks):
    folder, record = trained
    model = load_segmenter(folder)
    assert model.count_params() == record["parameters"]
    assert model.inputs[0].shape[1:] == (64, 64, 1)
    dataset, source = open_dataset(manifest)
    truth = read_masks(masks, dataset.held_out())
    images = [image for image in dataset.held_out() if image.file in truth]
    found = Segmenter(model).masks(load_rasters(source, images)[0]) >= 0.5
    dice, iou = overlap(found, np.stack([truth[image.file] for image in images]))
    assert record["held_out"]["dice"] == pytest.approx(dice.mean())
    assert record["held_out"]["iou"] == pytest.approx(iou.mean())


def test_what_only_the_training_needed_is_not_kept(trained):
    """The file opens with plain Keras, for anyone."""
    model = keras.saving.load_model(trained[0] / SEGMENTER)
    assert getattr(model, "optimizer", None) is None
    for one, other in zip(model.get_weights(), load_segmenter(trained[0]).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_averaged_over_the_steps(trained, manifest, masks, tmp_path):
    """Without an average the steps are the same, as the running means of the normalisation show; the weights not."""
    fit(manifest, masks, tmp_path, average=0.0)
    averaged, last = load_segmenter(trained[0]), load_segmenter(tmp_path)
    differ = {}
    for one, other in zip(averaged.weights, last.weights, strict=True):
        differ[one.path] = not np.allclose(one.numpy(), other.numpy(), atol=1e-6)
    running = {path for path in differ if "moving_" in path}
    assert running
    assert not any(differ[path] for path in running)
    assert all(differ[path] for path in differ if path.endswith("kernel"))


# --- masks on the wrong image -----------------------------------------------------------------------------------


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Networks as they are built: what is dropped is decided by what the scout is said to find."""
    monkeypatch.setattr(
        segment, "_fit", lambda r, t, recipe, c=None: build_segmenter(recipe.input_size, recipe.filters)
    )


@pytest.fixture
def seeing(segmenter, untrained, monkeypatch) -> Segmenter:
    """A scout that finds lungs, as one of one tiny epoch does not: the segmenter that ships."""
    finder = Segmenter(load_segmenter(segmenter))
    monkeypatch.setattr(segment, "_found", lambda model, rasters: finder.masks(rasters) >= 0.5)
    return finder


def dice_of(finder: Segmenter, manifest: Path, masks: Path, split: str) -> dict[str, float]:
    """How well each mask agrees, by file."""
    dataset, source = open_dataset(manifest)
    images = dataset.split("train") if split == "train" else dataset.held_out()
    truth = read_masks(masks, images)
    result = {}
    for image in images:
        if image.file in truth:
            found, mask = finder.find(load_rasters(source, [image])[0][0]).mask, truth[image.file]
            result[image.file] = 2 * (found & mask).sum() / (found.sum() + mask.sum())
    return result


def swap(masks: Path, one: str, other: str) -> None:
    paths = [(masks / file).with_suffix(".png") for file in (one, other)]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)


@pytest.mark.parametrize("split", ["train", "held out"])
def test_swapped_masks_are_dropped_and_named(manifest, copy, seeing, split, tmp_path):
    before = dice_of(seeing, manifest, copy, split)
    good = [file for file, dice in before.items() if dice > 0.9]
    truth = {file: cv2.imread(str((copy / file).with_suffix(".png")), 0) >= 128 for file in good}
    pairs = [(one, other) for one in good for other in good if one < other]
    one, other = min(pairs, key=lambda pair: overlap(truth[pair[0]][None], truth[pair[1]][None])[0][0])
    swap(copy, one, other)
    after = dice_of(seeing, manifest, copy, split)
    least = (max(after[one], after[other]) + min(before[one], before[other])) / 2
    expected = {file for file, dice in after.items() if dice < least}
    assert {one, other} <= expected
    assert len(expected) < len(after)

    record = fit(manifest, copy, tmp_path / "run", least_agreement=least)
    if split == "train":
        assert record["dropped"].keys() == expected
        for file, dice in record["dropped"].items():
            assert dice == pytest.approx(after[file], abs=0.02)
        assert record["pairs"] == len(after) - len(expected)
    else:
        assert set(record["held_out"]["dropped"]) == expected
        assert record["held_out"]["pairs"] == len(after) - len(expected)
        fair = [dice for file, dice in after.items() if file not in expected]
        assert record["held_out"]["dice"] == pytest.approx(np.mean(fair), abs=0.01)


def test_masks_of_which_none_fits_are_refused(manifest, masks, untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "_found", lambda model, rasters: np.zeros(rasters.shape, bool))
    with pytest.raises(DataError, match="must lie on the images") as caught:
        fit(manifest, masks, tmp_path / "run", least_agreement=0.8)
    assert str(masks) in str(caught.value)
    assert not (tmp_path / "run").exists()


# --- a segmenter that is none -----------------------------------------------------------------------------------


def nothing(folder: Path) -> None:
    shutil.rmtree(folder)


def no_record(folder: Path) -> None:
    (folder / SEGMENTER_RECORD).unlink()


def no_weights(folder: Path) -> None:
    (folder / SEGMENTER).unlink()


def half_the_weights(folder: Path) -> None:
    path = folder / SEGMENTER
    path.write_bytes(path.read_bytes()[:-1000])


def no_json(folder: Path) -> None:
    (folder / SEGMENTER_RECORD).write_text("{")


def another_record(folder: Path) -> None:
    (folder / SEGMENTER_RECORD).write_text('{"recipe": null}')


def list_for_a_record(folder: Path) -> None:
    (folder / SEGMENTER_RECORD).write_text("[]")


def other_filters(folder: Path) -> None:
    record = json.loads((folder / SEGMENTER_RECORD).read_text())
    record["recipe"]["filters"] = [4, 4, 4, 4, 8]
    (folder / SEGMENTER_RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage",
    [nothing, no_record, no_weights, half_the_weights, no_json, another_record, list_for_a_record, other_filters],
)
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_folder_without_a_segmenter_is_refused(trained, tmp_path, damage):
    folder = Path(shutil.copytree(trained[0], tmp_path / "run"))
    damage(folder)
    with pytest.raises(TrainingError, match="python -m training lungs") as caught:
        load_segmenter(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
