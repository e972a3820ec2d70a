"""A network that is to be right for the right reasons finds its evidence in the lungs."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from training.augment import Augmentation
from training.balance import Balanced, Images
from training.errors import TrainingError
from training.recipes import Distilled, Robust

load_tensorflow()
import keras  # noqa: E402
from keras import ops  # noqa: E402

from pneumo.probe import compile_integrated, compile_logit  # noqa: E402
from pneumo.zoo import ARCHITECTURES, build  # noqa: E402
from training.devices import slope  # noqa: E402
from training.feed import Teacher, batches  # noqa: E402
from training.fit import KEPT, compiled_twin, train  # noqa: E402
from training.reasons import Reasons, reasoning, side  # noqa: E402

SMALL = {"input_size": 32, "filters": (4, 4, 4, 4, 4), "epochs": 1, "batch_size": 8}


def test_slope_is_the_gradient_and_can_be_learnt_by():
    import tensorflow as tf

    values = tf.constant([[1.0, 2.0], [3.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = slope(lambda given: ops.sum(given**3, axis=1), values)
    np.testing.assert_allclose(found, 3 * values**2)
    np.testing.assert_allclose(tape.gradient(found, values), 6 * values)


@pytest.mark.parametrize("size", [32, 45, 112, 150])
def test_the_places_are_those_of_the_third_block(size):
    rows, columns = build("cnn", size, SMALL["filters"]).get_layer("conv3").input.shape[1:3]
    assert (rows, columns) == (side(size), side(size))


def asked(inside: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, float]:
    """What the layer puts out and adds to the loss, where the logit is each place of the input times its gain."""
    inputs = np.random.default_rng(0).uniform(1, 2, (len(inside), *gain.shape, 1)).astype(np.float32)
    layer = Reasons(0.5, lambda values: values, lambda values: ops.sum(values[..., 0] * gain, axis=(1, 2)))
    output = np.arange(len(inside), dtype=np.float32)[:, np.newaxis]
    found = layer([output, inputs, ops.convert_to_tensor(inputs), inside.astype(np.float32)], training=True)
    np.testing.assert_array_equal(found, output)
    (loss,) = layer.losses
    heat = np.maximum(cv2.resize(inputs[0, ..., 0] * gain, (2, 2), interpolation=cv2.INTER_AREA), 0)
    return heat / max(heat.sum(), 1e-6), float(loss)


def test_what_costs_is_the_share_outside_of_the_images_that_are_known():
    upper, everywhere, unknown = np.zeros((4, 4)), np.ones((4, 4)), np.zeros((4, 4))
    upper[:2] = 1
    gain = np.array([[1, 2, 0, 1], [2, 1, 1, 1], [3, 1, -9, 1], [1, 1, 1, 1]], np.float32)
    heat, loss = asked(np.stack([unknown, upper]), gain)
    # The right lower cell speaks against pneumonia as a whole, which is no evidence.
    assert heat[1, 1] == 0
    assert 0 < loss < 0.5
    heat, loss = asked(np.stack([upper]), gain)
    assert loss == pytest.approx(0.5 * heat[1].sum(), abs=1e-6)
    assert asked(np.stack([everywhere, everywhere]), gain)[1] == 0
    assert asked(np.stack([unknown, unknown]), gain)[1] == 0
    assert asked(np.stack([upper]), -np.abs(gain))[1] == 0, "what is no evidence lies nowhere"


def test_nothing_is_asked_where_nothing_is_trained():
    plain = build("cnn", 32, SMALL["filters"])
    model = reasoning(plain, plain, 1.0)
    pixels, inside = np.ones((2, 32, 32, 1), np.float32), np.ones((2, 8, 8), np.float32)
    np.testing.assert_array_equal(model([pixels, inside], training=False), plain(pixels))
    assert not model.losses
    assert [weight.path for weight in model.weights] == [weight.path for weight in plain.weights]


def test_batches_tell_where_the_lungs_are_of_what_shows_pneumonia():
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (8, 32, 32, 2), np.uint8)
    recipe = Distilled(**SMALL, augmentation=Augmentation(blind=0.5), reasons=1.0, imitation=1.0)
    labels = np.arange(8, dtype=np.uint8) % 2
    order = Balanced(images, labels).order(np.random.default_rng((0, 0)))
    shape = (2, 2, 3)
    teacher = Teacher(lambda seen: (np.ones((len(seen), 1), np.float32), np.ones((len(seen), *shape))), 32, shape, "")
    (pixels, maps, inside), targets = next(batches(Balanced(images, labels), recipe, 0, teacher))
    assert (pixels.shape, maps.shape, inside.shape) == ((8, 32, 32, 1), (8, 2, 2, 3), (8, 8, 8))
    assert inside.dtype == np.float32
    told = inside.any(axis=(1, 2))
    blind = targets[:, 0] == 0.5
    assert np.array_equal(told, (labels[order] == 1) & ~blind)
    assert 0 < told.sum() < (labels == 1).sum()
    # Without a transform the images are shown as they are.
    plain = Robust(**SMALL, augmentation=Augmentation(), reasons=1.0)
    (_, inside), _ = next(batches(Balanced(images, labels), plain, 0))
    means = images[order, ..., 1].reshape(8, 8, 4, 8, 4).mean(axis=(2, 4)) / 255
    assert inside[labels[order] == 1] == pytest.approx(means[labels[order] == 1], abs=0.003)


@pytest.mark.parametrize("network", ARCHITECTURES)
def test_evidence_moves_into_the_lungs(network, tmp_path):
    """Two equal signs of illness, one in the lungs and one beside: with reasons, the one in the lungs decides."""
    generator = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.uint8) % 2
    images = generator.integers(90, 110, (64, 32, 32, 2)).astype(np.uint8)
    images[labels == 1, 8:16, 4:12, 0] += 60
    images[labels == 1, 8:16, 20:28, 0] += 60
    images[..., 1] = 0
    images[:, :, :16, 1] = 255
    fields = SMALL | {"epochs": 12, "filters": (8, 8, 8, 8, 8), "learning_rate": 5e-3}
    shares = {}
    for reasons in (0.0, 10.0):
        recipe = Robust(**fields, balance="batches", augmentation=Augmentation(blind=0.01), reasons=reasons)
        folder = tmp_path / str(reasons)
        train(network, recipe, Images(images, labels), Images(images[..., 0], labels), folder)
        model = keras.saving.load_model(folder / KEPT)
        assert model.count_params() == build(network, 32, recipe.filters).count_params()
        shown = images[..., 0].astype(np.float32)
        shown = (shown - shown.mean(axis=(1, 2), keepdims=True)) / shown.std(axis=(1, 2), keepdims=True)
        logits = compile_logit(model)(shown[..., np.newaxis])
        assert logits[labels == 1].min() > logits[labels == 0].max()
        heat = np.maximum(compile_integrated(model, "conv3", "conv5")(shown[labels == 1][..., np.newaxis]), 0)
        shares[reasons] = heat[:, :, :4].sum() / heat.sum()
    assert shares[10.0] > max(0.8, shares[0.0] + 0.1)


def test_a_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    generator = np.random.default_rng(0)
    images = Images(generator.integers(0, 256, (16, 32, 32, 2), np.uint8), np.arange(16, dtype=np.uint8) % 2)
    held_out = Images(images.pixels[..., 0], images.labels)
    fields = SMALL | {"epochs": 3, "schedule": "constant", "reasons": 1.0}
    whole = train("cnn", Robust(**fields), images, held_out, tmp_path / "whole")
    train("cnn", Robust(**fields | {"epochs": 1}), images, held_out, tmp_path / "parts")
    parts = train("cnn", Robust(**fields), images, held_out, tmp_path / "parts")
    drop = [{name: value for name, value in row.items() if name != "seconds"} for row in (*whole, *parts)]
    assert drop[:3] == drop[3:]
    assert json.loads((tmp_path / "parts" / "history.json").read_text())[2]["loss"] == whole[2]["loss"]


def test_a_network_without_five_blocks_is_refused():
    with pytest.raises(TrainingError, match=r"is for cnn, cnn_lstm, cnn_rnn; received cnn_small. Set reasons=0."):
        compiled_twin(build("cnn_small"), Robust(reasons=1.0), 1)
