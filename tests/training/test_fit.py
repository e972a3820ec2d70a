"""A training is decided by its seed alone, and goes on after an interruption as if there had been none."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from pneumo.backend import load_tensorflow
from pneumo.framing import scale_gray
from pneumo.zoo import ARCHITECTURES, build
from training.augment import Augmentation
from training.balance import STRATEGIES, Balanced, Images, balance
from training.dataset import load_rasters, open_dataset
from training.errors import TrainingError
from training.fields import Recipe
from training.recipes import Reference, Robust

load_tensorflow()
import keras  # noqa: E402

from training.display import Display  # noqa: E402
from training.feed import Teacher, batches  # noqa: E402
from training.fit import (  # noqa: E402
    KEPT,
    LAST,
    compiled_twin,
    has_ended,
    kept_epoch,
    train,
)
from training.fused import fused  # noqa: E402

SIZE = 32
EPOCHS = 8
TINY = Reference(input_size=SIZE, filters=(2, 4, 4, 4, 4), batch_size=3, epochs=EPOCHS, learning_rate=3e-3)
COSINE = Robust(
    input_size=SIZE,
    filters=(2, 4, 4, 4, 4),
    framing="whole",
    augmentation=Augmentation(rotation=10, gamma=1.5),
    batch_size=3,
    epochs=4,
    precision="mixed_bfloat16",
    average=0.9,
    learning_rate=1e-2,
)
NETWORK = "cnn"
STOPS = (1, 4, 5, EPOCHS)
"""Epochs after which a training is stopped: inside a plateau, after one, and at the end."""
COLUMNS = {"epoch", "loss", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc", "learning_rate", "seconds"}


@pytest.fixture(scope="module")
def data(manifest) -> tuple[Images, Images]:
    """Training and held-out images, the real ones, small."""
    dataset, source = open_dataset(manifest)
    result = []
    for images in (dataset.split("train"), dataset.held_out()):
        rasters, labels = load_rasters(source, images)
        small = np.stack([cv2.resize(raster, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for raster in rasters])
        small.flags.writeable = labels.flags.writeable = False
        result.append(Images(small, labels))
    return result[0], result[1]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A training without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    fit(data, folder)
    return folder


def fit(data, folder: Path, recipe: Recipe = TINY, network: str = NETWORK, **fields) -> list[dict[str, float]]:
    """Train, saying nothing."""
    return train(network, dataclasses.replace(recipe, **fields), *data, folder, Console(file=io.StringIO()))


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """Everything of the state but `meta`."""
    with np.load(folder / "state.npz") as state:
        return {name: state[name] for name in state.files if name != "meta"}


def meta(folder: Path) -> dict:
    with np.load(folder / "state.npz") as state:
        return json.loads(str(state["meta"]))


def timeless(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def history_of(folder: Path) -> list[dict]:
    return json.loads((folder / "history.json").read_text())


def weights(path: Path, recipe: Recipe = TINY, network: str = NETWORK) -> list[np.ndarray]:
    model = build(network, recipe.input_size, recipe.filters)
    model.load_weights(path)
    return model.get_weights()


def assert_same_arrays(found, expected) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


def assert_same_training(folder: Path, expected: Path, network: str = NETWORK) -> None:
    """Equal to the last bit: history, weights, slots of the optimizer, seeds of dropout, state of the plateau."""
    assert timeless(history_of(folder)) == timeless(history_of(expected))
    assert arrays(folder).keys() == arrays(expected).keys()
    assert_same_arrays(list(arrays(folder).values()), list(arrays(expected).values()))
    for name in (KEPT, LAST):
        assert_same_arrays(weights(folder / name, network=network), weights(expected / name, network=network))
    found, wanted = meta(folder), meta(expected)
    assert found["plateau"] == wanted["plateau"]
    assert found["identity"] == wanted["identity"]


# --- the same twice ---------------------------------------------------------------------------------------------


def test_one_seed_gives_one_training(data, tmp_path):
    network = "cnn_lstm"
    first = fit(data, tmp_path / "first", network=network, epochs=2)
    np.random.seed(4)
    keras.utils.set_random_seed(5)
    second = fit(data, tmp_path / "second", network=network, epochs=2)
    assert timeless(first) == timeless(second)
    assert_same_training(tmp_path / "second", tmp_path / "first", network)


def test_another_seed_gives_another_training(data, whole, tmp_path):
    fit(data, tmp_path, seed=1, epochs=1)
    assert timeless(history_of(tmp_path)) != timeless(history_of(whole))[:1]


# --- interruptions ----------------------------------------------------------------------------------------------


def test_the_whole_training_has_lowered_its_rate(whole):
    """Else the tests below would not see whether the plateau's state survives."""
    rates = [row["learning_rate"] for row in history_of(whole)]
    assert rates[0] > rates[STOPS[-2] - 1] > rates[-1]


def test_training_by_muon_that_is_stopped_and_goes_on_equals_the_whole(data, tmp_path):
    for folder, stops in (("whole", (3,)), ("stopped", (1, 3))):
        for epochs in stops:
            fit(data, tmp_path / folder, optimizer="muon", epochs=epochs)
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")


def test_training_that_is_stopped_and_goes_on_equals_the_whole(data, whole, tmp_path):
    for epochs in STOPS:
        history = fit(data, tmp_path, epochs=epochs)
        assert [row["epoch"] for row in history] == list(range(1, epochs + 1))
        assert timeless(history) == timeless(history_of(whole))[:epochs]
    assert_same_training(tmp_path, whole)


_CHILD = """
import sys
import numpy as np
from pneumo.backend import load_tensorflow
load_tensorflow()
from pathlib import Path
from training.balance import Images
from training.fit import train
from training.recipes import Reference
arrays = np.load(sys.argv[1])
training, validation = (Images(arrays[name], arrays[name + "_labels"]) for name in ("training", "validation"))
recipe = Reference(input_size={size}, filters={filters}, batch_size={batch}, learning_rate={rate}, epochs=1000)
train("{network}", recipe, training, validation, Path(sys.argv[2]))
"""


def test_killed_training_goes_on_as_if_nothing_had_been(data, whole, tmp_path):
    """Killed without warning, in another process, somewhere behind its second epoch."""
    training, validation = data
    np.savez(
        tmp_path / "data.npz",
        training=training.pixels,
        training_labels=training.labels,
        validation=validation.pixels,
        validation_labels=validation.labels,
    )
    code = _CHILD.format(
        size=SIZE, filters=TINY.filters, batch=TINY.batch_size, rate=TINY.learning_rate, network=NETWORK
    )
    folder = tmp_path / "run"
    command = [sys.executable, "-c", code, str(tmp_path / "data.npz"), str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(f"{NETWORK} epoch 2/1000: "):
                process.kill()
    assert process.returncode == -signal.SIGKILL, "".join(said)
    assert 2 <= len(meta(folder)["history"]) < EPOCHS

    fit(data, folder)
    assert_same_training(folder, whole)


def test_what_a_killed_training_leaves_half_written_does_no_harm(data, whole, tmp_path):
    """The networks are one epoch ahead of the state, the history is cut off, and drafts lie about."""
    fit(data, tmp_path, epochs=2)
    behind = (tmp_path / "state.npz").read_bytes()
    fit(data, tmp_path, epochs=3)
    (tmp_path / "state.npz").write_bytes(behind)
    for name in (f"draft.{KEPT}", f"draft.{LAST}", "draft.state.npz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 half a file")
    (tmp_path / "history.json").write_text("[")
    (tmp_path / "history.csv").write_text("epo")
    fit(data, tmp_path)
    assert_same_training(tmp_path, whole)
    assert not [path.name for path in tmp_path.glob("draft.*") if path.name != f"draft.{KEPT}"]


def test_finished_training_is_not_trained_again(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()}
    for epochs in (EPOCHS, 1):
        assert fit(data, tmp_path / "run", epochs=epochs) == history_of(whole)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()} == before


def test_folder_holds_what_it_should(whole):
    assert {path.name for path in whole.iterdir()} == {KEPT, LAST, "state.npz", "history.json", "history.csv"}


def seed(training, validation):
    return training, validation, {"seed": 1}


def rate(training, validation):
    return training, validation, {"learning_rate": 1e-4}


def batch(training, validation):
    return training, validation, {"batch_size": 4}


def strategy(training, validation):
    return training, validation, {"balance": "oversample"}


def strategy_seed(training, validation):
    return training, validation, {"balance_seed": 43}


def transforms(training, validation):
    return training, validation, {"augmentation": Augmentation(rotation=29, zoom=0.2, shift=0.1, flip=True)}


def filters(training, validation):
    return training, validation, {"filters": (2, 4, 4, 4, 5)}


def optimizer(training, validation):
    return training, validation, {"optimizer": "adam"}


def schedule(training, validation):
    return training, validation, {"schedule": "cosine"}


def average(training, validation):
    return training, validation, {"average": 0.9}


def scaling(training, validation):
    return training, validation, {"scaling": "standard"}


def precision(training, validation):
    return training, validation, {"precision": "mixed_bfloat16"}


def decay(training, validation):
    return training, validation, {"weight_decay": 1e-3}


def patience(training, validation):
    return training, validation, {"plateau_patience": 3}


def network(training, validation):
    return training, validation, {"network": "cnn_rnn"}


def brighter(images: Images) -> Images:
    pixels = images.pixels.copy()
    pixels[-1, -1, -1] ^= 1
    return Images(pixels, images.labels)


def relabelled(images: Images) -> Images:
    labels = images.labels.copy()
    labels[0] ^= 1
    return Images(images.pixels, labels)


def training_pixel(training, validation):
    return brighter(training), validation, {}


def training_label(training, validation):
    return relabelled(training), validation, {}


def validation_pixel(training, validation):
    return training, brighter(validation), {}


def validation_label(training, validation):
    return training, relabelled(validation), {}


def fewer_images(training, validation):
    return Images(training.pixels[:-1], training.labels[:-1]), validation, {}


def other_order(training, validation):
    return Images(training.pixels[::-1], training.labels[::-1]), validation, {}


@pytest.mark.parametrize(
    "change",
    [
        seed,
        rate,
        batch,
        strategy,
        strategy_seed,
        transforms,
        filters,
        optimizer,
        schedule,
        average,
        scaling,
        precision,
        decay,
        patience,
        network,
        training_pixel,
        training_label,
        validation_pixel,
        validation_label,
        fewer_images,
        other_order,
    ],
)
def test_another_training_in_the_same_folder_is_refused(data, whole, tmp_path, change):
    shutil.copytree(whole, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    training, validation, fields = change(*data)
    with pytest.raises(TrainingError, match="same network, recipe and data") as caught:
        fit((training, validation), tmp_path / "run", **fields)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


# --- what is written --------------------------------------------------------------------------------------------


def test_history_as_json_and_as_csv_agree(data, whole):
    rows = history_of(whole)
    assert [row.keys() for row in rows] == [COLUMNS] * EPOCHS
    with (whole / "history.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert [{name: float(value) for name, value in row.items()} for row in reader] == rows
        assert set(reader.fieldnames) == COLUMNS
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    assert meta(whole)["history"] == rows
    assert fit(data, whole) == rows
    assert all(row["seconds"] > 0 for row in rows)


def test_best_is_the_epoch_with_the_highest_validation_auc(data, whole, tmp_path):
    rows = history_of(whole)
    highest = max(row["val_auc"] for row in rows)
    assert highest > min(row["val_auc"] for row in rows)
    equal = [row for row in rows if row["val_auc"] == highest]
    best = min(equal, key=lambda row: row["val_loss"])
    fit(data, tmp_path, epochs=best["epoch"])
    assert_same_arrays(weights(whole / KEPT), weights(tmp_path / LAST))
    assert measured(whole / KEPT, data[1])["val_auc"] == pytest.approx(highest, abs=1e-6)


def measured(path: Path, validation: Images, scaling: str = "unit") -> dict[str, float]:
    """A network's measures on the validation images as they are, by Keras."""
    model = build(NETWORK, SIZE, TINY.filters)
    model.load_weights(path)
    metrics = ["accuracy", keras.metrics.AUC(num_thresholds=1000, name="auc")]
    model.compile(loss="binary_crossentropy", metrics=metrics, jit_compile=False)
    inputs, labels = scale_gray(validation.pixels, scaling), validation.labels.astype(np.float32)[:, np.newaxis]
    values = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    return {f"val_{name}": value for name, value in values.items()}


def test_validation_images_are_neither_balanced_nor_transformed(data, whole):
    """The last network reaches the last row's values on the very images."""
    row = history_of(whole)[-1]
    assert np.bincount(data[1].labels).tolist() != [len(data[1].labels) / 2] * 2
    found = measured(whole / LAST, data[1])
    assert found == pytest.approx({name: row[name] for name in found}, abs=1e-6)


def test_progress_is_shown_epoch_by_epoch(data, tmp_path):
    """In a file line by line; on a terminal beside a bar. A training that goes on counts on."""
    for terminal, epochs, first in ((False, 1, 1), (True, 3, 2)):
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=terminal, width=200, color_system=None)
        train(NETWORK, dataclasses.replace(TINY, epochs=epochs), *data, tmp_path, console)
        lines = [line for line in shown.getvalue().splitlines() if "validation loss" in line]
        assert len(lines) == epochs - first + 1
        for epoch, line in enumerate(lines, start=first):
            row = history_of(tmp_path)[epoch - 1]
            assert f"{NETWORK} epoch {epoch}/{epochs}: loss {row['loss']:.4f}, " in line
            assert f"validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.4f}" in line
            assert f"AUC {row['val_auc']:.4f}" in line
        assert "0 min left" in lines[-1]
        assert ("100 %" in shown.getvalue()) is terminal


# --- the learning rate ------------------------------------------------------------------------------------------


def expected_rates(history: list[dict], recipe: Recipe) -> list[float]:
    """The rate after each epoch, by the rule in words."""
    rate, best, waited, rates = recipe.learning_rate, -1.0, 0, []
    for row in history:
        waited += 1
        if row["val_accuracy"] > best + 1e-4:
            best, waited = row["val_accuracy"], 0
        if waited >= recipe.plateau_patience:
            rate, waited = max(rate * recipe.plateau_factor, recipe.plateau_floor), 0
        rates.append(rate)
    return rates


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"plateau_floor": 5e-4},
        {"plateau_patience": 1, "plateau_factor": 0.5, "plateau_floor": 1e-3},
    ],
    ids=["default", "floor", "patience"],
)
def test_rate_is_lowered_on_a_plateau(data, whole, tmp_path, fields):
    recipe = dataclasses.replace(TINY, **fields)
    history = fit(data, tmp_path, recipe) if fields else history_of(whole)
    rates = [row["learning_rate"] for row in history]
    assert rates == pytest.approx(expected_rates(history, recipe), rel=1e-5)
    assert rates[0] == pytest.approx(recipe.learning_rate)
    assert min(rates) >= recipe.plateau_floor * (1 - 1e-6)
    steps = {round(after / before, 3) for before, after in pairwise(rates) if after != before}
    assert recipe.plateau_factor in steps
    if fields:
        assert rates[-1] == pytest.approx(recipe.plateau_floor), "the floor is reached"


# --- precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_feature_maps_of_lower_precision_change_answers_by_their_rounding(data, name):
    pixels = scale_gray(data[0].pixels, "standard")
    plain = build(name, SIZE, TINY.filters)
    half = fused(plain, "mixed_bfloat16")
    policies = {layer.name: layer.dtype_policy.name for layer in half.layers}
    assert {policies[layer] for layer in ("conv1", "norm3", "pool5")} == {"mixed_bfloat16"}
    assert {policies[layer] for layer in ("radiograph", "dense", "probability")} == {"float32"}
    assert {str(weight.dtype) for weight in half.weights} == {"float32"}
    found, expected = np.asarray(half(pixels)), np.asarray(fused(plain)(pixels))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.02
    assert not np.array_equal(found, expected)


def test_network_trained_in_lower_precision_is_saved_in_full(data, tmp_path):
    fit(data, tmp_path, precision="mixed_bfloat16", average=0.9, epochs=1)
    saved = keras.saving.load_model(tmp_path / KEPT, compile=False)
    assert {layer.dtype_policy.name for layer in saved.layers} == {"float32"}


# --- what is watched --------------------------------------------------------------------------------------------


def test_soft_labels_are_measured_by_the_side_of_one_half_that_they_are_on():
    model = compiled_twin(build("cnn", SIZE, TINY.filters), TINY, 1)
    inputs = np.random.default_rng(0).normal(size=(60, SIZE, SIZE, 1)).astype(np.float32)
    soft = np.tile(np.array([0.04, 0.5, 0.97], np.float32), 20)[:, np.newaxis]
    found = model.evaluate(inputs, soft, verbose=0, return_dict=True)
    area = keras.metrics.AUC(num_thresholds=1000)
    sided = soft[:, 0] != 0.5
    area.update_state(soft[sided] > 0.5, np.asarray(model(inputs))[sided])
    assert found["auc"] == pytest.approx(float(area.result()), abs=1e-6)
    assert 0 < found["auc"] < 1


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_dropout_is_a_share_of_the_architectures(share):
    plain = build("cnn", SIZE, TINY.filters)
    rates = {layer.name: layer.rate for layer in plain.layers if isinstance(layer, keras.layers.Dropout)}
    assert len(rates) == 4
    for name, rate in rates.items():
        assert fused(plain, dropout=share).get_layer(name).rate == pytest.approx(share * rate)


# --- class weights and balancing --------------------------------------------------------------------------------


def first_loss(data, folder: Path, name: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss that Keras reports for one step over all images; each image's loss and label, found without it.

    The step is the first, so that the network is the one that the seed gives, dropout included.
    """
    training, _ = data
    recipe = dataclasses.replace(
        TINY, balance=name, augmentation=Augmentation(), batch_size=len(training.labels), epochs=1
    )
    history = fit(data, folder, recipe, "cnn")
    inputs, labels = next(batches(Balanced(training.pixels, training.labels), recipe, 0))
    keras.utils.set_random_seed(recipe.seed)
    model = fused(build("cnn", SIZE, recipe.filters))
    outputs = np.asarray(model(inputs, training=True), np.float64)
    losses = -np.where(labels == 1, np.log(outputs), np.log1p(-outputs))
    return history[0]["loss"], losses[:, 0], labels[:, 0].astype(int)


def test_class_weights_reach_the_loss(data, tmp_path):
    plain, losses, labels = first_loss(data, tmp_path / "none", "none")
    assert plain == pytest.approx(losses.mean(), rel=1e-4)
    weighted, losses, labels = first_loss(data, tmp_path / "weights", "class_weights")
    found = balance("class_weights", *(getattr(data[0], name) for name in ("pixels", "labels")), 0).class_weights
    of_each = np.array([found[label] for label in labels])
    assert weighted == pytest.approx((of_each * losses).mean(), rel=1e-4)
    assert abs(weighted - plain) > 1e-3 * plain, "the weights make a difference that can be seen"


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_epoch_passes_once_over_the_balanced_images(data, tmp_path, name):
    """And those that were given, of training and validation, are not altered."""
    copies = [Images(images.pixels.copy(), images.labels.copy()) for images in data]
    fit(copies, tmp_path, balance=name, epochs=1)
    assert [images.fingerprint for images in copies] == [images.fingerprint for images in data]
    assert meta(tmp_path)["identity"]["validation"] == data[1].fingerprint
    count = len(balance(name, data[0].pixels, data[0].labels, TINY.balance_seed).labels)
    iterations = [int(array) for array in arrays(tmp_path).values() if array.ndim == 0 and array.dtype.kind in "iu"]
    assert -(-count // TINY.batch_size) in iterations


# --- batches ----------------------------------------------------------------------------------------------------


def images(count: int = 11) -> Balanced:
    """Images that can be told apart by their gray value."""
    pixels = np.repeat(np.arange(count, dtype=np.uint8), SIZE**2).reshape(count, SIZE, SIZE)
    return Balanced(pixels, (np.arange(count) % 3 == 0).astype(np.uint8))


def epochs_of(balanced: Balanced, recipe: Recipe, first: int, count: int) -> list[list[tuple]]:
    stream = batches(balanced, recipe, first)
    steps = -(-len(balanced.labels) // recipe.batch_size)
    return [[next(stream) for _ in range(steps)] for _ in range(count)]


PLAIN = dataclasses.replace(TINY, augmentation=Augmentation(), batch_size=4)


def grays(epoch: list[tuple]) -> list[int]:
    return [round(float(value) * 255) for batch in epoch for value in batch[0][:, 0, 0, 0]]


def test_every_epoch_holds_every_image_once():
    epochs = epochs_of(images(), PLAIN, 0, 3)
    for epoch in epochs:
        assert sorted(grays(epoch)) == list(range(11))
        assert [len(batch[0]) for batch in epoch] == [4, 4, 3]
        for inputs, labels in epoch:
            assert inputs.dtype == labels.dtype == np.float32
            assert inputs.shape[1:] == (SIZE, SIZE, 1)
            assert labels.shape == (len(inputs), 1)
            assert labels[:, 0].tolist() == [float(gray % 3 == 0) for gray in grays([(inputs,)])]
    assert len({tuple(grays(epoch)) for epoch in epochs}) == 3, "each epoch has an order of its own"


@pytest.mark.parametrize("recipe", [PLAIN, TINY, COSINE], ids=["plain", "augmented", "exposed"])
def test_an_epoch_depends_on_the_seed_and_its_number_alone(recipe, data):
    balanced = Balanced(data[0].pixels, data[0].labels)
    from_the_start = epochs_of(balanced, recipe, 0, 4)
    for first in (1, 3):
        resumed = epochs_of(balanced, recipe, first, 4 - first)
        for one, other in zip(resumed, from_the_start[first:], strict=True):
            for found, expected in zip(one, other, strict=True):
                assert_same_arrays(found, expected)
    reseeded = epochs_of(balanced, dataclasses.replace(recipe, seed=1), 0, 1)[0]
    assert any(not np.array_equal(one[0], other[0]) for one, other in zip(reseeded, from_the_start[0], strict=True))


def test_class_weights_come_with_their_images():
    balanced = dataclasses.replace(images(), class_weights={0: 0.75, 1: 1.5})
    for inputs, labels, weights_of_images in epochs_of(balanced, PLAIN, 0, 1)[0]:
        assert weights_of_images.dtype == np.float32
        assert weights_of_images.shape == (len(inputs),)
        assert weights_of_images.tolist() == [1.5 if label else 0.75 for label in labels[:, 0]]


def test_batches_are_transformed_copies(data):
    training, _ = data
    before = training.fingerprint
    balanced = Balanced(training.pixels, training.labels)
    plain = dataclasses.replace(TINY, augmentation=Augmentation())
    for one, other in zip(epochs_of(balanced, TINY, 0, 1)[0], epochs_of(balanced, plain, 0, 1)[0], strict=True):
        assert one[1].tolist() == other[1].tolist()
        assert not np.array_equal(one[0], other[0])
        assert one[0].min() >= 0
        assert one[0].max() <= 1
    assert training.fingerprint == before


def test_blinded_images_are_labelled_one_half(data):
    """The lung mask comes as a second plane, decides, and is not shown to the network."""
    training, _ = data
    mask = np.zeros_like(training.pixels)
    mask[:, 4:-4, 4:-4] = 255
    balanced = Balanced(np.stack([training.pixels, mask], axis=-1), training.labels)
    for share in (0.0, 0.5, 1.0):
        recipe = dataclasses.replace(PLAIN, augmentation=Augmentation(blind=share), batch_size=len(training.labels))
        inputs, labels = epochs_of(balanced, recipe, 0, 1)[0][0]
        assert inputs.shape == (len(labels), SIZE, SIZE, 1)
        assert labels.dtype == np.float32
        order = np.random.default_rng((recipe.seed, 0)).permutation(len(training.labels))
        seen = inputs[..., 0] == scale_gray(training.pixels[order])[..., 0]
        kept = seen.all(axis=(1, 2))
        # Of some, all but a rim around the lungs goes too; of the others, nothing else.
        around = seen[:, mask[0] == 0].mean(axis=1)
        assert ((around == 1) | (around < 0.8))[~kept].all()
        assert not seen[~kept][:, mask[0] > 0].all(axis=1).any()
        np.testing.assert_array_equal(labels[:, 0], np.where(kept, training.labels[order], 0.5))
        assert kept.mean() == pytest.approx(1 - share, abs=0.35 if share == 0.5 else 0)


def test_network_sees_the_middle_of_larger_images_scaled_as_the_recipe_says(data):
    training, _ = data
    balanced = Balanced(training.pixels, training.labels)
    recipe = dataclasses.replace(PLAIN, input_size=SIZE - 8, scaling="standard", batch_size=len(training.labels))
    inputs, labels = epochs_of(balanced, recipe, 0, 1)[0][0]
    order = np.random.default_rng((recipe.seed, 0)).permutation(len(training.labels))
    np.testing.assert_array_equal(inputs, scale_gray(training.pixels[order, 4:-4, 4:-4], "standard"))
    assert inputs.mean(axis=(1, 2, 3)) == pytest.approx(0, abs=1e-4)
    np.testing.assert_array_equal(labels[:, 0], training.labels[order])


def test_teacher_is_asked_about_the_very_batch_and_mixed_into_its_labels(data):
    training, _ = data
    balanced = Balanced(training.pixels, training.labels)
    recipe = dataclasses.replace(TINY, distillation=0.25, augmentation=Augmentation(flip=True, shift=0.1))
    asked = []

    def answer(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(inputs)
        return inputs.mean(axis=(1, 2)), np.zeros((len(inputs), 1, 1, 1), np.float16)

    teacher = Teacher(answer, TINY.input_size, (1, 1, 1), "0" * 64)
    taught, alone = batches(balanced, recipe, 0, teacher), batches(balanced, recipe, 0)
    for (inputs, labels), (same, plain) in (next(zip(taught, alone, strict=True)) for _ in range(3)):
        np.testing.assert_array_equal(inputs, same)
        np.testing.assert_array_equal(asked[-1], inputs)
        np.testing.assert_allclose(labels, 0.75 * plain + 0.25 * inputs.mean(axis=(1, 2)), rtol=1e-6)
        assert set(plain[:, 0].tolist()) <= {0.0, 1.0}
        assert labels.dtype == np.float32


# --- averaged weights and the cosine ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def steps(data, tmp_path_factory) -> tuple[Path, list[list[np.ndarray]]]:
    """A cosine training with averaged weights, and its weights after every step."""
    folder = tmp_path_factory.mktemp("cosine")
    seen: list[list[np.ndarray]] = []
    with pytest.MonkeyPatch.context() as patch:
        watched(patch, lambda callback: seen.append(callback.model.get_weights()))
        fit(data, folder, COSINE)
    return folder, seen


def watched(patch: pytest.MonkeyPatch, see) -> None:
    """Let the last callback show the network after every step."""
    advance = Display.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        see(self)
        advance(self, batch, logs)

    patch.setattr(Display, "on_train_batch_end", on_train_batch_end)


def test_what_is_kept_is_the_moving_average_over_all_steps(steps):
    folder, seen = steps
    keras.utils.set_random_seed(COSINE.seed)
    average = [array.astype(np.float64) for array in build(NETWORK, SIZE, COSINE.filters).get_weights()]
    for number, now in enumerate(seen, start=1):
        momentum = min(COSINE.average, number / (10 + number))
        average = [momentum * old + (1 - momentum) * new for old, new in zip(average, now, strict=True)]
    kept, last = weights(folder / KEPT), weights(folder / LAST)
    for found, expected in zip(kept, average, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert_same_arrays(last, seen[-1])
    assert any(np.abs(one - other).max() > 1e-3 for one, other in zip(kept, last, strict=True))


def test_history_is_of_the_averaged_network_and_the_last_is_kept(data, steps):
    rows = history_of(steps[0])
    assert len(rows) == COSINE.epochs
    assert kept_epoch(rows, COSINE.average) == rows[-1]
    assert kept_epoch(rows, 0.0)["val_auc"] == max(row["val_auc"] for row in rows)
    # What is trained in bfloat16 is validated in it too, and measured here in float32.
    kept, last = (
        abs(measured(steps[0] / name, data[1], "standard")["val_loss"] - rows[-1]["val_loss"]) for name in (KEPT, LAST)
    )
    assert kept < 1e-3
    assert kept < last / 2


def test_rate_warms_up_and_follows_a_cosine_to_a_hundredth(steps):
    folder, seen = steps
    total = len(seen)
    warm = total // 10
    rows = history_of(folder)
    for row in rows:
        done = row["epoch"] * total // COSINE.epochs
        cosine = (1 + np.cos(np.pi * (done - warm) / (total - warm))) / 2
        assert row["learning_rate"] == pytest.approx(COSINE.learning_rate * (0.01 + 0.99 * cosine), rel=1e-3)
    assert rows[-1]["learning_rate"] == pytest.approx(COSINE.learning_rate / 100, rel=1e-3)


def test_interrupted_cosine_training_goes_on_as_if_nothing_had_been(data, steps, tmp_path, monkeypatch):
    whole, seen = steps
    stop = 2 * len(seen) // COSINE.epochs + 3
    count = 0

    def interrupt(callback):
        nonlocal count
        count += 1
        if count == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        watched(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(data, tmp_path, COSINE)
    assert count == stop
    assert len(history_of(tmp_path)) == 2
    fit(data, tmp_path, COSINE)
    assert_same_training(tmp_path, whole)


@pytest.mark.parametrize("epochs", [COSINE.epochs + 1, COSINE.epochs - 1])
def test_another_length_of_a_cosine_is_another_training(data, steps, tmp_path, epochs):
    shutil.copytree(steps[0], tmp_path / "run")
    with pytest.raises(TrainingError, match="same network, recipe and data"):
        fit(data, tmp_path / "run", COSINE, epochs=epochs)
    assert history_of(tmp_path / "run") == history_of(steps[0])
    assert fit(data, tmp_path / "run", COSINE) == history_of(steps[0])


def test_weights_are_averaged_on_a_plateau_too(data, tmp_path):
    """And such a training goes on as well."""
    fields = {"average": 0.9, "scaling": "standard"}
    fit(data, tmp_path / "whole", epochs=3, **fields)
    for epochs in (1, 3):
        fit(data, tmp_path / "parts", epochs=epochs, **fields)
    assert_same_training(tmp_path / "parts", tmp_path / "whole")
    rows = history_of(tmp_path / "whole")
    found = measured(tmp_path / "whole" / KEPT, data[1], "standard")
    assert found == pytest.approx({name: rows[-1][name] for name in found}, abs=1e-5)


def test_averaging_does_not_change_the_steps(data, steps, tmp_path):
    """Validation runs with the average in place; the training goes on with its own weights."""
    fit(data, tmp_path, COSINE, average=0.0)
    assert_same_arrays(weights(tmp_path / LAST), weights(steps[0] / LAST))


def test_training_shorter_than_ten_steps_has_no_warm_up(data, tmp_path):
    rows = fit(data, tmp_path, COSINE, epochs=1, batch_size=len(data[0].labels))
    assert np.isfinite([rows[0]["loss"], rows[0]["val_loss"]]).all()
    assert rows[0]["learning_rate"] == pytest.approx(COSINE.learning_rate / 100, rel=1e-3)


# --- the decay of weights ---------------------------------------------------------------------------------------


def test_adamw_without_decay_is_adam(data, tmp_path):
    """Keras's AdamW decays by 0.004 unless it is told not to."""
    for name in ("adamw", "adam"):
        fit(data, tmp_path / name, COSINE, optimizer=name, weight_decay=0.0, epochs=1)
    assert_same_arrays(weights(tmp_path / "adamw" / LAST), weights(tmp_path / "adam" / LAST))


def test_decay_draws_weights_towards_nothing(data, tmp_path):
    norms = []
    for decay in (0.0, 1.0):
        fit(data, tmp_path / str(decay), COSINE, weight_decay=decay, epochs=1, learning_rate=0.02)
        norms.append(sum(float(np.square(array).sum()) for array in kernels(tmp_path / str(decay))))
    assert norms[1] < 0.9 * norms[0]


def kernels(folder: Path) -> list[np.ndarray]:
    return [array for array in weights(folder / LAST) if array.ndim > 1]


# --- early stopping, turns, channels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "patience", "ended"),
    [
        ([], 1, False),
        ([1.0], 1, False),
        ([1.0, 2.0], 1, True),
        ([1.0, 2.0], 2, False),
        ([1.0, 2.0, 3.0], 2, True),
        ([3.0, 2.0, 1.0], 1, False),
        ([1.0, 1.0], 1, True),
        ([1.0, 2.0, 3.0], 0, False),
    ],
)
def test_a_training_ends_after_so_many_epochs_without_a_lower_loss(losses, patience, ended):
    assert has_ended([{"val_loss": loss} for loss in losses], patience) is ended


def test_early_stopping_stops_and_stays_stopped(data, tmp_path):
    # A rate at which the loss soon rises.
    recipe = dataclasses.replace(TINY, early_stopping=1, epochs=12, learning_rate=0.3, schedule="constant")
    history = fit(data, tmp_path, recipe)
    assert 2 <= len(history) < 12
    losses = [row["val_loss"] for row in history]
    assert losses[-1] >= min(losses[:-1])
    assert all(after < before for before, after in pairwise(losses[:-1]))
    assert [row["learning_rate"] for row in history] == pytest.approx([0.3] * len(history))
    assert fit(data, tmp_path, recipe) == history


def test_classes_take_turns():
    labels = np.array([0] * 3 + [1] * 9, np.uint8)
    balanced = balance("batches", np.zeros((12, 2, 2), np.uint8), labels, 0)
    assert balanced.class_weights is None
    order = balanced.order(np.random.default_rng(1))
    assert labels[order].tolist() == [0, 1] * 6
    assert np.bincount(order, minlength=12)[:3].tolist() == [2, 2, 2], "the fewer are seen equally often"
    assert np.bincount(order, minlength=12)[3:].max() == 1
    assert order.tolist() != balanced.order(np.random.default_rng(2)).tolist()
    assert order.tolist() == balanced.order(np.random.default_rng(1)).tolist()


def test_a_gray_image_comes_as_often_as_the_network_has_channels(data, tmp_path):
    recipe = dataclasses.replace(PLAIN, filters=(), epochs=1, scaling="byte", balance="batches")
    balanced = Balanced(data[0].pixels, data[0].labels)
    inputs, _ = next(batches(balanced, recipe, 0, None, 3))
    assert inputs.shape == (4, SIZE, SIZE, 3)
    assert np.ptp(inputs, axis=-1).max() == 0
    assert inputs.max() > 1
    fit(data, tmp_path, recipe, "dense_32_8")
    assert keras.saving.load_model(tmp_path / KEPT).input_shape == (None, SIZE, SIZE, 3)


def test_a_training_draws_by_its_weights(data, tmp_path, monkeypatch):
    """Where one image of each class has all the weight, no other is seen."""
    labels = data[0].labels
    chosen = [int(np.flatnonzero(labels == label)[-1]) for label in (0, 1)]
    weights = np.zeros(len(labels))
    weights[chosen] = 0.5
    seen = []
    original = Balanced.order

    def order(balanced: Balanced, generator: np.random.Generator) -> np.ndarray:
        seen.append(original(balanced, generator))
        return seen[-1]

    monkeypatch.setattr(Balanced, "order", order)
    weighted = dataclasses.replace(data[0], weights=weights), data[1]
    fit(weighted, tmp_path / "all", epochs=1, balance="batches", matching=1.0)
    assert len(seen) >= 1
    assert set(np.concatenate(seen).tolist()) == set(chosen)
    seen.clear()
    fit(weighted, tmp_path / "half", epochs=1, balance="batches", matching=0.5)
    assert len(set(np.concatenate(seen).tolist())) > len(labels) / 4
    with pytest.raises(TrainingError, match="needs the weights of the training images; received none"):
        fit(data, tmp_path / "none", epochs=1, balance="batches", matching=0.5)
