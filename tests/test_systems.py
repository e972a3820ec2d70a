"""One battery over every system of the reports: each is built at its own size, with random weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pneumo.backend import load_tensorflow
from pneumo.errors import UnknownNameError
from pneumo.zoo import ARCHITECTURES, SYSTEMS, architecture, build

load_tensorflow()
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

# Input, parameters, and those that training changes where they are fewer, as the reports count them.
EXPECTED = {
    "dense_64_32": ((128, 128, 3), 3_147_905, None),
    "cnn_small": ((128, 128, 3), 49_057, None),
    "cnn_dropout": ((128, 128, 3), 859_265, None),
    "cnn_dropout_l2": ((128, 128, 3), 859_265, None),
    "cnn_deep": ((128, 128, 3), 1_192_385, None),
    "cnn_l1_l2": ((128, 128, 3), 393_889, None),
    "vgg19_frozen": ((64, 64, 3), 20_024_384 + 270_601, 270_601),
    "dense_32_8": ((64, 64, 3), 393_521, None),
    "dense_32_8_l2": ((64, 64, 3), 393_521, None),
    "cnn_64": ((64, 64, 3), 183_393, None),
    "cnn_64_augmented": ((64, 64, 3), 183_393, None),
    "resnet50_frozen": ((64, 64, 3), 25_685_377, 2_097_665),
    "cnn_single": ((150, 150, 3), 355_425, None),
    "cnn_two": ((150, 150, 3), 42_553_025, None),
    "cnn_bn": ((150, 150, 3), 9_598_913, 9_597_697),
    "cnn_bn_deep": ((150, 150, 3), 6_948_033, 6_945_537),
    "vgg16_512": ((150, 150, 3), 18_910_017, 4_195_329),
    "vgg16_256_128": ((150, 150, 3), 16_847_169, 2_131_457),
    "vgg16_512_256_128": ((150, 150, 3), 19_075_905, 4_360_193),
    # The report's base counts 7 values fewer in its normalisation of the input than Keras's.
    "efficientnet_b0": ((224, 224, 3), 5_843_589 + 7, 513_025),
    "densenet121": ((224, 224, 3), 7_038_529, 167_169),
    "chexnet": ((224, 224, 3), 7_051_869, 180_509),
    "mobilenet": ((224, 224, 3), 4_279_489, 1_052_673),
    "resnet152v2": ((224, 224, 3), 60_430_849, 2_103_297),
    "custom_cnn": ((224, 224, 3), 980_289, 979_329),
    "efficientnet_lite0": ((224, 224, 1), 3_413_729, 3_371_713),
}
PENALISED = {
    "cnn_dropout_l2": {"conv2", "conv3", "dense1"},
    "cnn_l1_l2": {"conv2", "conv3", "conv4", "dense1", "dense2"},
    "dense_32_8_l2": {"dense1", "dense2"},
    "vgg16_512": {"dense1"},
    "vgg16_256_128": {"dense1", "dense2"},
    "vgg16_512_256_128": {"dense1", "dense2", "dense3"},
}


@pytest.fixture(scope="module", params=EXPECTED)
def network(request) -> keras.Model:
    """Each system in turn, at its full size, with fresh weights."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    return build(request.param)


@pytest.fixture(scope="module")
def inputs(network) -> np.ndarray:
    """Two images of noise on a slope, as the network takes them."""
    _, side, _, channels = network.input_shape
    noise = np.random.default_rng(0).random((2, side, side, 1), np.float32)
    values = (noise + np.linspace(0, 1, side, dtype=np.float32)[:, np.newaxis]) / 2
    return np.repeat(values, channels, axis=-1) * (255 if network.name == "efficientnet_b0" else 1)


REPEATED = {"resnet152v2": "resnet50_frozen", "chexnet": "densenet121", "vgg19_frozen": "vgg16_512"}
"""Large networks whose saving is tried with a smaller one."""


def count(variables) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def test_registry():
    assert set(SYSTEMS) == set(ARCHITECTURES) | set(EXPECTED)
    assert len({design.title for design in SYSTEMS.values()}) == len(SYSTEMS)
    for name, design in SYSTEMS.items():
        assert design.name == name
        assert architecture(name) is design


def test_parameters(network):
    shape, parameters, trainable = EXPECTED[network.name]
    design = architecture(network.name)
    assert network.input_shape == (None, *shape) == (None, design.input_size, design.input_size, design.channels)
    assert network.output_shape == (None, 1)
    assert network.count_params() == parameters == design.parameters
    assert count(network.trainable_weights) == (trainable or parameters) == design.trainable


def test_is_functional_and_flat(network):
    assert isinstance(network, keras.Model)
    assert not isinstance(network, keras.Sequential)
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)


def test_feature_layers_exist_from_fine_to_coarse(network):
    names = architecture(network.name).features
    sides = [network.get_layer(name).output.shape[1] for name in names]
    assert sides == sorted(sides, reverse=True)
    convolutions = [layer.output.shape[1] for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    # The map of class activation maps is as coarse as the last convolution.
    assert (sides[-1] == convolutions[-1]) if convolutions else (names == ("radiograph",))


def test_penalties(network):
    found = {layer.name for layer in network.layers if getattr(layer, "kernel_regularizer", None)}
    assert found == PENALISED.get(network.name, set())
    for name in found:
        penalty = network.get_layer(name).kernel_regularizer
        assert (float(penalty.l1), float(penalty.l2)) == pytest.approx(
            (0.01 if network.name == "cnn_l1_l2" else 0, 0.01)
        )


def test_one_training_step_reaches_every_trainable_weight_and_no_other(network, inputs):
    labels = np.array([[0], [1]], np.float32)
    frozen = [variable.numpy() for variable in network.non_trainable_weights if "moving" not in variable.path]
    with tf.GradientTape() as tape:
        output = network(inputs, training=True)
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(labels, output)) + sum(network.losses)
    assert np.isfinite(output).all()
    variables = network.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
    assert any(np.any(gradient != 0) for gradient in gradients)
    before = [variable.numpy() for variable in variables]
    keras.optimizers.SGD(0.1).apply(gradients, variables)
    assert any(np.any(variable.numpy() != old) for variable, old in zip(variables, before, strict=True))
    after = [variable.numpy() for variable in network.non_trainable_weights if "moving" not in variable.path]
    assert all(np.array_equal(old, new) for old, new in zip(frozen, after, strict=True))


def test_saved_weights_give_equal_answers(network, inputs, tmp_path):
    if network.name in REPEATED:
        pytest.skip(f"{REPEATED[network.name]} has the same layers, and fewer of them")
    path = tmp_path / "network.keras"
    network.save(path)
    expected = network(inputs, training=False)
    fresh = build(network.name)
    assert np.any(fresh(inputs, training=False) != expected)
    fresh.load_weights(path)
    np.testing.assert_array_equal(fresh(inputs, training=False), expected)


@pytest.mark.parametrize("name", ["cnn_64", "mobilenet", "efficientnet_lite0"])
def test_filters_are_those_of_the_architecture(name):
    with pytest.raises(UnknownNameError, match=f"of cnn, cnn_lstm, cnn_rnn; received .* for {name}. Leave them out"):
        build(name, 64, (2, 2, 2, 2, 2))


@pytest.mark.parametrize("name", ["cnn_64", "cnn_bn", "densenet121", "efficientnet_lite0"])
def test_other_sizes(name):
    assert build(name, 96).input_shape == (None, 96, 96, architecture(name).channels)
